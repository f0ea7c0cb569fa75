"""``registry migrate-s3-storage``: exit codes, one document, a table, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog.testing

from registry.cli.main import run
from registry.cli.output import ExitCode
from registry.config.settings import Settings
from registry.storage.driver import StorageDriver
from registry.storage.errors import StorageUnavailable, StoreMisconfigured
from registry.storage.memory import MemoryDriver
from registry.storage.middleware.faults import Fault, FaultyDriver
from registry.storage.middleware.metrics import MeasuredDriver, Observe
from tests.support.source_world import (
    BLOBS,
    FIRST,
    MANIFESTS,
    Tree,
    distribution,
    fill,
    ours,
    path,
    per_repository,
    repositories,
)

COMMAND = ["migrate-s3-storage", "--config", "config.json"]
Bucket = Callable[..., StorageDriver]


@pytest.fixture(autouse=True)
def own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("registry.observability.logs.configure_logging", lambda *_arguments: None)
    storage = {"driver": "s3", "root_directory": "zot", "s3": {"bucket": "images"}}
    Path("config.json").write_text(json.dumps({"storage": storage}))


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """Makes a tree what the configuration names."""

    def place(tree: Tree, *faults: Fault, error: Exception | None = None) -> StorageDriver:
        driver = MemoryDriver()
        fill(driver, tree)

        def open_it(_settings: Settings, observe: Observe) -> StorageDriver:
            if error is not None:
                raise error
            return MeasuredDriver(FaultyDriver(driver, faults), observe)

        monkeypatch.setattr("registry.migration.source.bucket.open_driver", open_it)
        return driver

    return place


def test_a_healthy_bucket_is_exit_code_zero_and_one_document(
    bucket: Bucket, capsys: pytest.CaptureFixture[str]
) -> None:
    bucket(per_repository(repositories()))
    assert run([*COMMAND, "--dry-run", "--json"]) == ExitCode.DONE
    printed = capsys.readouterr()
    assert printed.err == ""
    document = json.loads(printed.out)
    assert document["bucket"] == "images"
    assert document["counts"]["repositories"] == 3
    assert document["problems"] == []


def test_problems_are_exit_code_one_and_the_plan_is_written_all_the_same(
    bucket: Bucket, capsys: pytest.CaptureFixture[str]
) -> None:
    tree = per_repository(repositories())
    del tree[f"app/blobs/{path(FIRST.digest)}"]
    bucket(tree)
    assert run([*COMMAND, "--dry-run", "--plan", "plan", "--rate", "50"]) == ExitCode.PROBLEMS
    out = capsys.readouterr().out
    assert "missing-blob: 1" in out
    assert FIRST.digest[7:] in out
    assert "The plan is in plan." in out
    assert json.loads(Path("plan").read_bytes().splitlines()[0])["counts"]["tags"] == 5


def test_the_table_has_all_figures_of_the_document(bucket: Bucket, capsys: pytest.CaptureFixture[str]) -> None:
    bucket(per_repository(repositories(), stubs=False) | {"app/.uploads/1": b"half"})
    assert run([*COMMAND, "--dry-run", "--verify", "full", "--rate", "5"]) == ExitCode.DONE
    out = capsys.readouterr().out
    rows = ("repositories", "duplicates, and what they waste", "stays: uploads", "adopt, a pass", "consolidate")
    for row in (*rows, "finalize", "once adopted", "once consolidated", "No problems."):
        assert row in out
    assert max(map(len, out.splitlines())) < 200


def test_only_the_first_problems_of_a_kind_are_shown(bucket: Bucket, capsys: pytest.CaptureFixture[str]) -> None:
    bucket(per_repository(repositories()) | {f"odd-{number:02}/x": b"" for number in range(14)})
    assert run([*COMMAND, "--dry-run"]) == ExitCode.PROBLEMS
    out = capsys.readouterr().out
    assert "unknown-object: 14" in out
    assert "and 4 more" in out
    assert run([*COMMAND, "--dry-run", "--json"]) == ExitCode.PROBLEMS
    assert len(json.loads(capsys.readouterr().out)["problems"]) == 14


@pytest.fixture
def honest(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The store honours conditions; the one that the configuration names is not asked. Logs do not go to stdout."""
    monkeypatch.setattr("registry.cli.migrate.probe_store", lambda _settings: True)
    with structlog.testing.capture_logs():
        yield


def outcome(capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, dict[str, Any]]:
    """Of a command with ``--json``."""
    capsys.readouterr()
    code = run([*COMMAND, *options, "--json"])
    return code, json.loads(capsys.readouterr().out)


@pytest.mark.usefixtures("honest")
def test_a_run_adopts_and_its_status_is_told(bucket: Bucket, capsys: pytest.CaptureFixture[str]) -> None:
    driver = bucket(per_repository(repositories(), prefix="zot/"))
    assert outcome(capsys, "--status")[1]["state"] == "none"
    assert run([*COMMAND, "--adopt-only", "--rate", "100000", "--parallel", "2"]) == ExitCode.DONE
    out = capsys.readouterr().out
    assert out.splitlines() == ["state: adopted", "taken: 3", "No problems."]
    code, document = outcome(capsys, "--adopt-only")
    assert (code, document["state"], document["problems"], document["changed"]) == (0, "adopted", [], [])
    code, document = outcome(capsys, "--status")
    assert (code, document["migration"], document["passes"], document["taken"]) == (0, "0001", 2, 3)
    assert run([*COMMAND, "--status"]) == ExitCode.DONE
    assert "state: adopted" in capsys.readouterr().out
    assert driver.read("app/index.json", max_bytes=9999)


@pytest.mark.usefixtures("honest")
def test_a_run_with_problems_is_exit_code_one_and_the_rest_is_done(
    bucket: Bucket, capsys: pytest.CaptureFixture[str]
) -> None:
    tree = per_repository(repositories())
    del tree[f"app/blobs/{path(FIRST.digest)}"]
    bucket(tree)
    assert run([*COMMAND, "--adopt-only"]) == ExitCode.PROBLEMS
    out = capsys.readouterr().out
    assert "state: adopted" in out
    assert "missing-blob: 1" in out


@pytest.mark.usefixtures("honest")
def test_a_pass_that_was_not_quiet_is_exit_code_three_with_the_names(
    bucket: Bucket, capsys: pytest.CaptureFixture[str]
) -> None:
    opened: list[StorageDriver] = []
    pushing = Fault("list", "", first=3, effect=lambda: fill(opened[-1], {"team/web/blobs/sha256/" + "ab" * 32: b"x"}))
    opened.append(bucket(per_repository(repositories()), pushing))
    code, document = outcome(capsys, "--adopt-only")
    assert (code, document["changed"], document["state"]) == (3, ["team/web"], "adopting")
    opened.append(bucket(per_repository(repositories()), pushing))
    assert run([*COMMAND, "--adopt-only"]) == ExitCode.REFUSED
    out = capsys.readouterr().out
    assert "has to be read-only" in out
    assert "  team/web" in out.splitlines()


@pytest.mark.usefixtures("honest")
def test_a_run_keeps_to_its_plan(bucket: Bucket, capsys: pytest.CaptureFixture[str]) -> None:
    driver = bucket(per_repository(repositories()))
    assert run([*COMMAND, "--dry-run", "--plan", "plan"]) == ExitCode.DONE
    driver.delete([key for key, _ in driver.list("team/web/nested")])
    code, document = outcome(capsys, "--plan", "plan", "--adopt-only")
    assert (code, document["error"], document["names"][0]) == (3, "refused", "team/web/nested: gone since")
    assert run([*COMMAND, "--plan", "plan", "--adopt-only"]) == ExitCode.REFUSED
    assert "\n  team/web/nested: gone since\n" in capsys.readouterr().err
    Path("plan").write_bytes(Path("plan").read_bytes()[:-20])
    code, document = outcome(capsys, "--plan", "plan", "--adopt-only")
    assert (code, document["problems"][0]["key"]) == (2, "--plan")


@pytest.mark.usefixtures("honest")
def test_a_bucket_is_migrated_and_rolled_back(bucket: Bucket, capsys: pytest.CaptureFixture[str]) -> None:
    tree = per_repository(repositories(), prefix="zot/")
    driver = bucket(tree)
    assert outcome(capsys, "--rollback")[0] == ExitCode.REFUSED
    code, document = outcome(capsys)
    assert (code, document["state"], document["counts"]["copied"]) == (0, "consolidated", len(BLOBS) + len(MANIFESTS))
    code, document = outcome(capsys, "--rollback", "--dry-run")
    assert (code, document["copied"], document["written"], document["losses"]) == (0, 0, 0, [])
    assert run([*COMMAND, "--rollback", "--dry-run"]) == ExitCode.DONE
    assert "copied inside the store: 0 blobs, 0 bytes" in capsys.readouterr().out
    assert outcome(capsys, "--rollback")[1]["state"] == "rolled-back"
    assert outcome(capsys, "--rollback")[0] == outcome(capsys, "--rollback", "--dry-run")[0] == ExitCode.DONE
    assert outcome(capsys, "--status")[1]["read_only"]
    assert {key: driver.read(key, max_bytes=1 << 20)[0] for key in tree} == tree
    assert outcome(capsys, "--finalize")[0] == ExitCode.REFUSED


@pytest.mark.usefixtures("honest")
def test_a_bucket_is_migrated_and_finalized(bucket: Bucket, capsys: pytest.CaptureFixture[str]) -> None:
    tree = per_repository(repositories(), prefix="zot/")
    driver = bucket(tree)
    assert outcome(capsys, "--adopt-only")[0] == ExitCode.DONE
    assert outcome(capsys, "--finalize")[0] == ExitCode.REFUSED
    assert outcome(capsys)[1]["state"] == "consolidated"
    code, document = outcome(capsys, "--finalize", "--dry-run")
    assert (code, document["objects"], document["stays"]) == (0, len(tree), [])
    assert run([*COMMAND, "--finalize", "--dry-run"]) == ExitCode.DONE
    assert f"deleted: {len(tree)} objects" in capsys.readouterr().out
    assert outcome(capsys, "--finalize")[1]["state"] == "finalized"
    assert [key for key, _ in driver.list("zot")] == []
    assert outcome(capsys)[1]["state"] == outcome(capsys, "--finalize")[1]["state"] == "finalized"
    assert outcome(capsys, "--rollback")[0] == ExitCode.REFUSED


@pytest.mark.usefixtures("honest")
def test_a_store_that_fails_is_exit_code_four_and_the_same_command_goes_on(
    bucket: Bucket, capsys: pytest.CaptureFixture[str]
) -> None:
    failures = iter([StorageUnavailable("", "away")])

    def fail() -> None:
        for error in failures:
            raise error

    bucket(per_repository(repositories()), Fault("write", "*", first=3, effect=fail))
    code, document = outcome(capsys, "--adopt-only")
    assert (code, document["error"]) == (4, "unfinished")
    assert outcome(capsys, "--adopt-only")[1]["state"] == "adopted"


@pytest.mark.parametrize(
    ("options", "flag"),
    [
        (["--status", "--dry-run"], "--status"),
        (["--status", "--plan", "plan"], "--plan"),
        (["--status", "--rollback"], "--finalize"),
        (["--rollback", "--finalize"], "--finalize"),
        (["--rollback", "--plan", "plan"], "--plan"),
        (["--rollback", "--adopt-only"], "--adopt-only"),
        (["--finalize", "--accept-loss"], "--accept-loss"),
        (["--finalize", "--dry-run", "--verify", "full"], "--verify"),
        (["--rollback", "--single-prefix"], "--single-prefix"),
        (["--adopt-only", "--dry-run"], "--adopt-only"),
        (["--verify", "full"], "--verify"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_options_that_exclude_each_other_are_a_mistake_of_usage(
    options: list[str], flag: str, bucket: Bucket, capsys: pytest.CaptureFixture[str]
) -> None:
    bucket(per_repository(repositories()))
    code, document = outcome(capsys, *options)
    assert (code, document["problems"][0]["key"]) == (2, flag)


def test_a_local_directory_is_refused_with_a_reason(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["migrate-s3-storage", "--dry-run"]) == ExitCode.USAGE
    assert capsys.readouterr().err.startswith("registry: storage.driver: a local directory already has the layout")


def test_a_bucket_without_a_registry_is_a_mistake_in_the_configuration(
    bucket: Bucket, capsys: pytest.CaptureFixture[str]
) -> None:
    bucket({"photos/1.jpg": b""})
    assert run([*COMMAND, "--dry-run", "--json"]) == ExitCode.USAGE
    (problem,) = json.loads(capsys.readouterr().out)["problems"]
    assert problem["key"] == "storage.root_directory"


def test_a_bucket_that_cannot_be_used_names_its_section(bucket: Bucket, capsys: pytest.CaptureFixture[str]) -> None:
    bucket({}, error=StoreMisconfigured("", "there is no such bucket"))
    assert run([*COMMAND, "--dry-run"]) == ExitCode.USAGE
    assert capsys.readouterr().err == "registry: storage.s3 (config.json): there is no such bucket\n"


def test_a_bucket_of_stowage_alone_has_nothing_to_migrate(bucket: Bucket, capsys: pytest.CaptureFixture[str]) -> None:
    bucket(ours())
    assert run([*COMMAND, "--dry-run"]) == ExitCode.DONE
    assert "nothing to migrate" in capsys.readouterr().out


def test_two_registries_in_one_bucket_are_refused(bucket: Bucket, capsys: pytest.CaptureFixture[str]) -> None:
    bucket(per_repository(repositories()) | distribution(repositories()))
    assert run([*COMMAND, "--dry-run", "--json"]) == ExitCode.REFUSED
    assert json.loads(capsys.readouterr().out)["error"] == "refused"


@pytest.mark.parametrize(
    "fault",
    [Fault("read", effect=StorageUnavailable), Fault("list", effect=lambda: (_ for _ in ()).throw(KeyboardInterrupt))],
    ids=["failed", "interrupted"],
)
def test_a_failing_store_and_an_interrupt_are_exit_code_four(
    fault: Fault, bucket: Bucket, capsys: pytest.CaptureFixture[str]
) -> None:
    bucket(per_repository(repositories()), fault)
    assert run([*COMMAND, "--dry-run", "--json", "--plan", "plan"]) == ExitCode.UNFINISHED
    assert json.loads(capsys.readouterr().out)["error"] == "unfinished"
    assert not Path("plan").exists()


def test_a_file_that_is_no_plan_is_left_alone_before_anything_is_asked(
    bucket: Bucket, capsys: pytest.CaptureFixture[str]
) -> None:
    bucket({}, error=AssertionError("the store was asked"))
    Path("notes").write_text("mine")
    assert run([*COMMAND, "--dry-run", "--plan", "notes"]) == ExitCode.USAGE
    assert "notes is there and is no plan of this command" in capsys.readouterr().err
    assert Path("notes").read_text() == "mine"


def test_no_database_is_made(bucket: Bucket, tmp_path: Path) -> None:
    bucket(per_repository(repositories()))
    assert run([*COMMAND, "--dry-run"]) == ExitCode.DONE
    assert {file.name for file in tmp_path.iterdir()} == {"config.json"}

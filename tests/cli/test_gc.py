"""``registry gc``: what it prints, what it frees, its exit codes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from registry.cli.main import run
from registry.cli.output import ExitCode
from registry.config.settings import Settings, load_settings
from registry.images.registry import Registry
from registry.maintenance.collection.survey.gc_state import meet
from tests.support.registry_world import ACTOR, NAME, Pushed, is_there, make_image, pull, push_image, tags

SOON: dict[str, Any] = {"gc": {"grace": 0, "lease": 0, "undelete_window": 0}}


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, in which the storage is."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(SOON))
    return tmp_path


@contextmanager
def opened(settings: Settings) -> Iterator[Registry]:
    found = Registry.open(settings)
    meet(found)
    yield found
    found.close()


@pytest.fixture
def gone(directory: Path) -> Pushed:
    """An image that was deleted, beside one that was not."""
    with opened(load_settings(directory / "config.json")) as registry:
        push_image(registry, "kept", "kept")
        image = push_image(registry, "gone", "gone")
        registry.manifests.delete(NAME, image.digest, actor=ACTOR)
        registry.fold_waiting()
    return image


def files(directory: Path) -> dict[str, int]:
    root = directory / "registry-data"
    return {path.name: path.stat().st_size for path in root.rglob("blobs/sha256/*")}


def collect(capsys: pytest.CaptureFixture[str], *options: str) -> dict[str, Any]:
    capsys.readouterr()
    assert run(["gc", "--config", "config.json", "--json", *options]) == ExitCode.DONE
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_runs_free_what_is_out_of_use_and_say_so(
    directory: Path, gone: Pushed, capsys: pytest.CaptureFixture[str]
) -> None:
    first = collect(capsys)
    assert first["removed"] == [] or {each["kind"] for each in first["removed"]} == {"trash"}
    assert {each["digest"] for each in first["waiting"]} == {gone.config.digest, gone.layer.digest}
    before = files(directory)
    dry = collect(capsys, "--dry-run")
    assert files(directory) == before
    second = collect(capsys)
    assert dry["removed"] == second["removed"]
    assert dry["bytes"] == second["bytes"] == len(gone.config.data) + len(gone.layer.data)
    assert second["objects"] == 2
    assert sum(before.values()) - sum(files(directory).values()) == second["bytes"]
    assert all(each.keys() == {"kind", "digest", "repository", "reason", "bytes"} for each in second["removed"])
    with opened(Settings()) as registry:
        pull(registry, "kept")


def test_without_json_it_is_lines_for_a_person(
    directory: Path, gone: Pushed, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["gc", "--config", "config.json"]) == ExitCode.DONE
    assert "waiting: 2" in capsys.readouterr().out
    assert run(["garbage-collect", "--config", "config.json", "--dry-run"]) == ExitCode.DONE
    said = capsys.readouterr().out
    assert f"blob {gone.layer.digest} in {NAME}, {len(gone.layer.data)} bytes: no manifest" in said
    assert "would be removed: 2 objects" in said


def test_beside_a_lost_database_nothing_goes(directory: Path, gone: Pushed, capsys: pytest.CaptureFixture[str]) -> None:
    collect(capsys)
    before = files(directory)
    for path in (directory / "registry-data").rglob("*.db*"):
        path.unlink()
    for path in directory.glob("*.db*"):
        path.unlink()
    assert run(["gc", "--config", "config.json", "--json"]) == ExitCode.REFUSED
    said = json.loads(capsys.readouterr().out)
    assert said["error"] == "refused"
    assert "registry rebuild" in said["message"]
    assert files(directory) == before
    assert run(["rebuild", "--config", "config.json", "--json"]) == ExitCode.DONE
    capsys.readouterr()
    collect(capsys)
    with opened(Settings()) as registry:
        pull(registry, "kept")


def test_bytes_with_a_name_elsewhere_are_not_counted_as_free(
    directory: Path, gone: Pushed, capsys: pytest.CaptureFixture[str]
) -> None:
    """Check 18 of lifecycle.md, section 7."""
    with opened(load_settings(directory / "config.json")) as registry:
        other = push_image(registry, "gone", "v1", name="team/other")
        registry.manifests.delete("team/other", other.digest, actor=ACTOR)
        registry.fold_waiting()
    backup = directory / "backup"
    backup.mkdir()
    for path in (directory / "registry-data").rglob("blobs/sha256/*"):
        if path.name not in {each.name for each in backup.iterdir()}:
            (backup / path.name).hardlink_to(path)
    collect(capsys)
    dry = collect(capsys, "--dry-run")
    assert dry["bytes"] == 0
    assert dry["objects"] == 4
    for path in backup.iterdir():
        path.unlink()
    dry = collect(capsys, "--dry-run")
    assert dry["bytes"] == len(gone.config.data) + len(gone.layer.data), "once, although two names go"
    assert collect(capsys)["removed"] == dry["removed"]


def test_the_trash_is_emptied_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"gc": {"lease": 0}, "log": {"audit": {"file": "audit.log"}}}))
    with opened(load_settings(tmp_path / "config.json")) as registry:
        kept = push_image(registry, "kept", "kept")
        made = push_image(registry, "gone", "gone")
        registry.manifests.delete(NAME, made.digest, actor=ACTOR)
        registry.fold_waiting()
    assert collect(capsys, "--empty-trash", "team/other")["removed"] == []
    dry = collect(capsys, "--empty-trash", NAME, "--dry-run")
    done = collect(capsys, "--empty-trash", NAME)
    assert dry["removed"] == done["removed"]
    assert done["bytes"] == sum(len(each.data) for each in (made.manifest, made.config, made.layer))
    assert files(tmp_path).keys() == {
        each.digest.partition(":")[2] for each in (kept.manifest, kept.config, kept.layer)
    }
    events = [json.loads(line) for line in (tmp_path / "audit.log").read_text().splitlines()]
    assert [(each["event"], each["repository"]) for each in events] == [
        ("trash-emptied", "team/other"),
        ("trash-emptied", NAME),
    ], "a dry run is none"
    assert run(["gc", NAME]) == ExitCode.USAGE
    assert "--empty-trash" in capsys.readouterr().err
    assert run(["gc", "--empty-trash", "No"]) == ExitCode.USAGE


def test_an_empty_repository_is_told_by_its_name(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with opened(load_settings(directory / "config.json")) as registry:
        image = push_image(registry, "gone", "gone")
        registry.manifests.delete(NAME, image.digest, actor=ACTOR)
        registry.fold_waiting()
    for _ in range(10):
        dry = collect(capsys, "--dry-run")
        if any(each["kind"] == "repository" for each in dry["removed"]):
            break
        collect(capsys)
    assert [each | {"reason": ""} for each in dry["removed"]] == [
        {"kind": "repository", "repository": NAME, "reason": "", "bytes": 0}
    ]
    assert run(["gc", "--config", "config.json"]) == ExitCode.DONE
    said = capsys.readouterr().out
    assert f"repository {NAME}, 0 bytes: it has been empty for gc.grace" in said
    assert "removed: 0 objects, 0 bytes" in said
    assert run(["history", NAME, "--config", "config.json"]) == ExitCode.DONE
    assert "delete" in capsys.readouterr().out


def test_what_of_a_mirror_was_not_pulled_for_long_goes(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mirror = {"name": "hub", "prefix": "docker.io", "url": ["https://hub.example.org"], "unused_after": 0}
    sections = {**SOON, "retention": {"pull_interval": 0}, "mirrors": [mirror]}
    (directory / "config.json").write_text(json.dumps(sections))
    here, made = "docker.io/library/app", make_image("theirs")
    with opened(load_settings(directory / "config.json")) as registry:
        registry.pulls.flush()
        push_image(registry, "ours", "v1")
        manifest = made.manifest
        put = registry.manifests.put_mirrored
        put(here, manifest.data, manifest.media_type, digest=made.digest, tags=("v1",))
        registry.fold_waiting()
    tag = {"kind": "tag", "digest": str(made.digest), "key": "v1", "repository": here, "reason": "unused", "bytes": 0}
    assert collect(capsys, "--dry-run")["removed"] == [tag]
    assert run(["gc", "--config", "config.json", "--dry-run"]) == ExitCode.DONE
    assert f"tag v1 in {here}, 0 bytes: unused\n" in capsys.readouterr().out
    assert collect(capsys)["removed"] == [tag]
    kinds = {each["kind"] for each in collect(capsys)["removed"]}
    assert kinds == {"manifest"}
    with opened(load_settings(directory / "config.json")) as registry:
        assert tags(registry) == ["v1"]
        assert not is_there(registry, made.manifest, here)

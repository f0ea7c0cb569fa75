"""``registry purge``: what it prints and its exit codes; and that it is audited."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from registry.cli.main import run
from registry.cli.output import ExitCode
from registry.config.settings import Settings
from registry.images.registry import Registry
from tests.support.registry_world import NAME, Pushed, push_image, tags

OTHER = "other/app"


@pytest.fixture
def pushed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pushed:
    """An image with the tag v1, and another one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"log": {"audit": {"file": "audit.log"}}}))
    registry = Registry.open(Settings())
    made = push_image(registry, "one", "v1")
    push_image(registry, "two", "v2")
    registry.fold_waiting()
    registry.close()
    return made


def purge(*options: str) -> int:
    return run(["purge", *options, "--config", "config.json"])


def document(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


def test_a_tag_is_purged_and_that_is_audited(pushed: Pushed, capsys: pytest.CaptureFixture[str]) -> None:
    assert purge(f"{NAME}:v1", "--json") == ExitCode.DONE
    found = document(capsys)
    digests = {pushed.manifest.digest, pushed.config.digest, pushed.layer.digest}
    assert (found["manifests"], set(found["removed"])) == ([pushed.manifest.digest], digests)
    assert (found["kept"], found["unreachable"], found["unfinished"], found["signed_urls"]) == ([], [], [], 0)
    registry = Registry.open(Settings())
    assert tags(registry) == ["v2"]
    registry.close()
    [line] = [json.loads(line) for line in Path("audit.log").read_text().splitlines()]
    assert (line["event"], line["repository"], line["digest"]) == ("purge", NAME, pushed.manifest.digest)
    assert run(["restore", NAME]) == ExitCode.USAGE


def test_what_stays_is_listed_and_the_exit_code_says_so(pushed: Pushed, capsys: pytest.CaptureFixture[str]) -> None:
    registry = Registry.open(Settings())
    push_image(registry, "one", "v1", name=OTHER)
    registry.close()
    assert purge(f"{NAME}@{pushed.manifest.digest}") == ExitCode.PROBLEMS
    said = capsys.readouterr().out
    assert f"purged {pushed.manifest.digest}" in said
    assert f"kept {pushed.layer.digest}: other repositories have it, or can restore it ({OTHER})" in said
    assert purge(f"{OTHER}:v1", "--everywhere", "--json") == ExitCode.DONE
    assert len(document(capsys)["removed"]) == 3


def test_a_dry_run_changes_nothing_and_the_run_does_what_it_said(
    pushed: Pushed, capsys: pytest.CaptureFixture[str]
) -> None:
    assert purge(f"{NAME}:v1", "--dry-run") == ExitCode.DONE
    said = capsys.readouterr().out
    assert f"would remove the tag {NAME}:v1" in said
    assert f"would purge {pushed.manifest.digest}" in said
    assert f"would delete {NAME}/blobs/{pushed.layer.digest.replace(':', '/')}" in said
    assert purge(f"{NAME}:v1", "--dry-run", "--json") == ExitCode.DONE
    preview = document(capsys)
    assert not Path("audit.log").exists() or not Path("audit.log").read_text()
    assert purge(f"{NAME}:v1", "--json") == ExitCode.DONE
    assert document(capsys) == preview


@pytest.mark.parametrize("reference", [NAME, f"{NAME}:gone", f"{NAME}:v1@3", f"gone/app@sha256:{'0' * 64}"])
def test_a_mistake_is_one_of_usage(pushed: Pushed, capsys: pytest.CaptureFixture[str], reference: str) -> None:
    assert pushed.digest
    assert purge(reference) == ExitCode.USAGE
    assert capsys.readouterr().out == ""

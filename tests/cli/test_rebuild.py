"""``registry rebuild``: the report, its exit code, and progress that never mixes with the document."""

from __future__ import annotations

import hashlib
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from registry.cli.output import ExitCode
from tests.support.commands import finish

PROGRAM = Path(sys.executable).parent / "registry"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Storage with one repository that another tool placed: a manifest with a tag, its config and no layer."""
    repository = tmp_path / "registry-data" / "team" / "app"
    blobs = repository / "blobs" / "sha256"
    blobs.mkdir(parents=True)

    def put(content: bytes) -> dict[str, object]:
        digest = hashlib.sha256(content).hexdigest()
        (blobs / digest).write_bytes(content)
        return {"digest": f"sha256:{digest}", "size": len(content)}

    config = {"mediaType": "application/vnd.oci.empty.v1+json", **put(b"{}")}
    media_type = "application/vnd.oci.image.manifest.v1+json"
    manifest = {"schemaVersion": 2, "mediaType": media_type, "config": config, "layers": [config]}
    annotations = {"org.opencontainers.image.ref.name": "1"}
    descriptor = {"mediaType": media_type, **put(json.dumps(manifest).encode()), "annotations": annotations}
    (repository / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    (repository / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [descriptor]}))
    return tmp_path


def rebuild(directory: Path, *options: str) -> subprocess.CompletedProcess[bytes]:
    command = [str(PROGRAM), "rebuild", *options]
    return finish(command, directory=directory)


def test_a_rebuild_counts_the_repositories_on_storage(root: Path) -> None:
    done = rebuild(root, "--json")
    assert done.returncode == ExitCode.DONE, done.stderr
    report = json.loads(done.stdout)
    assert report["repositories"] == 1
    assert report["problems"] == []
    again = rebuild(root)
    assert again.returncode == ExitCode.DONE, again.stderr
    assert b"repositories: 1" in again.stdout.splitlines()


def test_unreadable_content_is_listed_and_ends_with_exit_code_one(root: Path) -> None:
    (root / "registry-data" / "team" / "app" / "index.json").write_text("{")
    done = rebuild(root, "--json")
    assert done.returncode == ExitCode.PROBLEMS, done.stderr
    (problem,) = json.loads(done.stdout)["problems"]
    assert problem.startswith("team/app: ")
    assert rebuild(root).returncode == ExitCode.PROBLEMS


def test_progress_is_drawn_on_a_terminal_and_the_document_stays_alone(root: Path) -> None:
    master, terminal = pty.openpty()
    with subprocess.Popen([PROGRAM, "rebuild"], cwd=root, stdout=-1, stderr=terminal, text=True) as process:
        os.close(terminal)
        drawn = b""
        try:
            while data := os.read(master, 4096):
                drawn += data
        except OSError:  # how a pseudo terminal says that its other end is closed
            pass
        assert process.stdout is not None
        printed = process.stdout.read()
    os.close(master)
    assert process.returncode == ExitCode.DONE
    assert b"Rebuilding" in drawn
    assert "Rebuilding" not in printed


def test_a_rebuild_that_was_killed_tells_how_far_it_came_and_goes_on_there(root: Path) -> None:
    for name in ("beside", "more"):
        shutil.copytree(root / "registry-data/team/app", root / "registry-data/team" / name)
    for number in range(40):
        shutil.copytree(root / "registry-data/team/app", root / f"registry-data/team/z-{number:02}")
    nothing = rebuild(root, "--status", "--json")
    assert (nothing.returncode, json.loads(nothing.stdout)) == (ExitCode.DONE, None)
    steps = 200  # of some 10 that each repository takes
    killed = finish([str(PROGRAM), str(steps), "rebuild"], directory=root, module="tests.support.killed_command")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    progress = json.loads(rebuild(root, "--status", "--json").stdout)
    assert progress["reached"].startswith("team/z-")
    assert 0 < progress["repositories"] < 43
    assert b"reached: team/z-" in rebuild(root, "--status").stdout
    report = json.loads(rebuild(root, "--json").stdout)
    assert (report["resumed_after"], report["repositories"]) == (progress["reached"], 43)
    assert b"no rebuild is under way" in rebuild(root, "--status").stdout
    assert json.loads(rebuild(root, "--restart", "--json").stdout)["resumed_after"] is None


def test_a_status_of_a_rebuild_begins_none(root: Path) -> None:
    both = rebuild(root, "--status", "--restart")
    assert both.returncode == ExitCode.USAGE
    assert b"leave --restart out" in both.stderr

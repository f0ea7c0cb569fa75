"""``registry history`` and ``registry restore`` on the disk of a registry that is not running, and beside one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from registry.cli.output import ExitCode
from tests.server.sending import Client
from tests.support.commands import finish
from tests.support.payloads import Blob, Manifest, image
from tests.support.servers import RegistryProcess

PROGRAM = Path(sys.executable).parent / "registry"
REPO = "team/app"


def run(directory: Path, *options: str) -> subprocess.CompletedProcess[bytes]:
    command = [str(PROGRAM), *options, "--config", str(directory / "config.json")]
    return finish(command, directory=directory)


def document(directory: Path, *options: str) -> Any:
    done = run(directory, *options, "--json")
    assert done.returncode == ExitCode.DONE, done.stderr
    return json.loads(done.stdout)


def push(client: Client, text: str, tag: str) -> Manifest:
    config = Blob(text.encode())
    manifest = image(config, [])
    assert client.call("POST", f"/v2/{REPO}/blobs/uploads/?digest={config.digest}", config.data).status == 201
    headers = {"Content-Type": manifest.media_type}
    assert client.call("PUT", f"/v2/{REPO}/manifests/{tag}", manifest.data, headers).status == 201
    return manifest


@pytest.mark.parametrize("running", [True, False])
def test_a_deleted_tag_is_found_in_the_history_and_restored(tmp_path: Path, *, running: bool) -> None:
    with RegistryProcess(tmp_path) as process:
        with Client(process.port) as client:
            first, second = push(client, "one", "latest"), push(client, "two", "latest")
            assert client.call("DELETE", f"/v2/{REPO}/manifests/{second.digest}").status == 202
        if running:
            _restore(process.directory, first, second)
    if not running:
        _restore(process.directory, first, second)


def _restore(directory: Path, first: Manifest, second: Manifest) -> None:
    changes = document(directory, "history", f"{REPO}:latest")["changes"]
    assert [(change["operation"], change["digest"]) for change in changes] == [
        ("delete", second.digest),
        ("put", second.digest),
        ("put", first.digest),
    ]
    restored = document(directory, "restore", f"{REPO}:latest@1")["restored"]
    assert restored == [{"digest": first.digest, "tags": ["latest"]}]
    assert document(directory, "restore", REPO)["restored"] == [{"digest": second.digest, "tags": []}]
    shown = run(directory, "history", REPO, "-n", "1")
    assert second.digest in shown.stdout.decode()
    assert "by operator:" in shown.stdout.decode()
    nothing = run(directory, "restore", f"{REPO}:other")
    assert nothing.returncode == ExitCode.USAGE
    assert "the history of team/app does not have the tag other" in nothing.stderr.decode()
    assert run(directory, "restore", "Team/App").returncode == ExitCode.USAGE

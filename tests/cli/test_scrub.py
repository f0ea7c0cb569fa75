"""``registry scrub``: the report, its exit codes, and a server that goes on serving beside it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from registry.cli.output import ExitCode
from tests.maintenance.scrub.place import flip_file
from tests.server.sending import Client
from tests.support.commands import finish
from tests.support.forks import fork
from tests.support.payloads import Blob, image
from tests.support.servers import RegistryProcess

PROGRAM = Path(sys.executable).parent / "registry"
REPO = "team/app"
CONFIG, LAYER = Blob(b"{}"), Blob(b"a layer")
IMAGE = image(CONFIG, [LAYER])


def scrub(config: Path, *options: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    command = [str(PROGRAM), "scrub", "--config", str(config), *options]
    return finish(command, directory=config.parent, environment={**os.environ, **environment})


def push(client: Client) -> None:
    client.push(REPO, CONFIG.data)
    client.push(REPO, LAYER.data)
    path = f"/v2/{REPO}/manifests/v1"
    assert client.call("PUT", path, IMAGE.data, {"Content-Type": IMAGE.media_type}).status == 201


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RegistryProcess]:
    with RegistryProcess(tmp_path, {"storage": {"fsync": False}}) as running:
        yield running


def file_of(server: RegistryProcess, digest: str) -> Path:
    return server.root / REPO / "blobs" / digest.replace(":", "/")


@pytest.mark.parametrize("damaged", [LAYER.digest, CONFIG.digest, IMAGE.digest], ids=["layer", "config", "manifest"])
def test_wrong_bytes_under_a_running_server_are_told_and_never_served(server: RegistryProcess, damaged: str) -> None:
    with Client(server.port) as client:
        push(client)
        kind = "manifests" if damaged == IMAGE.digest else "blobs"
        path = f"/v2/{REPO}/{kind}/{damaged}"
        assert client.call("GET", path).status == 200
        flip_file(file_of(server, damaged))
        done = scrub(server.config_path, "--json")
        assert done.returncode == ExitCode.PROBLEMS, done.stderr
        report = json.loads(done.stdout)
        assert (report["objects"], report["wrong"], report["finished"]) == (2, 1, True)
        (found,) = report["findings"]
        assert (found["digest"], found["found"], found["now"]) == (damaged, "wrong", "not served")
        assert (found["repositories"], found["tags"]) == ([REPO], [f"{REPO}:v1"])
        answer = client.call("GET", path)
        assert answer.status == 404
        code = "MANIFEST_UNKNOWN" if kind == "manifests" else "BLOB_UNKNOWN"
        assert answer.json["errors"][0]["code"] == code
        assert client.call("HEAD", path).status == 404
        push(client)
        again = client.call("GET", path)
        assert again.status == 200
        assert {LAYER.digest: LAYER.data, CONFIG.digest: CONFIG.data, IMAGE.digest: IMAGE.data}[damaged] == again.body
        assert scrub(server.config_path, "--json").returncode == ExitCode.DONE


def test_a_person_reads_what_is_damaged(server: RegistryProcess) -> None:
    with Client(server.port) as client:
        push(client)
    flip_file(file_of(server, LAYER.digest))
    done = scrub(server.config_path)
    assert done.returncode == ExitCode.PROBLEMS
    lines = done.stdout.decode().splitlines()
    assert lines[0].startswith("objects read and right: 2 (")
    assert f"wrong: {LAYER.digest} ({REPO}/blobs/{LAYER.digest.replace(':', '/')}), not served" in lines
    assert f"  tag {REPO}:v1" in lines


def scrubbed(server: RegistryProcess) -> int:
    with contextlib.closing(sqlite3.connect(server.root / ".database" / "registry.db")) as connection:
        query = "SELECT count(*) FROM blob_location WHERE scrubbed_at IS NOT NULL"
        count: int = connection.execute(query).fetchone()[0]
        return count


def test_one_that_is_killed_is_gone_on_with(server: RegistryProcess, tmp_path: Path) -> None:
    with Client(server.port) as client:
        for number in range(30):
            client.push(REPO, bytes([number]) * (64 << 10))
        command = [str(PROGRAM), "scrub", "--config", str(server.config_path)]
        environment = {**os.environ, "REGISTRY_SCRUB__RATE": "512KiB"}
        killed = fork(command, directory=tmp_path, output=tmp_path / "killed.log", environment=environment)
        deadline = time.monotonic() + 60
        while scrubbed(server) < 5:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        before = scrubbed(server)
        assert before < 30
        assert client.call("GET", "/v2/").status == 200
        done = scrub(server.config_path, "--json")
        assert done.returncode == ExitCode.DONE, done.stderr
        report: dict[str, Any] = json.loads(done.stdout)
        assert report["objects"] == 30 - before, "what was read is not read again"
        assert report["finished"]

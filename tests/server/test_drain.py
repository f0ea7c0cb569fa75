"""SIGTERM: what is in flight ends, what hangs is cut, and the process ends with 0 in time."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import threading
import time
from contextlib import closing, suppress
from typing import TYPE_CHECKING

import pytest

from tests.server.sending import Client, Config, call
from tests.soak.disk import uploads
from tests.support.payloads import Blob, digest_of, image
from tests.support.servers import HOST, RegistryProcess

if TYPE_CHECKING:
    from pathlib import Path

REPO = "drained/repository"
MIB = 1 << 20
LARGE = os.urandom(MIB) * 24
"""More than the buffers of a connection hold: a download of it waits for its reader."""


def wait_until_refused(port: int, seconds: float) -> None:
    """No process accepts connections on the port any more."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex((HOST, port)):
                return
        time.sleep(0.05)
    raise AssertionError("the port still accepts connections")


def exit_code(server: RegistryProcess, seconds: float) -> int:
    """How the server ended."""
    assert server._process is not None
    return server._process.wait(seconds)


def wait_until_received(root: Path, size: int) -> None:
    """The server has written that many bytes of the one upload of this store.

    What is only in the buffers of a connection is no request yet: a server that ends does not begin with it.
    """
    deadline = time.monotonic() + 60
    while _received(root) < size:
        assert time.monotonic() < deadline, "what was sent is not written"
        time.sleep(0.01)


def _received(root: Path) -> int:
    size = 0
    for path in uploads(root):
        with suppress(FileNotFoundError):  # a temporary file that has its name by now
            size += path.stat().st_size
    return size


@pytest.mark.parametrize("workers", [1, 2])
def test_what_is_in_flight_ends_whole_and_new_connections_are_refused(tmp_path: Path, workers: int) -> None:
    config: Config = {"http": {"workers": workers, "drain_timeout": 30}, "storage": {"fsync": False}}
    pushed = LARGE[: 3 * MIB + 5]
    with RegistryProcess(tmp_path, config) as server:
        with Client(server.port) as client:
            digest = client.push(REPO, LARGE)
        with Client(server.port) as uploading, Client(server.port) as downloading:
            session = uploading.start_upload(REPO)
            uploading.begin("PUT", f"{session}?digest={digest_of(pushed)}", len(pushed))
            uploading.send(pushed[:MIB])
            downloading.begin("GET", f"/v2/{REPO}/blobs/{digest}", 0)
            response = downloading.opened()
            first = response.read(MIB)
            wait_until_received(server.root, MIB)
            os.kill(server.pid, signal.SIGTERM)
            wait_until_refused(server.port, 20)
            uploading.send(pushed[MIB:])
            reply = uploading.answer()
            assert (reply.status, reply.headers["docker-content-digest"]) == (201, digest_of(pushed))
            assert first + response.read() == LARGE
        assert exit_code(server, 40) == 0
        server.kill()
    path = server.root / REPO / "blobs" / digest_of(pushed).replace(":", "/")
    assert path.read_bytes() == pushed


@pytest.mark.parametrize("workers", [1, 2])
def test_what_hangs_is_cut_when_the_time_is_over(tmp_path: Path, workers: int) -> None:
    limit = 1.0
    config: Config = {"http": {"workers": workers, "drain_timeout": limit}, "storage": {"fsync": False}}
    with RegistryProcess(tmp_path, config) as server:
        with Client(server.port) as client:
            digest = client.push(REPO, LARGE)
            session = client.start_upload(REPO)
        with Client(server.port) as uploading, Client(server.port) as downloading:
            uploading.begin("PATCH", session, 3 * MIB)
            uploading.send(LARGE[: 2 * MIB])
            downloading.begin("GET", f"/v2/{REPO}/blobs/{digest}", 0)
            downloading.opened().read(1)
            wait_until_received(server.root, 2 * MIB)
            began = time.monotonic()
            os.kill(server.pid, signal.SIGTERM)
            assert exit_code(server, limit + 40) == 0
            seconds = time.monotonic() - began
        assert seconds >= limit * 0.9, "what is in flight has that time to end"
        assert server._left_behind() == []
        assert "Cancel" in server.log_path.read_text()
        assert "Traceback" not in server.log_path.read_text(), "what is cut is foreseen"
        server.kill()
        server.config["http"]["workers"] = 1
        server.start()
        kept = call(server.port, "GET", session)
        assert kept.status == 204
        offset = int(kept.headers["range"].removeprefix("0-")) + 1
        assert offset == 2 * MIB, "all that came is kept"
        rest = call(server.port, "PUT", f"{session}?digest={digest_of(LARGE[: 3 * MIB])}", LARGE[offset : 3 * MIB])
        assert rest.status == 201, "the upload goes on where it was cut"


def test_nothing_in_flight_ends_at_once(tmp_path: Path) -> None:
    with RegistryProcess(tmp_path, {"http": {"drain_timeout": 60}}) as server, Client(server.port) as idle:
        assert idle.call("GET", "/v2/").status == 200  # a connection that is kept open is not a request
        began = time.monotonic()
        os.kill(server.pid, signal.SIGTERM)
        assert exit_code(server, 60) == 0
        assert time.monotonic() - began < 50
        server.kill()


def test_uploads_that_trickle_are_cut_in_time_and_what_came_is_kept(tmp_path: Path) -> None:
    config: Config = {"http": {"drain_timeout": 1}, "storage": {"fsync": False}, "limits": {"threads": 4}}
    with RegistryProcess(tmp_path, config) as server:
        port = server.port

        def push_one(number: int) -> None:
            with Client(port) as client:
                client.push(REPO, LARGE[: 2 * MIB] + bytes([number]))

        warming = [threading.Thread(target=push_one, args=(number,)) for number in range(8)]
        for thread in warming:
            thread.start()
        for thread in warming:
            thread.join()
        with Client(port) as client:
            session = client.start_upload(REPO)
            client.begin("PATCH", session, len(LARGE))
            client.send(LARGE[: 2 * MIB])
            wait_until_received(server.root, 2 * MIB)
            os.kill(server.pid, signal.SIGTERM)
            deadline = time.monotonic() + 60
            with suppress(OSError):
                while time.monotonic() < deadline:
                    client.send(b"x" * 100)
                    time.sleep(0.0005)
        assert exit_code(server, 60) == 0
        server.kill()
        server.start()
        reply = call(server.port, "GET", session)
        assert reply.status == 204
        assert int(reply.headers["range"].removeprefix("0-")) >= 2 * MIB - 1


def test_connections_that_come_while_it_begins_to_drain_do_not_hold_it_up(tmp_path: Path) -> None:
    server = RegistryProcess(tmp_path, {"http": {"drain_timeout": 90}, "storage": {"fsync": False}})

    def connect_until_refused() -> None:
        while not _refused(server.port):
            pass

    for _ in range(2):
        server.start()
        crowd = [threading.Thread(target=connect_until_refused) for _ in range(4)]
        for thread in crowd:
            thread.start()
        os.kill(server.pid, signal.SIGTERM)
        assert exit_code(server, 60) == 0
        for thread in crowd:
            thread.join()
        server.kill()


def _refused(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) != 0


def test_pulls_are_written_down_before_the_end(tmp_path: Path) -> None:
    """Over a connection, where the server answers from memory, as through the routes."""
    blob = Blob(b"{}")
    pulled, memorized, untouched = (image(blob, [], annotations={"number": str(number)}) for number in range(3))
    with RegistryProcess(tmp_path, {"http": {"workers": 1}, "retention": {"pull_interval": 0}}) as server:
        with Client(server.port) as client:
            client.push(REPO, blob.data)
            for number, manifest in enumerate((pulled, memorized, untouched)):
                path = f"/v2/{REPO}/manifests/{number}"
                assert client.call("PUT", path, manifest.data, {"Content-Type": manifest.media_type}).status == 201
            for method, number in (("GET", 0), ("GET", 1), ("HEAD", 1)):
                assert client.call(method, f"/v2/{REPO}/manifests/{number}").status == 200
        server.stop()
        [database] = tmp_path.rglob("registry.db")
        with closing(sqlite3.connect(database)) as connection:
            rows = connection.execute("SELECT b.digest, m.pulled_at FROM manifest m JOIN blob b ON b.id = m.blob_id")
            at = dict(rows.fetchall())
            assert at[untouched.digest] is None
            assert at[pulled.digest] < at[memorized.digest]
            assert connection.execute("SELECT count(*) FROM milestone WHERE name = 'pulls-since'").fetchone() == (1,)

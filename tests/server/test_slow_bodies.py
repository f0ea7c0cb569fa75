"""Bodies of known length that come slowly: whole, kept when they stop, and no dearer than those in chunks."""

from __future__ import annotations

import os
import socket
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from registry.storage.driver import CHUNK_SIZE
from tests.server.sending import Client, Config
from tests.support.payloads import digest_of
from tests.support.servers import HOST, RegistryProcess

if TYPE_CHECKING:
    from collections.abc import Iterator

REPO = "slow/bodies"
IDLE = 2
FIRST = os.urandom(CHUNK_SIZE + 1)
"""More than is received by the loop."""
ENDS = 6
GATHERED = 5
"""Seconds for which a slow client's bytes may wait in the kernel, in the middle of a body."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryProcess]:
    config: Config = {"storage": {"fsync": False}, "http": {"idle_timeout": IDLE}}
    with RegistryProcess(tmp_path_factory.mktemp("slow"), config) as process:
        yield process


def head(session: str, length: int) -> bytes:
    """The head of a PATCH."""
    return f"PATCH {session} HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {length}\r\n\r\n".encode()


def status_of(connection: socket.socket) -> int:
    """The status of the next answer; all of it is read, as it has no body or is the last."""
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += connection.recv(1 << 16)
    return int(answer.split()[1])


def test_few_bytes_are_progress_and_what_came_is_kept_when_they_stop(server: RegistryProcess) -> None:
    with Client(server.port) as client, socket.create_connection((HOST, server.port), timeout=60) as connection:
        session = client.start_upload(REPO)
        connection.sendall(head(session, 1 << 30) + FIRST)
        until, sent = time.monotonic() + 3 * IDLE, 0
        while time.monotonic() < until:
            connection.sendall(b"x")
            sent += 1
            time.sleep(IDLE / 10)
        assert status_of(connection) == 408, "only silence ends it"
        assert client.call("GET", session).headers["range"] == f"0-{len(FIRST) + sent - 1}"


def test_the_end_of_a_body_is_not_waited_with_and_the_connection_is_as_good_as_before(server: RegistryProcess) -> None:
    began = time.monotonic()
    with Client(server.port) as client, socket.create_connection((HOST, server.port), timeout=60) as connection:
        for number in range(ENDS):
            session, data = client.start_upload(REPO), FIRST + b"%d and a few more bytes" % number
            connection.sendall(head(session, len(data)) + data[:-20])
            time.sleep(0.1)
            connection.sendall(data[-20:-10])
            time.sleep(0.1)
            connection.sendall(data[-10:])
            assert status_of(connection) == 202
            connection.sendall(f"HEAD /v2/ HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
            assert status_of(connection) == 200
            assert client.call("PUT", f"{session}?digest={digest_of(data)}").status == 201
    assert time.monotonic() - began < ENDS * GATHERED


def test_a_client_that_leaves_is_noticed_at_once_and_what_it_sent_is_kept(server: RegistryProcess) -> None:
    with Client(server.port) as client:
        session = client.start_upload(REPO)
        with socket.create_connection((HOST, server.port), timeout=60) as connection:
            connection.sendall(head(session, 1 << 30) + FIRST)
            time.sleep(0.2)
            connection.sendall(b"few")
            time.sleep(0.2)
        deadline = time.monotonic() + 60
        while client.call("GET", session).headers["range"] != f"0-{len(FIRST) + 2}":
            assert time.monotonic() < deadline
            time.sleep(0.05)


@pytest.mark.soak
def test_slow_bodies_of_known_length_cost_no_more_than_those_in_chunks(tmp_path: Path) -> None:
    with RegistryProcess(tmp_path, {"storage": {"fsync": False}, "log": {"level": "warning"}}) as server:
        chunked = cost(server, chunked=True)
        known = cost(server, chunked=False)
    assert known <= chunked, "seconds of processor time"


def cost(server: RegistryProcess, *, chunked: bool, uploads: int = 30, rounds: int = 150) -> float:
    """Processor time of the server for uploads that send a little in each of many rounds."""
    with Client(server.port) as client:
        sessions = [client.start_upload(REPO) for _ in range(uploads)]
    connections = [socket.create_connection((HOST, server.port), timeout=60) for _ in sessions]

    def framed(data: bytes) -> bytes:
        return b"%x\r\n%s\r\n" % (len(data), data) if chunked else data

    for connection, session in zip(connections, sessions, strict=True):
        known = head(session, 1 << 30)
        begun = known.replace(b"Content-Length: 1073741824", b"Transfer-Encoding: chunked") if chunked else known
        threading.Thread(target=connection.sendall, args=(begun + framed(FIRST),)).start()
    time.sleep(3)  # all of these are written, and the cost of that is none of ours
    before = server.processor_seconds()
    for _ in range(rounds):
        for connection in connections:
            connection.sendall(framed(b"y" * 1000))
        time.sleep(0.02)
    spent = server.processor_seconds() - before
    for connection in connections:
        connection.close()
    return spent

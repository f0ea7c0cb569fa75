"""Bodies that a thread takes from the socket itself: the connection is as good afterwards as it was before."""

from __future__ import annotations

import os
import random
import socket
import subprocess
import threading
import time
from typing import TYPE_CHECKING, BinaryIO

import pytest

from registry.storage.driver import CHUNK_SIZE
from tests.server.sending import Client, Config
from tests.support.payloads import digest_of
from tests.support.servers import HOST, RegistryProcess

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

REPO = "large/bodies"
DATA = os.urandom(9_000_000)
DIGEST = digest_of(DATA)
ROOM = 5 << 20
"""Bytes of a disk that DATA does not fit on."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryProcess]:
    config: Config = {"storage": {"fsync": False}}
    with RegistryProcess(tmp_path_factory.mktemp("large"), config) as process:
        yield process


def status_line(answers: BinaryIO) -> str:
    """The first line of the next answer, which has no body."""
    first = line = answers.readline()
    while line.strip():
        line = answers.readline()
    return first.decode()


def head(method: str, target: str, length: int, *more: str) -> bytes:
    """The head of a request."""
    lines = [f"{method} {target} HTTP/1.1", f"Host: {HOST}", f"Content-Length: {length}", *more]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def test_one_connection_serves_many_large_bodies(server: RegistryProcess) -> None:
    with Client(server.port) as client:
        for number in range(3):
            data = DATA + bytes([number])
            session = client.start_upload(REPO)
            assert client.call("PATCH", session, data).headers["range"] == f"0-{len(data) - 1}"
            assert client.call("PUT", f"{session}?digest={digest_of(data)}").status == 201
            assert client.call("GET", f"/v2/{REPO}/blobs/{digest_of(data)}").body == data


def test_a_chunked_body_and_one_of_known_length_go_into_one_upload(server: RegistryProcess) -> None:
    half = len(DATA) // 2
    with Client(server.port) as client:
        session = client.start_upload(REPO)
        assert client.call("PATCH", session, DATA[:half]).status == 202
        rest = f"{len(DATA) - half:x}\r\n".encode() + DATA[half:] + b"\r\n0\r\n\r\n"
        with socket.create_connection((HOST, server.port), timeout=60) as connection:
            lines = [f"PUT {session}?digest={DIGEST} HTTP/1.1", f"Host: {HOST}", "Transfer-Encoding: chunked", "", ""]
            connection.sendall("\r\n".join(lines).encode() + rest)
            assert " 201 " in status_line(connection.makefile("rb"))
        assert client.call("GET", f"/v2/{REPO}/blobs/{DIGEST}").body == DATA


@pytest.mark.parametrize("size", [CHUNK_SIZE - 1, CHUNK_SIZE, CHUNK_SIZE + 1, CHUNK_SIZE + 200_000, len(DATA)])
def test_a_request_right_behind_a_body_is_answered_next(server: RegistryProcess, size: int) -> None:
    data = DATA[:size]
    with Client(server.port) as client, socket.create_connection((HOST, server.port), timeout=60) as connection:
        answers = connection.makefile("rb")
        session = client.start_upload(REPO)
        connection.sendall(head("PATCH", session, size) + data + head("HEAD", "/v2/", 0))
        assert " 202 " in status_line(answers)
        assert " 200 " in status_line(answers)
        assert client.call("PUT", f"{session}?digest={digest_of(data)}").status == 201


def test_the_end_of_a_body_and_the_next_request_may_come_while_the_upload_is_opened(server: RegistryProcess) -> None:
    """The parser has then seen the next request before the bytes of this one are asked for."""
    first, rest = DATA[:CHUNK_SIZE], DATA[CHUNK_SIZE : CHUNK_SIZE + 1000]
    chance = random.Random(7)
    with Client(server.port) as client, socket.create_connection((HOST, server.port), timeout=60) as connection:
        answers = connection.makefile("rb")
        for _ in range(60):
            session = client.start_upload(REPO)
            connection.sendall(head("PATCH", session, len(first) + len(rest)) + first)
            time.sleep(chance.uniform(0, 0.0025))
            connection.sendall(rest + head("HEAD", "/v2/", 0))
            assert " 202 " in status_line(answers)
            assert " 200 " in status_line(answers)
            assert client.call("GET", session).headers["range"] == f"0-{len(first) + len(rest) - 1}"
            assert client.call("DELETE", session).status == 204


def test_a_client_that_closes_its_side_in_mid_body_keeps_what_it_sent(server: RegistryProcess) -> None:
    with Client(server.port) as client, socket.create_connection((HOST, server.port), timeout=60) as connection:
        session = client.start_upload(REPO)
        connection.sendall(head("PATCH", session, len(DATA)) + DATA[:5_000_000])
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(1) == b""  # there is no answer to half a request
        deadline = time.monotonic() + 60
        while client.call("GET", session).headers["range"] != "0-4999999":
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_who_waits_for_permission_to_send_gets_it_once(server: RegistryProcess) -> None:
    with Client(server.port) as client, socket.create_connection((HOST, server.port), timeout=60) as connection:
        answers = connection.makefile("rb")
        session = client.start_upload(REPO)
        connection.sendall(head("PATCH", session, len(DATA), "Expect: 100-continue"))
        assert " 100 " in status_line(answers)
        connection.sendall(DATA)
        assert " 202 " in status_line(answers)
        assert client.call("PUT", f"{session}?digest={DIGEST}").status == 201


def test_an_answer_without_permission_to_send_is_the_last_of_its_connection(server: RegistryProcess) -> None:
    absent = f"/v2/{REPO}/blobs/uploads/absent"
    with socket.create_connection((HOST, server.port), timeout=60) as connection:
        connection.sendall(head("PATCH", absent, len(DATA), "Expect: 100-continue"))
        with connection.makefile("rb") as answers:
            answer = answers.read()
    assert answer.startswith(b"HTTP/1.1 404 ")
    assert b"\r\nconnection: close\r\n" in answer


def test_an_answer_to_a_body_that_is_sent_without_permission_is_not_the_last(server: RegistryProcess) -> None:
    absent = f"/v2/{REPO}/blobs/uploads/absent"
    with socket.create_connection((HOST, server.port), timeout=60) as connection:
        connection.sendall(head("PATCH", absent, 6, "Expect: 100-continue") + b"a body" + head("GET", absent, 0))
        answer = b""
        while answer.count(b"HTTP/1.1 404 ") < 2:
            data = connection.recv(1 << 16)
            assert data, answer
            answer += data
    assert b"connection: close" not in answer


def test_large_bodies_of_many_clients_at_once(server: RegistryProcess) -> None:
    failures: list[object] = []

    def push(number: int) -> None:
        data = DATA + bytes([7, number])
        with Client(server.port) as client:
            if client.push(f"{REPO}/{number % 3}", data) != digest_of(data):
                failures.append(number)
            if client.call("GET", f"/v2/{REPO}/{number % 3}/blobs/{digest_of(data)}").body != data:
                failures.append(number)

    threads = [threading.Thread(target=push, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_bytes_received_are_counted(server: RegistryProcess) -> None:
    before = received(server)
    with Client(server.port) as client:
        session = client.start_upload(REPO)
        client.call("PATCH", session, DATA)
        client.call("DELETE", session)
    deadline = time.monotonic() + 60
    while received(server) < before + len(DATA) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert received(server) == before + len(DATA)


def received(server: RegistryProcess) -> float:
    """Bytes of request bodies so far, as the metrics say."""
    with Client(server.port) as client:
        text = client.call("GET", "/metrics").body.decode()
    lines = [line for line in text.splitlines() if line.startswith("registry_http_received_bytes_total")]
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines)


def test_a_full_disk_ends_the_upload_and_not_the_connection(tmp_path: Path) -> None:
    root = tmp_path / "full"
    root.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={ROOM}", "tmpfs", str(root)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("needs the right to mount a small disk")
    try:
        config: Config = {
            "storage": {"root_directory": str(root)},
            "database": {"url": f"sqlite:///{tmp_path / 'cache.db'}"},
        }
        with RegistryProcess(tmp_path, config) as server, Client(server.port) as client:
            session = client.start_upload(REPO)
            reply = client.call("PATCH", session, DATA)
            assert (reply.status, reply.json["errors"][0]["code"]) == (507, "UNAVAILABLE"), reply
            assert client.call("DELETE", session).status == 204  # on the same connection, behind what was not read
            assert client.push(REPO, DATA[: ROOM // 4])
            assert list((root / ".uploads").iterdir()) == []
    finally:
        subprocess.run(["umount", "--lazy", str(root)], check=True, capture_output=True)

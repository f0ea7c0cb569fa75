"""Answers from memory, written by the protocol itself: on the wire they are those of the routes."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
from typing import TYPE_CHECKING

import pytest

from tests.server.remembered import (
    ABSENT,
    BLOB,
    IMAGE,
    MANIFEST,
    OTHER,
    REPO,
    TAGS,
    TIMEOUT,
    push,
    request,
    tag,
)
from tests.server.sending import Client
from tests.support.payloads import Blob
from tests.support.servers import HOST, RegistryProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

OWN = ("date:", "x-request-id:")

CLOSE = "Connection: close"
EXCHANGES = {
    "get": [request("GET", MANIFEST)],
    "head": [request("HEAD", MANIFEST), request("HEAD", BLOB)],
    "one after the other": [
        request("GET", MANIFEST),
        request("HEAD", BLOB),
        request("GET", TAGS),
        request("GET", BLOB),
    ],
    "remembered behind what is not": [
        request("GET", ABSENT),
        request("GET", MANIFEST),
        request("GET", "/livez"),
        request("HEAD", BLOB),
    ],
    "what is not behind remembered": [request("GET", MANIFEST), request("GET", "/livez"), request("GET", ABSENT)],
    "a push in between": [
        request("GET", MANIFEST),
        request(
            "PUT",
            f"/v2/{REPO}/manifests/{IMAGE.digest}",
            f"Content-Length: {len(IMAGE.data)}",
            f"Content-Type: {IMAGE.media_type}",
        )
        + IMAGE.data,
        request("GET", MANIFEST),
    ],
    "a body that is not wanted": [request("GET", MANIFEST, "Content-Length: 4") + b"none", request("GET", MANIFEST)],
    "a body in chunks": [
        request("GET", MANIFEST, "Transfer-Encoding: chunked") + b"1\r\nx\r\n0\r\n\r\n",
        request("GET", MANIFEST),
    ],
    "an empty body": [request("GET", MANIFEST, "Content-Length: 0"), request("HEAD", BLOB, "Content-Length: 0")],
    "not modified": [
        request("GET", MANIFEST, f'If-None-Match: "{IMAGE.digest}"'),
        request("HEAD", BLOB, "If-None-Match: *"),
    ],
    "several conditions": [
        request("GET", MANIFEST, f'If-None-Match: "{first}"', f'If-None-Match: "{second}"')
        for first, second in ((IMAGE.digest, "x"), ("x", IMAGE.digest), ("x", "y"))
    ],
    "a part": [request("GET", BLOB, "Range: bytes=2-5"), request("GET", BLOB, "Range: bytes=99999-")],
    "escapes": [request("GET", MANIFEST.replace("one", "%6fne")), request("GET", f"{TAGS}?n=1%30")],
    "queries": [request("GET", f"{TAGS}?n=10"), request("GET", f"{TAGS}?n=10"), request("GET", f"{TAGS}?n=-1")],
    "a whole address": [request("GET", f"http://{HOST}{MANIFEST}")],
    "a fragment": [request("GET", f"{MANIFEST}#x")],
    "HTTP/1.0": [request("GET", MANIFEST, version="1.0")],
    "the last of a connection": [request("GET", MANIFEST), request("GET", MANIFEST, CLOSE)],
    "an upgrade": [request("GET", MANIFEST, "Connection: close, Upgrade", "Upgrade: h2c")],
    "an expectation": [request("GET", MANIFEST, "Expect: 100-continue")],
    "other methods": [request("OPTIONS", MANIFEST), request("POST", MANIFEST, "Content-Length: 0")],
}
ENDING = {"HTTP/1.0", "an upgrade", "the last of a connection"}
"""These end their connection by themselves."""


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def pair(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[RegistryProcess, RegistryProcess]]:
    """Two processes on one storage and one database, the second without a memory of reads."""
    directory = tmp_path_factory.mktemp("recall")
    (directory / "routes").mkdir()
    database: dict[str, dict[str, object]] = {}
    if request.param == "postgresql":
        database["database"] = {"url": request.getfixturevalue("cluster").create_current()}
    with RegistryProcess(directory, database) as remembering:
        root: dict[str, dict[str, object]] = {
            **database,
            "storage": {"root_directory": str(remembering.root)},
            "limits": {"read_memory": 0},
        }
        with RegistryProcess(directory / "routes", root) as routes:
            with Client(remembering.port) as client:
                push(client)
            yield remembering, routes


def _sent_ahead(connection: socket.socket, pieces: list[bytes]) -> bytes:
    """What comes back when everything is sent before anything is read."""
    for piece in pieces:
        connection.sendall(piece)
    return b"".join(iter(lambda: connection.recv(65536), b""))


def _in_turns(connection: socket.socket, requests: list[bytes]) -> bytes:
    """What comes back when each request is sent after the answer to the one before it."""
    received = b""
    with connection.makefile("rb") as answers:
        for each in requests:
            connection.sendall(each)
            lines = list(iter(answers.readline, b"\r\n"))
            lengths = [int(line[15:]) for line in lines if line.lower().startswith(b"content-length:")]
            has_body = not each.startswith(b"HEAD ") and b" 304 " not in lines[0]
            received += b"".join([*lines, b"\r\n", answers.read(lengths[0]) if has_body else b""])
        return received + answers.read()


WAYS: dict[str, Callable[[socket.socket, list[bytes]], bytes]] = {
    "whole": lambda connection, requests: _sent_ahead(connection, [b"".join(requests)]),
    "byte by byte": lambda connection, requests: _sent_ahead(
        connection, [bytes([byte]) for byte in b"".join(requests)]
    ),
    "in turns": _in_turns,
}


def _exchange(port: int, way: str, requests: list[bytes]) -> list[str]:
    """Send all requests, the last of which ends the connection; return the lines that come back."""
    with socket.create_connection((HOST, port), timeout=TIMEOUT) as connection:
        received = WAYS[way](connection, requests)
    return [line for line in received.decode("latin-1").split("\r\n") if not line.startswith(OWN)]


@pytest.mark.parametrize("name", EXCHANGES)
def test_the_wire_carries_what_the_routes_would_say(pair: tuple[RegistryProcess, RegistryProcess], name: str) -> None:
    requests = [*EXCHANGES[name], *([] if name in ENDING else [request("GET", "/livez", CLOSE)])]
    remembering, routes = pair
    for way in WAYS:
        expected = _exchange(routes.port, way, requests)
        assert expected[0].startswith("HTTP/1.1 "), (way, expected)
        for _ in range(3):  # remembered the second time at the latest
            assert _exchange(remembering.port, way, requests) == expected, way


def test_whoever_saw_a_push_acknowledged_reads_it_from_every_process_however_busy(
    pair: tuple[RegistryProcess, RegistryProcess],
) -> None:
    """One process is pushed to and another read from, while so many others read that requests share their turns."""
    written, read = pair[1], pair[0]
    stop = threading.Event()

    def keep_reading() -> None:
        with Client(read.port) as client:
            while not stop.is_set():
                assert client.call("GET", MANIFEST).status == 200

    readers = [threading.Thread(target=keep_reading) for _ in range(12)]
    for reader in readers:
        reader.start()
    try:
        with Client(written.port) as pusher, Client(read.port) as client:
            for turn in range(60):
                wanted = (IMAGE, OTHER)[turn % 2]
                tag(pusher, wanted.data)
                assert client.call("GET", MANIFEST).body == wanted.data, turn
    finally:
        stop.set()
        for reader in readers:
            reader.join()


def test_nonsense_behind_an_answer_on_its_way_does_not_get_into_it(
    pair: tuple[RegistryProcess, RegistryProcess],
) -> None:
    data = random.Random(5).randbytes(24 << 20)
    with Client(pair[0].port) as client:
        target = f"/v2/{REPO}/blobs/uploads/?digest={Blob(data).digest}"
        assert client.call("POST", target, data).status == 201
    with socket.create_connection((HOST, pair[0].port), timeout=TIMEOUT) as connection:
        connection.sendall(request("GET", f"/v2/{REPO}/blobs/{Blob(data).digest}"))
        received = connection.recv(65536)
        connection.sendall(b"\x00nonsense\r\n\r\n")
        with contextlib.suppress(ConnectionResetError):
            while piece := connection.recv(1 << 20):
                received += piece
    body = received.partition(b"\r\n\r\n")[2]
    assert data.startswith(body[: len(data)])
    assert not body[len(data) :] or body[len(data) :].startswith(b"HTTP/1.1 400 "), "an answer of its own, behind it"

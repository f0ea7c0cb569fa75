"""Answers from memory, written by the protocol itself: on the wire they are those of the routes."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import threading
from typing import TYPE_CHECKING, Any, cast

import pytest
import uvicorn
from uvicorn.server import ServerState

from registry.server.protocol import RegistryProtocol
from tests.api.service import serving
from tests.payloads import Blob, image
from tests.server.sending import Client
from tests.servers import HOST, RegistryProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.api.service import Service

REPO = "kept/in-memory"
CONFIG = Blob(b'{"kept": true}')
LAYER = Blob(b"of a small layer" * 50)
IMAGE = image(CONFIG, [LAYER])
OTHER = image(CONFIG, [LAYER], annotations={"other": "yes"})
MANIFEST = f"/v2/{REPO}/manifests/one"
BLOB = f"/v2/{REPO}/blobs/{LAYER.digest}"
TAGS = f"/v2/{REPO}/tags/list"
ABSENT = f"/v2/{REPO}/manifests/absent"
OWN = ("date:", "x-request-id:")
TIMEOUT = 20.0


def _request(method: str, target: str, *lines: str, version: str = "1.1") -> bytes:
    return "\r\n".join([f"{method} {target} HTTP/{version}", f"Host: {HOST}", *lines, "", ""]).encode()


CLOSE = "Connection: close"
EXCHANGES = {
    "get": [_request("GET", MANIFEST)],
    "head": [_request("HEAD", MANIFEST), _request("HEAD", BLOB)],
    "one after the other in one piece": [
        _request("GET", MANIFEST) + _request("HEAD", BLOB) + _request("GET", TAGS) + _request("GET", BLOB)
    ],
    "remembered behind what is not": [
        _request("GET", ABSENT) + _request("GET", MANIFEST) + _request("GET", "/livez") + _request("HEAD", BLOB)
    ],
    "what is not behind remembered": [_request("GET", MANIFEST) + _request("GET", "/livez") + _request("GET", ABSENT)],
    "a push in between": [
        _request("GET", MANIFEST)
        + _request(
            "PUT",
            f"/v2/{REPO}/manifests/{IMAGE.digest}",
            f"Content-Length: {len(IMAGE.data)}",
            f"Content-Type: {IMAGE.media_type}",
        )
        + IMAGE.data
        + _request("GET", MANIFEST)
    ],
    "a body that nobody wants": [_request("GET", MANIFEST, "Content-Length: 4") + b"none" + _request("GET", MANIFEST)],
    "a body in chunks": [
        _request("GET", MANIFEST, "Transfer-Encoding: chunked") + b"1\r\nx\r\n0\r\n\r\n" + _request("GET", MANIFEST)
    ],
    "an empty body": [_request("GET", MANIFEST, "Content-Length: 0") + _request("HEAD", BLOB, "Content-Length: 0")],
    "not modified": [
        _request("GET", MANIFEST, f'If-None-Match: "{IMAGE.digest}"') + _request("HEAD", BLOB, "If-None-Match: *")
    ],
    "several conditions": [
        _request("GET", MANIFEST, f'If-None-Match: "{first}"', f'If-None-Match: "{second}"')
        for first, second in ((IMAGE.digest, "x"), ("x", IMAGE.digest), ("x", "y"))
    ],
    "a part": [_request("GET", BLOB, "Range: bytes=2-5") + _request("GET", BLOB, "Range: bytes=99999-")],
    "escapes": [_request("GET", MANIFEST.replace("one", "%6fne")) + _request("GET", f"{TAGS}?n=1%30")],
    "queries": [_request("GET", f"{TAGS}?n=10") + _request("GET", f"{TAGS}?n=10") + _request("GET", f"{TAGS}?n=-1")],
    "a whole address": [_request("GET", f"http://{HOST}{MANIFEST}")],
    "a fragment": [_request("GET", f"{MANIFEST}#x")],
    "HTTP/1.0": [_request("GET", MANIFEST, version="1.0")],
    "the last of a connection": [_request("GET", MANIFEST) + _request("GET", MANIFEST, CLOSE)],
    "an upgrade": [_request("GET", MANIFEST, "Connection: close, Upgrade", "Upgrade: h2c")],
    "an expectation": [_request("GET", MANIFEST, "Expect: 100-continue")],
    "other methods": [_request("OPTIONS", MANIFEST) + _request("POST", MANIFEST, "Content-Length: 0")],
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
        database["database"] = {"url": request.getfixturevalue("cluster").create()}
    with RegistryProcess(directory, database) as remembering:
        root: dict[str, dict[str, object]] = {
            **database,
            "storage": {"root_directory": str(remembering.root)},
            "limits": {"read_memory": 0},
        }
        with RegistryProcess(directory / "routes", root) as routes:
            with Client(remembering.port) as client:
                for blob in (CONFIG, LAYER):
                    target = f"/v2/{REPO}/blobs/uploads/?digest={blob.digest}"
                    assert client.call("POST", target, blob.data).status == 201
                _tag(client, IMAGE.data)
            yield remembering, routes


def _tag(client: Client, manifest: bytes) -> None:
    assert client.call("PUT", MANIFEST, manifest, {"Content-Type": IMAGE.media_type}).status == 201


def _exchange(port: int, pieces: list[bytes]) -> list[str]:
    """Send all pieces, the last of which ends the connection; return the lines that come back."""
    with socket.create_connection((HOST, port), timeout=TIMEOUT) as connection:
        for piece in pieces:
            connection.sendall(piece)
        received = b"".join(iter(lambda: connection.recv(65536), b""))
    return [line for line in received.decode("latin-1").split("\r\n") if not line.startswith(OWN)]


@pytest.mark.parametrize("cut", [False, True], ids=["whole", "byte by byte"])
@pytest.mark.parametrize("name", EXCHANGES)
def test_the_wire_carries_what_the_routes_would_say(
    pair: tuple[RegistryProcess, RegistryProcess], name: str, cut: bool
) -> None:
    pieces = [*EXCHANGES[name], *([] if name in ENDING else [_request("GET", "/livez", CLOSE)])]
    if cut:
        pieces = [bytes([byte]) for byte in b"".join(pieces)]
    remembering, routes = pair
    expected = _exchange(routes.port, pieces)
    assert expected[0].startswith("HTTP/1.1 "), expected
    for _ in range(3):  # remembered the second time at the latest
        assert _exchange(remembering.port, pieces) == expected


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
            for turn in range(150):
                wanted = (IMAGE, OTHER)[turn % 2]
                _tag(pusher, wanted.data)
                assert client.call("GET", MANIFEST).body == wanted.data, turn
    finally:
        stop.set()
        for reader in readers:
            reader.join()


class Wire:
    """The transport of a connection that is not there."""

    def __init__(self) -> None:
        self.written = b""
        self.closed = False

    def get_extra_info(self, name: str) -> object:
        """Nothing is known of a connection that is not there."""
        return ("127.0.0.1", 1) if name in {"peername", "sockname"} else None

    def write(self, data: bytes) -> None:
        """Keep it."""
        self.written += data

    def is_closing(self) -> bool:
        """Whether it was closed."""
        return self.closed

    def close(self) -> None:
        """Close it."""
        self.closed = True

    def pause_reading(self) -> None:
        """Nothing arrives by itself."""

    def resume_reading(self) -> None:
        """As ``pause_reading``."""

    def abort(self) -> None:
        """Close it."""
        self.closed = True


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with serving(tmp_path) as service:
        for blob in (CONFIG, LAYER):
            service.push_blob(REPO, blob)
        service.push(REPO, "one", IMAGE)
        yield service


def _connect(service: Service, **options: Any) -> tuple[RegistryProtocol, Wire]:
    configuration = uvicorn.Config(
        cast("Any", service.observation), ws="none", proxy_headers=False, log_config=None, **options
    )
    protocol, wire = RegistryProtocol(configuration, ServerState(), {}), Wire()
    protocol.connection_made(cast("asyncio.Transport", wire))
    return protocol, wire


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(TIMEOUT):
        while not condition():  # noqa: ASYNC110 - the transport that would tell is what the test plays
            await asyncio.sleep(0.01)


def test_a_remembered_read_is_answered_before_data_received_returns(service: Service) -> None:
    service.call("GET", MANIFEST)

    async def story() -> None:
        protocol, wire = _connect(service)
        for count in range(1, 4):
            protocol.data_received(_request("GET", MANIFEST))
            assert wire.written.count(b"HTTP/1.1 200 OK") == wire.written.count(IMAGE.data) == count
        assert cast("object", protocol.cycle) is None, "no task was made for it"
        protocol.connection_lost(None)

    asyncio.run(story())


def test_a_look_at_the_database_is_shared_only_by_what_waited_when_the_turn_began(service: Service) -> None:
    service.call("GET", MANIFEST)
    looks: list[int | None] = []
    currency = cast("Any", service.edge.memory)._currency._inner
    mark = currency.mark

    def counted() -> int | None:
        looks.append(mark())
        return looks[-1]

    currency.mark = counted

    async def looks_for(*arriving: tuple[int, bytes]) -> int:
        before = len(looks)
        for connection, data in arriving:
            protocols[connection].data_received(data)
        after = len(looks)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return after - before

    async def story() -> list[int]:
        protocols.extend(_connect(service)[0] for _ in range(3))
        return [
            await looks_for((0, one), (1, one), (2, one)),
            await looks_for((0, one), (1, one), (2, one)),
            await looks_for((0, one * 2)),
            await looks_for((0, one), (0, one)),
            await looks_for((0, one), (1, one * 2), (2, one)),
            await looks_for((0, one), (1, b"\r\n" + one)),  # an empty line that was left of something
            await looks_for((0, one[:9]), (1, one)),
            await looks_for((1, one), (0, one[9:])),
            await rest_of_a_body(),
        ]

    async def rest_of_a_body() -> int:
        protocol, wire = _connect(service)
        protocols.append(protocol)
        protocol.data_received(_request("GET", MANIFEST, "Content-Length: 4") + b"ab")
        await _until(lambda: IMAGE.data in wire.written)
        return await looks_for((0, one), (3, b"cd" + one))

    protocols: list[RegistryProtocol] = []
    one = _request("GET", MANIFEST)
    assert asyncio.run(story()) == [1, 1, 2, 2, 2, 2, 1, 2, 2]


def test_who_does_not_take_his_answers_waits_for_room(service: Service) -> None:
    service.call("GET", MANIFEST)

    async def story() -> None:
        protocol, wire = _connect(service)
        protocol.pause_writing()
        protocol.data_received(_request("GET", MANIFEST))
        await asyncio.sleep(0.1)
        assert not wire.written.endswith(IMAGE.data)
        protocol.resume_writing()
        await _until(lambda: IMAGE.data in wire.written)
        protocol.connection_lost(None)

    asyncio.run(story())


def test_no_more_is_read_of_who_sends_faster_than_it_is_answered(service: Service) -> None:
    async def story() -> None:
        protocol, wire = _connect(service)
        waiting: list[int] = []
        wire.resume_reading = lambda: waiting.append(len(protocol.pipeline))  # type: ignore[method-assign]
        protocol.data_received(_request("GET", ABSENT) * 5)
        await _until(lambda: wire.written.count(b"HTTP/1.1 404") == 5)
        assert waiting == [0]
        protocol.connection_lost(None)

    asyncio.run(story())


def test_a_database_that_cannot_be_asked_is_not_the_clients_fault(service: Service) -> None:
    service.call("GET", MANIFEST)
    cast("Any", service.edge.memory)._currency.close()

    async def story() -> None:
        protocol, wire = _connect(service)
        protocol.data_received(_request("GET", MANIFEST))
        await _until(lambda: IMAGE.data in wire.written)
        assert wire.written.startswith(b"HTTP/1.1 200")
        protocol.connection_lost(None)

    asyncio.run(story())


def test_nonsense_behind_an_answer_on_its_way_does_not_get_into_it(
    pair: tuple[RegistryProcess, RegistryProcess],
) -> None:
    data = random.Random(5).randbytes(24 << 20)
    with Client(pair[0].port) as client:
        target = f"/v2/{REPO}/blobs/uploads/?digest={Blob(data).digest}"
        assert client.call("POST", target, data).status == 201
    with socket.create_connection((HOST, pair[0].port), timeout=TIMEOUT) as connection:
        connection.sendall(_request("GET", f"/v2/{REPO}/blobs/{Blob(data).digest}"))
        received = connection.recv(65536)
        connection.sendall(b"\x00nonsense\r\n\r\n")
        with contextlib.suppress(ConnectionResetError):
            while piece := connection.recv(1 << 20):
                received += piece
    assert data.startswith(received.partition(b"\r\n\r\n")[2])


def test_a_connection_that_says_nothing_more_is_closed_and_no_other(service: Service) -> None:
    service.call("GET", MANIFEST)

    async def story() -> None:
        protocol, wire = _connect(service, timeout_keep_alive=1)
        for _ in range(4):  # in one piece with another, so that a timer might be forgotten
            protocol.data_received(_request("GET", MANIFEST) * 2)
            await asyncio.sleep(0.5)
            assert not wire.closed
        protocol.data_received(_request("GET", MANIFEST) + _request("PUT", MANIFEST, "Content-Length: 9"))
        await asyncio.sleep(1.5)
        assert not wire.closed, "a body is on its way"
        protocol.data_received(b"no json..")
        await _until(lambda: b"HTTP/1.1 400" in wire.written)
        assert not wire.closed
        await _until(lambda: wire.closed)
        protocol.connection_lost(None)

    asyncio.run(story())

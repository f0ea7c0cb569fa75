"""Clients that send too much, too slowly or nothing, or never read: the rest is served, in bounded memory and time."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import socket
import ssl
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest
import uvloop

from registry.server.peer import is_reset
from tests.server.remembered import MANIFEST, REPO, push, request
from tests.server.sending import Client, call
from tests.server.tls import TlsProcess
from tests.support.payloads import digest_of
from tests.support.readable import is_readable
from tests.support.servers import HOST, RegistryProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MIB = 1 << 20
SOON = 50.0
"""Seconds for what takes a moment; generous, because the machine may be busy."""
LARGE = os.urandom(MIB) * 24
"""More than the buffers of a connection hold."""
TIMEOUTS: dict[str, object] = {
    "first_byte_timeout": 1,
    "head_timeout": 1,
    "keep_alive_timeout": 1,
    "answer_timeout": 1,
    "idle_timeout": 1,
}


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryProcess]:
    """With default settings."""
    with RegistryProcess(tmp_path_factory.mktemp("patient"), {"storage": {"fsync": False}}) as server:
        _fill(server)
        yield server


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryProcess]:
    """With short deadlines."""
    config: dict[str, dict[str, object]] = {"storage": {"fsync": False}, "http": TIMEOUTS}
    with RegistryProcess(tmp_path_factory.mktemp("hasty"), config) as server:
        _fill(server)
        yield server


def _fill(server: RegistryProcess) -> None:
    with Client(server.port) as client:
        push(client)
        client.push(REPO, LARGE)
    _serves(server)


def _serves(server: RegistryProcess) -> None:
    """Another client gets an answer, past the application and from it."""
    assert call(server.port, "GET", "/livez").status == 200
    assert call(server.port, "GET", "/readyz").status == 200
    assert call(server.port, "GET", MANIFEST).status == 200


def _connect(server: RegistryProcess) -> socket.socket:
    return socket.create_connection((HOST, server.port), timeout=SOON)


def _open(connection: socket.socket) -> str:
    """What the kernel says of a connection: which of many had ended, and with how much to read."""
    info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)
    return f"state {info[0]}, {len(connection.recv(64 * MIB, socket.MSG_PEEK))} bytes to read"


def _connections(server: RegistryProcess) -> list[str]:
    """What the server says of its connections, those that it has ended too."""
    text = call(server.port, "GET", "/metrics").body.decode()
    return [line for line in text.splitlines() if line.startswith("registry_http_connections")]


def _flood(connection: socket.socket, piece: bytes, total: int) -> bytes:
    """Send up to ``total`` bytes; all that comes back."""
    received = bytearray()

    def read() -> None:
        with contextlib.suppress(OSError):
            while data := connection.recv(65536):
                received.extend(data)

    reader = threading.Thread(target=read)
    reader.start()
    with contextlib.suppress(OSError):
        for _ in range(total // len(piece)):
            connection.sendall(piece)
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_WR)
    reader.join(SOON)
    assert not reader.is_alive(), "the server ends it"
    return bytes(received)


def _is_ended(connection: socket.socket) -> bool:
    """Whether the server ends a connection, soon; what it says before is read."""
    try:
        while connection.recv(65536):
            pass
    except TimeoutError:
        return False
    except OSError:
        pass
    return True


START = request("POST", f"/v2/{REPO}/blobs/uploads/", "Transfer-Encoding: chunked")
FLOODS = {
    "lines of a head": (request("GET", MANIFEST)[:-2], b"X-Line: some value of it\r\n" * 2500, 431),
    "empty lines of a head": (request("GET", MANIFEST)[:-2], b"a:\r\n" * 16000, 431),
    "one line of a head": (request("GET", MANIFEST)[:-2] + b"X: ", b"x" * 65536, 431),
    "a name in a head": (request("GET", MANIFEST)[:-2], b"x" * 65536, 431),
    "a target": (b"GET /v2/", b"x" * 65536, 414),
    "a query": (b"GET /v2/?", b"n=1&" * 16000, 414),
    "trailers": (START + b"0\r\n", b"X-Line: some value of it\r\n" * 2500, 431),
    "one trailer": (START + b"0\r\nX: ", b"x" * 65536, 431),
    "an extension of a chunk": (START + b"1;", b"x" * 65536, 431),
    "zeros of a chunk": (START, b"0" * 65536, 431),
}


@pytest.mark.parametrize("name", FLOODS)
def test_what_is_sent_before_or_behind_a_body_is_bounded(patient: RegistryProcess, name: str) -> None:
    begins, piece, status = FLOODS[name]
    before = patient.peak_memory()
    began = time.monotonic()
    with _connect(patient) as connection:
        connection.sendall(begins)
        answer = _flood(connection, piece, 40 * MIB)
    assert answer.startswith(b"HTTP/1.1 %d " % status), answer[:200]
    assert time.monotonic() - began < SOON
    assert patient.peak_memory() - before < 24 * MIB
    _serves(patient)


@pytest.mark.parametrize(
    ("size", "status"), [(8 << 10, 404), ((8 << 10) + 1, 414)], ids=["as long as may be", "longer"]
)
@pytest.mark.parametrize("pieces", [1, 3])
def test_a_target_has_a_longest(patient: RegistryProcess, size: int, status: int, pieces: int) -> None:
    target = "/v2/" + "x" * (size - 4)
    assert _status(patient, request("GET", target), pieces) == status


@pytest.mark.parametrize(("count", "status"), [(127, 200), (128, 431)])
@pytest.mark.parametrize("pieces", [1, 3])
def test_a_head_has_a_number_of_lines(patient: RegistryProcess, count: int, status: int, pieces: int) -> None:
    assert _status(patient, request("GET", MANIFEST, *["X: y"] * count), pieces) == status


@pytest.mark.parametrize(("more", "status"), [(0, 200), (1, 431)])
@pytest.mark.parametrize("pieces", [1, 3, 40])
def test_a_head_has_a_largest_size(patient: RegistryProcess, more: int, status: int, pieces: int) -> None:
    counted = len(MANIFEST) + len(f"Host: {HOST}\r\n") + len("X: \r\n")
    value = "x" * ((64 << 10) - counted + more)
    assert _status(patient, request("GET", MANIFEST, f"X: {value}"), pieces) == status


def _status(server: RegistryProcess, data: bytes, pieces: int) -> int:
    with _connect(server) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        size = -(-len(data) // pieces)
        for start in range(0, len(data), size):
            connection.sendall(data[start : start + size])
            time.sleep(0.002 if pieces > 1 else 0)
        return int(connection.recv(65536).split()[1])


def test_a_pipeline_longer_than_what_may_wait_is_answered_whole(patient: RegistryProcess) -> None:
    count = 3000
    absent = request("GET", "/v2/none/manifests/none")
    with _connect(patient) as connection:
        sender = threading.Thread(target=connection.sendall, args=(absent * count + request("GET", "/livez"),))
        sender.start()
        received = b""
        while not received.endswith(b'{"status":"ok","problems":[]}'):
            data = connection.recv(65536)
            assert data, received[-300:]
            received += data
        sender.join()
    assert received.count(b"HTTP/1.1 404 ") == count


ABSENT = f"/v2/{REPO}/blobs/uploads/absent"
CLOSING = {
    "length": (request("PATCH", ABSENT, "Connection: close", f"Content-Length: {64 * MIB}"), os.urandom(MIB)),
    "chunks": (
        request("PATCH", ABSENT, "Connection: close", "Transfer-Encoding: chunked"),
        b"%x\r\n%b\r\n" % (MIB, os.urandom(MIB)),
    ),
}


@pytest.mark.parametrize("framing", CLOSING)
def test_a_refusal_is_read_though_its_body_still_comes_and_the_connection_ends(
    patient: RegistryProcess, framing: str
) -> None:
    head, piece = CLOSING[framing]
    with _connect(patient) as connection:
        connection.sendall(head + piece)
        assert is_readable(connection, SOON), "it is refused at once"
        for _ in range(8):  # more than what buffers hold is taken, and dropped
            connection.sendall(piece)
        answer = bytearray()
        while data := connection.recv(65536):
            answer += data
    assert answer.startswith(b"HTTP/1.1 404 ")
    assert b"\r\nconnection: close\r\n" in answer
    assert answer.endswith(b"}]}")
    _serves(patient)


@pytest.mark.parametrize("framing", CLOSING)
def test_no_more_than_a_bound_is_dropped_behind_a_refusal(patient: RegistryProcess, framing: str) -> None:
    head, piece = CLOSING[framing]
    before = patient.peak_memory()
    with _connect(patient) as connection:
        connection.sendall(head)
        with pytest.raises(OSError, match=r"reset|[Bb]roken"):
            connection.sendall(piece * 60)
    assert patient.peak_memory() - before < 24 * MIB
    _serves(patient)


SILENT: dict[str, bytes] = {
    "nothing": b"",
    "empty lines": b"\r\n\r\n",
    "half a head": request("GET", MANIFEST)[:-2],
    "a request and half a head": request("GET", MANIFEST) + b"GET ",
    "a request": request("GET", MANIFEST),
    "a request of the application": request("GET", "/v2/"),
    "half a body that is not wanted": request("GET", "/nothing", "Content-Length: 99999") + b"x" * 10,
    "half a body": request("POST", f"/v2/{REPO}/blobs/uploads/", "Content-Length: 99999") + b"x" * 10,
    "half a chunk": START + b"ff\r\nabc",
    "half of the trailers": START + b"0\r\nX: y\r\n",
    "too much": b"GET /" + b"x" * 9000,
}


@pytest.mark.parametrize("sent", SILENT.values(), ids=SILENT)
def test_a_client_that_does_not_go_on_is_left(hasty: RegistryProcess, sent: bytes) -> None:
    with _connect(hasty) as connection:
        connection.sendall(sent)
        assert _is_ended(connection)


def test_a_head_that_comes_too_slowly_is_left_though_it_gets_on(hasty: RegistryProcess) -> None:
    with _connect(hasty) as connection:
        connection.sendall(request("GET", MANIFEST)[:-2])
        deadline = time.monotonic() + SOON
        while not is_readable(connection, 0.2):
            assert time.monotonic() < deadline
            connection.sendall(b"X: y\r\n")
        assert _is_ended(connection)


def test_a_client_that_never_reads_is_left_and_frees_what_it_held(hasty: RegistryProcess) -> None:

    target = f"/v2/{REPO}/blobs/{digest_of(LARGE)}"
    idle = _descriptors(hasty)
    clients = [_connect(hasty) for _ in range(40)]
    for connection in clients:
        connection.sendall(request("GET", target) * 2)
    _serves(hasty)
    _until(lambda: _descriptors(hasty) <= idle + 2)
    for connection in clients:
        connection.close()
    _serves(hasty)


def test_a_client_that_does_not_read_answers_from_memory_is_left(hasty: RegistryProcess) -> None:
    idle = _descriptors(hasty)
    with _connect(hasty) as connection:
        connection.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                connection.send(request("GET", MANIFEST) * 100)
        _until(lambda: _descriptors(hasty) <= idle)


def test_slow_transfers_that_get_on_are_not_cut(hasty: RegistryProcess) -> None:
    """Both take several times as long as any deadline."""
    with Client(hasty.port) as uploading, _connect(hasty) as downloading:
        downloading.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 10)
        downloading.sendall(request("GET", f"/v2/{REPO}/blobs/{digest_of(LARGE)}"))
        session = uploading.start_upload(REPO)
        uploading.begin("PATCH", session, 16 * MIB)
        received = 0
        for _ in range(16):
            uploading.send(LARGE[:MIB])
            received += len(downloading.recv(MIB))
            time.sleep(0.25)
        assert uploading.answer().status == 202
        while received < len(LARGE):
            data = downloading.recv(MIB)
            assert data, f"cut after {received} bytes"
            received += len(data)


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SOON
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def _descriptors(server: RegistryProcess) -> int:
    return len(list(Path(f"/proc/{server.pid}/fd").iterdir()))


@contextlib.contextmanager
def _crowd(server: RegistryProcess, count: int, sent: bytes = b"") -> Iterator[list[socket.socket]]:
    """So many connections on which this was sent."""
    with contextlib.ExitStack() as stack:
        crowd = []
        for _ in range(count):
            connection = stack.enter_context(_connect(server))
            if sent:
                connection.sendall(sent)
            crowd.append(connection)
        yield crowd


@pytest.mark.parametrize(
    ("sent", "workers"), [(b"", 1), (request("GET", MANIFEST)[:-2], 2)], ids=["silent", "half a head"]
)
def test_more_silent_clients_than_there_is_room_for_keep_no_other_out(
    tmp_path: Path, sent: bytes, workers: int
) -> None:
    config: dict[str, dict[str, object]] = {
        "storage": {"fsync": False},
        "http": {"max_connections": 40, "workers": workers},
    }
    with RegistryProcess(tmp_path, config) as server:
        with Client(server.port) as client:
            push(client)
        with _crowd(server, 300, sent):
            for _ in range(3):
                _serves(server)


def test_probes_are_answered_where_all_room_is_taken_by_requests(tmp_path: Path) -> None:
    config: dict[str, dict[str, object]] = {
        "storage": {"fsync": False},
        "http": {"max_connections": 20, "answer_timeout": 600},
    }
    with RegistryProcess(tmp_path, config) as server:
        with Client(server.port) as client:
            push(client)
            client.push(REPO, LARGE)

        target = f"/v2/{REPO}/blobs/{digest_of(LARGE)}"
        with contextlib.ExitStack() as stack, _crowd(server, 20, request("GET", target)) as crowd:
            for number, connection in enumerate(crowd):
                while connection.recv(12, socket.MSG_PEEK) != b"HTTP/1.1 200":  # there was no room for it yet
                    connection.close()
                    connection = crowd[number] = stack.enter_context(_connect(server))  # noqa: PLW2901
                    connection.sendall(request("GET", target))
            for path in ("/livez", "/readyz", "/metrics"):
                assert call(server.port, "GET", path).status == 200
            for _ in range(5):  # a connection that was refused, and is gone, makes no room
                reply = call(server.port, "GET", MANIFEST)
                assert reply.status == 503, ([_open(connection) for connection in crowd], _connections(server))
                assert reply.headers["retry-after"] == "1"
                assert reply.json["errors"][0]["code"] == "UNAVAILABLE"
        _until(lambda: call(server.port, "GET", MANIFEST).status == 200)
        text = call(server.port, "GET", "/metrics").body.decode()
        assert "\nregistry_http_connections " in text


def test_a_process_that_is_out_of_descriptors_goes_on_accepting(tmp_path: Path) -> None:
    with RegistryProcess(tmp_path, {"storage": {"fsync": False}}) as server:
        with Client(server.port) as client:
            push(client)
            client.push(REPO, LARGE)
        _serves(server)
        limits = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)

        target = f"/v2/{REPO}/blobs/{digest_of(LARGE)}"
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (_descriptors(server) + 40, limits[1]))
        with _crowd(server, 60, request("GET", target)):
            for _ in range(10):
                assert call(server.port, "GET", "/livez").status == 200
                assert call(server.port, "GET", MANIFEST).status in {200, 503}
                assert call(server.port, "GET", target, headers={"Range": "bytes=0-9"}).status in {206, 503}
        _until(lambda: call(server.port, "GET", MANIFEST).status == 200)
        assert call(server.port, "GET", target).body == LARGE
        assert "Traceback" not in server.log_path.read_text()


def test_a_server_raises_its_limit_of_descriptors(patient: RegistryProcess) -> None:
    soft, hard = resource.prlimit(patient.pid, resource.RLIMIT_NOFILE)
    assert soft == hard


def test_a_handshake_that_does_not_go_on_is_left(tmp_path: Path, certificate: tuple[Path, Path]) -> None:
    sent = b"\x16\x03\x01"
    pem, key = certificate
    tls = {"certificate": str(pem), "key": str(key), "handshake_timeout": 1}
    server = TlsProcess(tmp_path, {"http": {**TIMEOUTS, "tls": tls, "max_connections": 40}})
    server.context = ssl.create_default_context(cafile=pem)
    with server:
        with _connect(server) as connection:
            connection.sendall(sent)
            assert _is_ended(connection)
        with _connect(server) as plain, server.context.wrap_socket(plain, server_hostname=HOST) as connection:
            assert _is_ended(connection), "silent behind its handshake"
        with _crowd(server, 100, sent):
            assert server.status("/v2/", server.context) == 200


def test_a_connection_that_was_closed_with_bytes_unread_is_seen_though_its_side_was_closed_before() -> None:
    async def story() -> list[bool]:
        loop = asyncio.get_running_loop()
        ours: asyncio.Future[asyncio.Transport] = loop.create_future()
        theirs = socket.socket()

        class Kept(asyncio.Protocol):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                ours.set_result(cast("asyncio.Transport", transport))

            def eof_received(self) -> bool:
                return True

        server = await loop.create_server(Kept, "127.0.0.1", 0)
        theirs.connect(server.sockets[0].getsockname())
        transport = await ours
        transport.write(b"x" * 1000)
        theirs.shutdown(socket.SHUT_WR)
        await asyncio.sleep(0.1)
        before = is_reset(transport)
        theirs.close()
        await asyncio.sleep(0.5)  # what both do is in this kernel
        seen = [before, is_reset(transport)]
        transport.abort()
        server.close()
        return seen

    with contextlib.closing(uvloop.new_event_loop()) as loop:
        assert loop.run_until_complete(story()) == [False, True]

"""What happens to a connection while its request waits for the version of a repository, which PostgreSQL holds back."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import struct
import time
from typing import TYPE_CHECKING

import psycopg
import pytest

from registry.images.repositories import LOOK_SECONDS
from tests.server.remembered import BLOB, IMAGE, MANIFEST, REPO, TAGS, TIMEOUT, push, request
from tests.server.sending import Client, Config
from tests.server.test_drain import exit_code, wait_until_refused
from tests.support.postgresql import Cluster
from tests.support.servers import HOST, RegistryProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

FRESH = LOOK_SECONDS - 2
"""Seconds: a look at storage that is older may be too old before a request is sent, and then the routes answer it."""
AGENT = "User-Agent: who-waits"
ASKED = """SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%string_to_array%'"""


class Held:
    """A registry with an image in memory, and a database that tells no version for the length of a block."""

    def __init__(self, process: RegistryProcess, url: str) -> None:
        self.process = process
        self._address = url.replace("+psycopg", "")
        self._looked = time.monotonic()  # it looks after this, at the first request
        with Client(process.port) as client:
            push(client)
            for method, target in (("GET", MANIFEST), ("HEAD", BLOB), ("GET", TAGS)) * 2:
                assert client.call(method, target).status == 200

    @contextlib.contextmanager
    def back(self) -> Iterator[psycopg.Connection]:
        """Hold versions back; what is done on the connection is committed, and versions let go, at the end."""
        with psycopg.connect(self._address) as connection:
            self._look_again()
            connection.execute("LOCK TABLE repository IN ACCESS EXCLUSIVE MODE")
            yield connection

    def _look_again(self) -> None:
        """Let the registry compare the repository with storage, unless it has done so lately."""
        if time.monotonic() - self._looked < FRESH:
            return
        time.sleep(LOOK_SECONDS)
        self._looked = time.monotonic()
        with Client(self.process.port) as client:
            assert client.call("GET", MANIFEST).status == 200

    def connection(self) -> socket.socket:
        """A new connection to the registry."""
        return socket.create_connection((HOST, self.process.port), timeout=TIMEOUT)

    def ask(self, connection: socket.socket, sent: bytes) -> None:
        """Send something, and return when its first request waits. Use it while versions are held back."""
        connection.sendall(sent)
        with psycopg.connect(self._address, autocommit=True) as watching:
            _until(lambda: watching.execute(ASKED).fetchone() == (1,))

    def lines(self) -> list[dict[str, object]]:
        """What the log says of requests by ``AGENT``."""
        logged = [json.loads(line) for line in self.process.log_path.read_text().splitlines()]
        return [line for line in logged if line.get("user_agent") == AGENT.split()[1]]


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@contextlib.contextmanager
def _holding(directory: Path, cluster: Cluster) -> Iterator[Held]:
    url = cluster.create_current()
    config: Config = {"database": {"url": url}, "log": {"format": "json"}, "storage": {"fsync": False}}
    with RegistryProcess(directory, config) as process:
        yield Held(process, url)


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory, cluster: Cluster) -> Iterator[Held]:
    with _holding(tmp_path_factory.mktemp("held"), cluster) as held:
        yield held


@pytest.fixture
def own_cluster() -> Iterator[Cluster]:
    """A server that no other test uses."""
    running = Cluster()
    yield running
    running.remove()


def _received(connection: socket.socket) -> bytes:
    return b"".join(iter(lambda: connection.recv(65536), b""))


def test_what_is_sent_behind_a_request_that_waits_is_answered_behind_it(held: Held) -> None:
    with held.connection() as connection:
        with held.back():
            held.ask(connection, request("GET", MANIFEST))
            connection.sendall(request("HEAD", BLOB) + request("GET", TAGS))
            connection.sendall(request("GET", "/livez", "Connection: close"))
        received = _received(connection)
    parts = [received.find(part) for part in (IMAGE.data, b"content-length: 800", b'{"name":', b"connection: close")]
    assert parts == sorted(parts)
    assert -1 not in parts
    assert received.count(b"HTTP/1.1 200 OK") == 4


def test_what_comes_in_one_piece_is_answered_in_order(held: Held) -> None:
    with held.connection() as connection:
        with held.back():
            held.ask(connection, request("GET", MANIFEST) + request("GET", "/livez", "Connection: close"))
        received = _received(connection)
    assert received.startswith(b"HTTP/1.1 200 OK")
    assert received.count(b"HTTP/1.1 200 OK") == 2
    assert -1 < received.find(IMAGE.data) < received.find(b"connection: close")


def test_who_has_closed_his_side_gets_his_answer(held: Held) -> None:
    with held.connection() as connection:
        with held.back():
            held.ask(connection, request("GET", MANIFEST))
            connection.shutdown(socket.SHUT_WR)
        assert _received(connection).endswith(IMAGE.data)


def test_an_answer_that_is_no_longer_current_comes_from_the_routes(held: Held) -> None:
    """The same tag, moved behind the back of the process: what it remembers is not what is said."""
    with held.connection() as connection:
        with held.back() as database:
            held.ask(connection, request("GET", MANIFEST))
            database.execute("DELETE FROM tag WHERE name = 'one'")
            database.execute("UPDATE repository SET version = version + 1 WHERE name = %s", [REPO])
        assert connection.recv(65536).startswith(b"HTTP/1.1 404 ")
    with Client(held.process.port) as client:
        push(client)
        assert [client.call("GET", MANIFEST).body for _ in range(2)] == [IMAGE.data] * 2


def test_a_client_that_goes_away_is_noted_once_and_no_other_is_disturbed(tmp_path: Path, cluster: Cluster) -> None:
    """Whether its answer is current or no longer current."""
    with _holding(tmp_path, cluster) as held:
        for changed in (False, True):
            with held.back() as database:
                with held.connection() as connection:
                    held.ask(connection, request("GET", MANIFEST, AGENT))
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset
                if changed:
                    database.execute("UPDATE repository SET version = version + 1")
            with Client(held.process.port) as client:
                assert client.call("GET", MANIFEST).body == IMAGE.data
        held.process.stop()
        assert [(line["method"], line["path"]) for line in held.lines()] == [("GET", MANIFEST)] * 2
        assert "Traceback" not in held.process.log_tail()


def test_a_request_that_waits_while_the_server_drains_is_answered(tmp_path: Path, cluster: Cluster) -> None:
    with _holding(tmp_path, cluster) as held:
        with held.connection() as connection:
            with held.back():
                held.ask(connection, request("GET", MANIFEST))
                os.kill(held.process.pid, signal.SIGTERM)
                wait_until_refused(held.process.port, TIMEOUT)
            received = _received(connection)
        assert received.endswith(IMAGE.data)
        assert b"\r\nconnection: close\r\n" in received
        assert exit_code(held.process, 60) == 0
        held.process.kill()


def test_a_database_that_is_lost_meanwhile_is_said_by_the_routes(tmp_path: Path, own_cluster: Cluster) -> None:
    with _holding(tmp_path, own_cluster) as held:
        with held.connection() as connection:
            with contextlib.suppress(psycopg.OperationalError), held.back():
                held.ask(connection, request("GET", MANIFEST))
                own_cluster.stop()
            head = connection.recv(65536)
        assert head.startswith(b"HTTP/1.1 503 ")
        assert b"\r\nretry-after: " in head
        own_cluster.start()
        with Client(held.process.port) as client:
            _until(lambda: client.call("GET", MANIFEST).status == 200)

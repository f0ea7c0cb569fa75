"""What the protocol does with one connection, and when: the test is the transport."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import pytest
from uvicorn.server import ServerState

from registry.server.protocol import RegistryProtocol
from registry.server.serving_configuration import ServingConfiguration
from tests.api.service import serving
from tests.server.remembered import ABSENT, CONFIG, IMAGE, LAYER, MANIFEST, REPO, TIMEOUT, request

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.api.service import Service
    from tests.support.postgresql import Cluster


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


@pytest.fixture(params=["sqlite", "postgresql"])
def service(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Service]:
    url = request.getfixturevalue("cluster").create() if request.param == "postgresql" else None
    yield from _serving(tmp_path, url)


@pytest.fixture
def on_sqlite(tmp_path: Path) -> Iterator[Service]:
    """Where memory is told at once whether it is current."""
    yield from _serving(tmp_path, None)


@pytest.fixture
def on_postgresql(tmp_path: Path, cluster: Cluster) -> Iterator[Service]:
    """Where a query tells it."""
    yield from _serving(tmp_path, cluster.create())


def _serving(directory: Path, url: str | None) -> Iterator[Service]:
    with serving(directory, {"database": {"url": url}} if url else {}) as service:
        for blob in (CONFIG, LAYER):
            service.push_blob(REPO, blob)
        service.push(REPO, "one", IMAGE)
        yield service


def _connect(service: Service) -> tuple[RegistryProtocol, Wire]:
    configuration = ServingConfiguration(
        service.observation, service.context.settings.http, ws="none", proxy_headers=False, log_config=None
    )
    protocol, wire = RegistryProtocol(configuration, ServerState(), {}), Wire()
    protocol.connection_made(cast("asyncio.Transport", wire))
    return protocol, wire


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(TIMEOUT):
        while not condition():  # noqa: ASYNC110 - the transport that would tell is what the test plays
            await asyncio.sleep(0.01)


def test_a_remembered_read_is_answered_before_data_received_returns(on_sqlite: Service) -> None:
    on_sqlite.call("GET", MANIFEST)

    async def story() -> None:
        protocol, wire = _connect(on_sqlite)
        for count in range(1, 4):
            protocol.data_received(request("GET", MANIFEST))
            assert wire.written.count(b"HTTP/1.1 200 OK") == wire.written.count(IMAGE.data) == count
        assert cast("object", protocol.cycle) is None, "no task was made for it"
        protocol.connection_lost(None)

    on_sqlite.run(story())


def test_a_look_at_the_database_is_shared_only_by_what_waited_when_the_turn_began(on_sqlite: Service) -> None:
    on_sqlite.call("GET", MANIFEST)
    looks: list[int | None] = []
    currency = cast("Any", on_sqlite.context.memory)._currency._inner
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
        protocols.extend(_connect(on_sqlite)[0] for _ in range(3))
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
        protocol, wire = _connect(on_sqlite)
        protocols.append(protocol)
        protocol.data_received(request("GET", MANIFEST, "Content-Length: 4") + b"ab")
        await _until(lambda: IMAGE.data in wire.written)
        return await looks_for((0, one), (3, b"cd" + one))

    protocols: list[RegistryProtocol] = []
    one = request("GET", MANIFEST)
    assert on_sqlite.run(story()) == [1, 1, 2, 2, 2, 2, 1, 2, 2]


def test_a_query_of_versions_is_shared_by_what_arrives_in_a_turn_and_needs_no_task(on_postgresql: Service) -> None:
    for _ in range(2):  # the first is remembered, the second connects
        on_postgresql.call("GET", MANIFEST)
    one = request("GET", MANIFEST)

    async def story() -> None:
        connections = [_connect(on_postgresql) for _ in range(3)]
        queries = _count_queries(on_postgresql)
        for turn in range(1, 4):
            for protocol, _ in connections:
                protocol.data_received(one)
            await _until(partial(_have, [wire for _, wire in connections], turn))
            assert len(queries) == turn
        for protocol, _ in connections:
            assert cast("object", protocol.cycle) is None
            assert protocol.server_state.total_requests == 3
            protocol.connection_lost(None)

    on_postgresql.run(story())


def _have(wires: list[Wire], answers: int) -> bool:
    return all(wire.written.count(IMAGE.data) == answers for wire in wires)


def _count_queries(service: Service) -> list[object]:
    """Fills with the names that are asked for from now on."""
    queries: list[object] = []
    connection = cast("Any", service.context.memory)._versions._connection
    send = connection.send

    def counted(names: object) -> None:
        queries.append(names)
        send(names)

    connection.send = counted
    return queries


class Versions:
    """Tells a version when the test says so."""

    def __init__(self, version: int) -> None:
        self._version = version
        self.asking: list[Callable[[int | None], object]] = []

    def ask(self, _repository: str, tell: Callable[[int | None], object]) -> None:
        """See VersionQuery."""
        self.asking.append(tell)

    def tell(self, number: int) -> None:
        """Tell one of those who asked."""
        self.asking[number](self._version)

    def close(self) -> None:
        """Nothing is held."""


def test_what_is_told_late_answers_no_other_request(on_postgresql: Service) -> None:
    """The query that it came from began before that request arrived."""
    on_postgresql.call("GET", MANIFEST)
    memory = cast("Any", on_postgresql.context.memory)
    memory._versions.close()
    memory._versions = versions = Versions(memory._answers[MANIFEST, b""].version)

    async def story() -> None:
        protocol, wire = _connect(on_postgresql)
        protocol.data_received(request("GET", MANIFEST))
        protocol.data_received(request("GET", ABSENT))  # the first gets a task, and asks once more
        await _until(lambda: len(versions.asking) == 2)
        versions.tell(1)
        await _until(lambda: b"HTTP/1.1 404" in wire.written)
        before = len(wire.written)
        protocol.data_received(request("GET", MANIFEST))
        versions.tell(0)
        await asyncio.sleep(0)
        assert len(wire.written) == before
        versions.tell(2)
        assert wire.written.count(IMAGE.data) == 2
        protocol.connection_lost(None)

    on_postgresql.run(story())


def test_who_does_not_take_his_answers_waits_for_room(service: Service) -> None:
    service.call("GET", MANIFEST)

    async def story() -> None:
        protocol, wire = _connect(service)
        protocol.pause_writing()
        protocol.data_received(request("GET", MANIFEST))
        await asyncio.sleep(0.1)
        assert not wire.written.endswith(IMAGE.data)
        protocol.resume_writing()
        await _until(lambda: IMAGE.data in wire.written)
        protocol.connection_lost(None)

    service.run(story())


def test_no_more_is_read_of_who_sends_faster_than_it_is_answered(service: Service) -> None:
    async def story() -> None:
        protocol, wire = _connect(service)
        waiting: list[int] = []
        wire.resume_reading = lambda: waiting.append(len(protocol.pipeline))  # type: ignore[method-assign]
        protocol.data_received(request("GET", ABSENT) * 5)
        await _until(lambda: wire.written.count(b"HTTP/1.1 404") == 5)
        assert waiting == [0]
        protocol.connection_lost(None)

    service.run(story())


def test_a_database_that_cannot_be_asked_is_not_the_clients_fault(on_sqlite: Service) -> None:
    on_sqlite.call("GET", MANIFEST)
    cast("Any", on_sqlite.context.memory)._currency.close()

    async def story() -> None:
        protocol, wire = _connect(on_sqlite)
        protocol.data_received(request("GET", MANIFEST))
        await _until(lambda: IMAGE.data in wire.written)
        assert wire.written.startswith(b"HTTP/1.1 200")
        protocol.connection_lost(None)

    on_sqlite.run(story())

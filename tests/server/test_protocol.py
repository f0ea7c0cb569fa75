"""What the protocol does with one connection, and when: the test is the transport."""

from __future__ import annotations

import asyncio
import re
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

    def can_write_eof(self) -> bool:
        """Only both sides of it close."""
        return False

    def pause_reading(self) -> None:
        """Nothing arrives by itself."""

    def resume_reading(self) -> None:
        """As ``pause_reading``."""

    def abort(self) -> None:
        """Close it."""
        self.closed = True


@pytest.fixture(params=["sqlite", "postgresql"])
def service(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Service]:
    url = request.getfixturevalue("new_database")() if request.param == "postgresql" else None
    yield from _serving(tmp_path, url)


@pytest.fixture
def on_sqlite(tmp_path: Path) -> Iterator[Service]:
    yield from _serving(tmp_path, None)


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


def test_a_look_at_the_database_is_shared_by_what_arrives_in_a_turn_and_needs_no_task(service: Service) -> None:
    for _ in range(2):  # the first is remembered, the second connects
        service.call("GET", MANIFEST)
    one = request("GET", MANIFEST)

    async def story() -> None:
        connections = [_connect(service) for _ in range(3)]
        looks = _count_looks(service)
        for turn in range(1, 4):
            for protocol, _ in connections:
                protocol.data_received(one)
            await _until(partial(_have, [wire for _, wire in connections], turn))
            assert len(looks) == turn
        for protocol, _ in connections:
            assert cast("object", protocol.cycle) is None
            assert protocol.server_state.total_requests == 3
            protocol.connection_lost(None)

    service.run(story())


def test_requests_that_are_sent_ahead_are_answered_in_their_order(service: Service) -> None:
    service.call("GET", MANIFEST)

    async def story() -> None:
        protocol, wire = _connect(service)
        protocol.data_received(request("GET", MANIFEST) + request("GET", ABSENT) + request("GET", MANIFEST))
        await _until(lambda: wire.written.count(b"HTTP/1.1 ") == 3)
        assert re.findall(rb"HTTP/1.1 (\d+)", wire.written) == [b"200", b"404", b"200"]
        protocol.connection_lost(None)

    service.run(story())


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_target_that_is_none_is_refused_behind_another_request(on_sqlite: Service, method: str) -> None:
    async def story() -> None:
        protocol, wire = _connect(on_sqlite)
        protocol.data_received(request("GET", ABSENT))
        await _until(lambda: b"HTTP/1.1 404" in wire.written)
        protocol.data_received(request(method, "/v2/\u00e9"))
        await _until(lambda: b"HTTP/1.1 400" in wire.written)
        protocol.connection_lost(None)

    on_sqlite.run(story())


def _have(wires: list[Wire], answers: int) -> bool:
    return all(wire.written.count(IMAGE.data) == answers for wire in wires)


def _count_looks(service: Service) -> list[object]:
    """Fills with the names that are asked for from now on."""
    looks: list[object] = []
    freshness = cast("Any", service.context.cache)._freshness
    if service.registry.backends.database.is_sqlite:
        asked, method = freshness._versions, "read"
    else:
        asked, method = freshness._connection, "send"
    look = getattr(asked, method)

    def counted(names: object) -> object:
        looks.append(names)
        return look(names)

    setattr(asked, method, counted)
    return looks


class Held:
    """Answers a question when the test says so."""

    def __init__(self) -> None:
        self.callbacks: list[Callable[[bool], object]] = []

    def ask(self, _repository: str, _version: int, callback: Callable[[bool], object]) -> None:
        """See Freshness."""
        self.callbacks.append(callback)

    def close(self) -> None:
        """Nothing is held."""


def test_an_answer_that_comes_late_is_for_no_other_request(on_sqlite: Service) -> None:
    """The look that it came from began before that request arrived."""
    on_sqlite.call("GET", MANIFEST)
    cast("Any", on_sqlite.context.cache)._freshness.close()
    cast("Any", on_sqlite.context.cache)._freshness = held = Held()

    async def story() -> None:
        protocol, wire = _connect(on_sqlite)
        protocol.data_received(request("GET", MANIFEST))
        protocol.data_received(request("GET", ABSENT))  # the first gets a task, and asks once more
        await _until(lambda: len(held.callbacks) == 2)
        held.callbacks[1](True)
        await _until(lambda: b"HTTP/1.1 404" in wire.written)
        before = len(wire.written)
        protocol.data_received(request("GET", MANIFEST))
        held.callbacks[0](True)
        await asyncio.sleep(0)
        assert len(wire.written) == before
        held.callbacks[2](True)
        assert wire.written.count(IMAGE.data) == 2
        protocol.connection_lost(None)

    on_sqlite.run(story())


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
    cast("Any", on_sqlite.context.cache)._freshness.close()

    async def story() -> None:
        protocol, wire = _connect(on_sqlite)
        protocol.data_received(request("GET", MANIFEST))
        await _until(lambda: IMAGE.data in wire.written)
        assert wire.written.startswith(b"HTTP/1.1 200")
        protocol.connection_lost(None)

    on_sqlite.run(story())

"""A worker with more connections than another leaves what comes to it, for a moment."""

from __future__ import annotations

import asyncio
import copy
import socket
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from registry.config.sections import HttpSettings
from registry.server.acceptor import Acceptor
from registry.server.balance import Balance
from tests.support.servers import HOST

if TYPE_CHECKING:
    from collections.abc import Iterator

SECONDS = 60.0
CLIENTS = 4


@pytest.fixture
def workers() -> list[Balance]:
    """What three workers have of one balance, as after a fork."""
    shared = Balance(3)
    each = [copy.copy(shared) for _ in range(3)]
    for place, balance in enumerate(each):
        balance.take_place(place)
    return each


def ahead(workers: list[Balance]) -> list[bool]:
    return [balance.is_ahead() for balance in workers]


def test_a_worker_is_ahead_of_any_that_has_fewer(workers: list[Balance]) -> None:
    assert ahead(workers) == [False, False, False], "each takes what comes"
    workers[1].note(1)
    assert ahead(workers) == [False, True, False]
    for balance in workers:
        balance.note(1)
    assert ahead(workers) == [False, False, False]
    workers[2].note(0)
    assert ahead(workers) == [True, True, False]


def test_a_worker_that_replaces_another_has_none(workers: list[Balance]) -> None:
    workers[0].note(7)
    copy.copy(workers[1]).take_place(0)
    assert not workers[0].is_ahead()


class Taken:
    """What an acceptor makes of each connection: a protocol that does nothing."""

    def __init__(self) -> None:
        self.connections: set[Any] = set()
        self.app = SimpleNamespace(connection_ended=print, connections=lambda _count: None)
        self.count = 0
        self.has_all = asyncio.Event()
        """Set with the last."""

    def __call__(self) -> Any:
        return _Protocol(self)


class _Protocol(asyncio.Protocol):
    def __init__(self, taken: Taken) -> None:
        self.connections, self.app, self.is_spare = taken.connections, taken.app, False
        self._taken = taken

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._taken.count += 1
        if self._taken.count == CLIENTS:
            self._taken.has_all.set()
        self._transport = transport
        transport.close()


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server((HOST, 0)) as listening:
        yield listening


@pytest.mark.parametrize("is_ahead", [False, True])
def test_what_no_other_takes_is_taken(listener: socket.socket, workers: list[Balance], is_ahead: bool) -> None:
    async def serve() -> int:
        taken = Taken()
        loop = asyncio.get_running_loop()
        acceptor = Acceptor(loop, listener, cast("Any", taken), HttpSettings(), None, workers[0])
        if is_ahead:
            acceptor._note = lambda: workers[0].note(5)  # type: ignore[method-assign]
        clients = [socket.create_connection(listener.getsockname()) for _ in range(CLIENTS)]
        async with asyncio.timeout(SECONDS):
            await taken.has_all.wait()
        acceptor.close()
        for client in clients:
            client.close()
        return taken.count

    assert asyncio.run(serve()) == CLIENTS


def test_one_that_is_closed_while_it_leaves_what_comes_takes_nothing_more(
    listener: socket.socket, workers: list[Balance]
) -> None:
    async def serve() -> int:
        taken = Taken()
        loop = asyncio.get_running_loop()
        acceptor = Acceptor(loop, listener, cast("Any", taken), HttpSettings(), None, workers[0])
        acceptor.close()
        with socket.create_connection(listener.getsockname()):
            acceptor._take_what_is_left()
            await asyncio.sleep(0)
        return taken.count

    assert asyncio.run(serve()) == 0

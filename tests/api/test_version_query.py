"""One query at a time, and every caller answered by one that began after he asked: with a server that a test plays."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Collection, Coroutine, Mapping
from typing import Any, TypeVar

import pytest
import uvloop

from registry.api.cache import postgresql
from registry.api.cache.postgresql import MOST, VersionQuery
from registry.database.errors import DatabaseUnavailable

T = TypeVar("T")
REPO = "team/app"


class Server:
    """What is committed, and queries that are answered when the test says so with what they saw when they began."""

    def __init__(self) -> None:
        self.committed = {REPO: 1}
        self.queries: list[list[str]] = []
        self.connections: list[Connection] = []
        self.down = False

    def connect(self) -> Connection:
        """A new connection."""
        if self.down:
            raise DatabaseUnavailable("down")
        self.connections.append(Connection(self))
        return self.connections[-1]

    @property
    def open(self) -> int:
        """Connections that are not closed."""
        return sum(not connection.closed for connection in self.connections)

    def answer(self) -> None:
        """Let the query that is on its way return."""
        self.connections[-1].far.send(b"!")

    def lose(self) -> None:
        """Cut every connection."""
        for connection in [connection for connection in self.connections if not connection.closed]:
            connection.lost = True
            connection.far.send(b"!")


class Connection:
    """A connection to it."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._near, self.far = socket.socketpair()
        self._seen: dict[str, int] = {}
        self.lost = self.closed = False

    def fileno(self) -> int:
        """The socket."""
        return self._near.fileno()

    def send(self, names: Collection[str]) -> None:
        """Begin a query: it sees what is committed now."""
        if self.lost:
            raise DatabaseUnavailable("lost")
        self._server.queries.append(sorted(names))
        self._seen = {name: version for name, version in self._server.committed.items() if name in names}

    def receive(self) -> Mapping[str, int] | None:
        """What the query saw."""
        self._near.recv(1)
        if self.lost:
            raise DatabaseUnavailable("lost")
        return self._seen

    def close(self) -> None:
        """Close both sides."""
        self.closed = True
        self._near.close()
        self.far.close()


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Callable[[Coroutine[Any, Any, T]], T]:
    """Runs a story in an event loop of each kind."""

    def run(story: Coroutine[Any, Any, T]) -> T:
        with asyncio.Runner(loop_factory=request.param) as runner:
            return runner.run(story)

    return run


async def _of(query: VersionQuery, repository: str) -> int | None:
    """The version that is told."""
    told: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()
    query.ask(repository, lambda version: None if told.done() else told.set_result(version))
    return await told


async def _sent(server: Server, count: int) -> None:
    async with asyncio.timeout(10):
        while len(server.queries) < count:  # noqa: ASYNC110 - the server is no task
            await asyncio.sleep(0.001)


Run = Callable[[Coroutine[Any, Any, None]], None]


def test_who_asks_while_a_query_is_on_its_way_is_not_answered_by_it(server: Server, run: Run) -> None:
    """The push is committed, and acknowledged, while a query is on its way that did not see it."""

    async def story() -> None:
        query = VersionQuery(server.connect)
        early = asyncio.create_task(_of(query, REPO))
        await _sent(server, 1)
        server.committed[REPO] = 2
        late = asyncio.create_task(_of(query, REPO))
        await asyncio.sleep(0)
        server.answer()
        assert await early == 1
        assert not late.done()
        await _sent(server, 2)
        server.answer()
        assert await late == 2
        query.close()

    run(story())
    assert server.open == 0


def test_all_who_wait_for_a_hanging_query_share_the_next(server: Server, run: Run) -> None:
    async def story() -> None:
        server.committed |= {f"r/{number}": number for number in range(16)}
        query = VersionQuery(server.connect)
        first = asyncio.create_task(_of(query, REPO))
        await _sent(server, 1)
        others = [asyncio.create_task(_of(query, f"r/{number}")) for number in range(16)]
        await asyncio.sleep(0.02)
        assert server.queries == [[REPO]]
        server.answer()
        await _sent(server, 2)
        server.answer()
        assert await asyncio.gather(first, *others) == [1, *range(16)]
        query.close()

    run(story())
    assert server.queries[1:] == [sorted(f"r/{number}" for number in range(16))]


def test_a_query_does_not_grow_without_bound(server: Server, run: Run) -> None:
    async def story() -> None:
        query = VersionQuery(server.connect)
        waiting = [asyncio.create_task(_of(query, f"r/{number}")) for number in range(MOST + 5)]
        for count in (1, 2):
            await _sent(server, count)
            server.answer()
        assert set(await asyncio.gather(*waiting)) == {None}, "there are none"
        query.close()

    run(story())
    assert [len(names) for names in server.queries] == [MOST, 5]


def test_a_connection_that_was_lost_while_idle_is_made_again(server: Server, run: Run) -> None:
    async def story() -> None:
        query = VersionQuery(server.connect)
        for count in (1, 2):
            asking = asyncio.create_task(_of(query, REPO))
            await _sent(server, count)
            server.answer()
            assert await asking == 1
            server.lose()
        query.close()

    run(story())
    assert server.open == 0


def test_a_database_that_is_lost_is_unknown_to_all_who_wait_and_found_again(server: Server, run: Run) -> None:
    async def story() -> None:
        query = VersionQuery(server.connect)
        asking = [asyncio.create_task(_of(query, REPO)) for _ in range(3)]
        await _sent(server, 1)
        server.down = True
        server.lose()
        async with asyncio.timeout(postgresql.SECONDS / 2):  # not only when the patience with the server ends
            assert await asyncio.gather(*asking) == [None] * 3
            assert await _of(query, REPO) is None
        server.down = False
        again = asyncio.create_task(_of(query, REPO))
        await _sent(server, 2)
        server.answer()
        assert await again == 1
        query.close()

    run(story())
    assert server.open == 0


def test_a_server_that_says_nothing_is_lost_after_a_while(
    server: Server, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgresql, "SECONDS", 0.05)

    async def story() -> None:
        query = VersionQuery(server.connect)
        assert await _of(query, REPO) is None
        assert server.open == 0
        query.close()

    run(story())


def test_who_gives_up_does_not_disturb_the_others(server: Server, run: Run) -> None:
    async def story() -> None:
        query = VersionQuery(server.connect)
        leaving, staying = [asyncio.create_task(_of(query, REPO)) for _ in range(2)]
        await _sent(server, 1)
        leaving.cancel()
        await asyncio.sleep(0)
        server.answer()
        assert await staying == 1
        query.close()

    run(story())


def test_who_raises_when_he_is_told_does_not_keep_the_others_waiting(server: Server, run: Run) -> None:
    async def story() -> None:
        raised: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: raised.append(context["exception"]))
        query = VersionQuery(server.connect)

        def fail(version: int | None) -> None:
            raise ValueError(version)

        others: list[asyncio.Future[int | None]] = [asyncio.get_running_loop().create_future() for _ in range(2)]
        for tell in (fail, *(other.set_result for other in others)):
            query.ask(REPO, tell)
        await _sent(server, 1)
        server.answer()
        async with asyncio.timeout(postgresql.SECONDS / 2):
            assert await asyncio.gather(*others) == [1, 1]
        assert [type(error) for error in raised] == [ValueError]
        query.close()

    run(story())


@pytest.mark.parametrize("closed", [True, False], ids=["closed", "the loop ended"])
def test_the_end_frees_the_connection_and_answers_who_waits(server: Server, run: Run, closed: bool) -> None:
    query = VersionQuery(server.connect)

    async def story() -> None:
        asking = asyncio.create_task(_of(query, REPO))
        await _sent(server, 1)
        if closed:
            query.close()
            assert await asking is None
            assert await _of(query, REPO) is None

    run(story())
    query.close()
    assert server.open == 0

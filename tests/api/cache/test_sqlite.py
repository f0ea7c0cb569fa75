"""One look at the database for the questions of a turn of the event loop, after the last of them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

import pytest
import uvloop

from registry.api.cache.sqlite import SqliteFreshness
from registry.database.errors import DatabaseUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Coroutine, Mapping

    from registry.database.sqlite.repository_versions import RepositoryVersions

    Run = Callable[[Coroutine[object, object, None]], None]

REPO = "team/app"


class Versions:
    """What is committed, and how often it was looked at."""

    def __init__(self) -> None:
        self.committed = {REPO: 1}
        self.looks: list[list[str]] = []
        self.lost = False

    def read(self, names: Collection[str]) -> Mapping[str, int]:
        """See RepositoryVersions."""
        self.looks.append(sorted(names))
        if self.lost:
            raise DatabaseUnavailable("lost")
        return dict(self.committed)

    def close(self) -> None:
        """See RepositoryVersions."""
        self.lost = True


@pytest.fixture
def versions() -> Versions:
    return Versions()


@pytest.fixture
def freshness(versions: Versions) -> SqliteFreshness:
    return SqliteFreshness(cast("RepositoryVersions", versions))


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    """Runs a story in an event loop of each kind: they order what they run in their own ways."""

    def run(story: Coroutine[object, object, None]) -> None:
        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.run(story)

    return run


def question(freshness: SqliteFreshness, version: int, repository: str = REPO) -> asyncio.Future[bool]:
    """The answer to come."""
    answered: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
    freshness.ask(repository, version, answered.set_result)
    return answered


def test_the_questions_of_a_turn_share_a_look_and_the_next_turn_has_its_own(
    versions: Versions, freshness: SqliteFreshness, run: Run
) -> None:
    async def story() -> None:
        for _ in range(2):
            asked = [question(freshness, 1), question(freshness, 2), question(freshness, 1, "team/other")]
            assert not any(each.done() for each in asked)
            assert await asyncio.gather(*asked) == [True, False, False]

    run(story())
    assert versions.looks == [[REPO, "team/other"]] * 2


def test_a_look_sees_what_was_committed_after_a_question(
    versions: Versions, freshness: SqliteFreshness, run: Run
) -> None:
    async def story() -> None:
        asked = question(freshness, 1)
        versions.committed[REPO] = 2
        assert not await asked

    run(story())


def test_the_questions_of_one_turn_are_not_answered_by_the_look_of_another(
    versions: Versions, freshness: SqliteFreshness, run: Run
) -> None:
    """A push is committed between two turns, and the request that follows it arrives with the second."""

    async def story() -> None:
        loop = asyncio.get_running_loop()
        arrived: asyncio.Future[bool] = loop.create_future()

        class Receiver(asyncio.DatagramProtocol):
            def datagram_received(self, _data: bytes, _peer: object) -> None:
                freshness.ask(REPO, 1, arrived.set_result)

        transport, _ = await loop.create_datagram_endpoint(Receiver, local_addr=("127.0.0.1", 0))
        try:
            before = question(freshness, 1)
            assert await before
            versions.committed[REPO] = 2
            transport.sendto(b"wake", transport.get_extra_info("sockname"))
            assert not await arrived
        finally:
            transport.close()

    run(story())
    assert len(versions.looks) == 2


def test_a_lost_database_answers_false(versions: Versions, freshness: SqliteFreshness, run: Run) -> None:
    async def story() -> None:
        versions.lost = True
        assert not await question(freshness, 1)
        versions.lost = False
        assert await question(freshness, 1)

    run(story())


def test_closing_answers_what_waits_and_what_still_comes(
    versions: Versions, freshness: SqliteFreshness, run: Run
) -> None:
    async def story() -> None:
        asked = question(freshness, 1)
        freshness.close()
        assert not await asked
        assert not await question(freshness, 1)

    run(story())
    assert versions.lost

"""One look at the database for what waited when a turn of the event loop began, a look of its own for all else."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
import uvloop

from registry.api.cache.turn_currency import TurnCurrency

if TYPE_CHECKING:
    from collections.abc import Callable


class Looks:
    """A currency whose mark tells how often it was asked for."""

    def __init__(self) -> None:
        self.count = 0

    def mark(self) -> int:
        """Another number each time."""
        self.count += 1
        return self.count

    def version(self, repository: str) -> int:
        """Of no importance."""
        return len(repository)

    def close(self) -> None:
        """Nothing is held."""


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def new_loop(request: pytest.FixtureRequest) -> Callable[[], asyncio.AbstractEventLoop]:
    """Both event loops order what they run in their own way."""
    chosen: Callable[[], asyncio.AbstractEventLoop] = request.param
    return chosen


async def _marks(currency: TurnCurrency, waited: str) -> list[int | None]:
    """What requests get one after the other in one turn: "w" waited, "n" did not."""
    return [currency.mark_for_request(waited=each == "w") for each in waited]


def test_what_waited_shares_a_look_and_the_next_turn_has_its_own(
    new_loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    currency = TurnCurrency(Looks())

    async def story() -> list[list[int | None]]:
        turns = []
        for waited in ("www", "ww", "w"):
            turns.append(await _marks(currency, waited))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        return turns

    with asyncio.Runner(loop_factory=new_loop) as runner:
        assert runner.run(story()) == [[1, 1, 1], [2, 2], [3]]


def test_what_did_not_wait_looks_for_itself_and_shares_nothing() -> None:
    currency = TurnCurrency(Looks())
    with asyncio.Runner() as runner:
        assert runner.run(_marks(currency, "wnnwnw")) == [1, 2, 3, 1, 4, 1]


def test_a_turn_in_which_somebody_asked_is_counted() -> None:
    currency = TurnCurrency(Looks())

    async def story() -> list[int]:
        seen = []
        for waited in ("w", "n", "wn", ""):
            await _marks(currency, waited)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            seen.append(currency.turn)
        return seen

    with asyncio.Runner() as runner:
        assert runner.run(story()) == [1, 2, 3, 3]


def test_the_mark_of_a_turn_is_gone_before_the_loop_waits_for_sockets_again(
    new_loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    """A task runs between two waits: what it asks must not be what the next wait's requests are given."""
    looks = Looks()
    currency = TurnCurrency(looks)

    async def story() -> tuple[int | None, int | None]:
        loop = asyncio.get_running_loop()
        arrived: asyncio.Future[int | None] = loop.create_future()

        class Receiver(asyncio.DatagramProtocol):
            def datagram_received(self, _data: bytes, _peer: object) -> None:
                if not arrived.done():
                    arrived.set_result(currency.mark_for_request(waited=True))

        transport, _ = await loop.create_datagram_endpoint(Receiver, local_addr=("127.0.0.1", 0))
        try:
            transport.sendto(b"wake", transport.get_extra_info("sockname"))
            asked = currency.mark_for_request(waited=False)
            return asked, await arrived
        finally:
            transport.close()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        asked, got = runner.run(story())
    assert (asked, got) == (1, 2)

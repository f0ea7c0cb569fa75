"""How long a connection may wait for its client, with a clock and connections that the test plays."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from registry.config.sections import HttpSettings
from registry.server.deadlines import LINGER_SECONDS, Deadlines, Wait

if TYPE_CHECKING:
    from collections.abc import Callable

LIMITS = {
    Wait.FIRST_BYTE: 3.0,
    Wait.HEAD: 5.0,
    Wait.NEXT_REQUEST: 7.0,
    Wait.BODY: 11.0,
    Wait.ANSWER: 13.0,
    Wait.LINGER: LINGER_SECONDS,
    Wait.FIRST_BYTE_OF_SPARE: 2.0,
}
HTTP = HttpSettings(
    first_byte_timeout=3, head_timeout=5, keep_alive_timeout=7, idle_timeout=11, answer_timeout=13, max_connections=9
)


class Connection:
    """Waits for what the test says."""

    def __init__(self, wait: Wait, progress: object = None) -> None:
        self.wait = wait
        self.progress = progress
        self.ended: Wait | str | None = None

    def standing(self) -> tuple[Wait, object]:
        """See ``Watched``."""
        return self.wait, self.progress

    def expire(self, wait: Wait) -> None:
        """See ``Watched``."""
        self.ended = wait

    def leave(self) -> None:
        """See ``Watched``."""
        self.ended = "left"


@pytest.fixture
def reasons() -> list[str]:
    """Why connections were ended."""
    return []


@pytest.fixture
def deadlines(reasons: list[str]) -> Deadlines:
    return Deadlines(HTTP, reasons.append)


@pytest.mark.parametrize("wait", LIMITS, ids=lambda wait: wait.name)
def test_a_wait_ends_at_its_deadline_and_not_before(deadlines: Deadlines, reasons: list[str], wait: Wait) -> None:
    connection = Connection(wait)
    deadlines.look([connection], 100.0)
    deadlines.look([connection], 100.0 + LIMITS[wait] - 0.1)
    assert not reasons
    deadlines.look([connection], 100.0 + LIMITS[wait])
    assert connection.ended is wait
    assert reasons == [wait.value]


def test_the_application_may_take_any_time(deadlines: Deadlines) -> None:
    connection = Connection(Wait.US)
    for now in (0.0, 1e6):
        deadlines.look([connection], now)
    assert connection.ended is None


def _progress(connection: Connection) -> None:
    connection.progress = object()


def _another_wait(connection: Connection) -> None:
    connection.wait = Wait.HEAD if connection.wait is Wait.ANSWER else Wait.ANSWER


def _the_application(connection: Connection) -> None:
    connection.wait = Wait.US


@pytest.mark.parametrize("change", [_progress, _another_wait])
def test_a_wait_begins_anew_with_each_progress(deadlines: Deadlines, change: Callable[[Connection], None]) -> None:
    connection = Connection(Wait.ANSWER)
    for now in range(0, 400, 4):
        deadlines.look([connection], float(now))
        change(connection)
    assert connection.ended is None


def test_a_wait_begins_anew_behind_the_application(deadlines: Deadlines, reasons: list[str]) -> None:
    connection = Connection(Wait.NEXT_REQUEST)
    deadlines.look([connection], 0.0)
    connection.wait = Wait.US
    deadlines.look([connection], 6.0)
    connection.wait = Wait.NEXT_REQUEST
    deadlines.look([connection], 12.0)
    assert not reasons
    deadlines.look([connection], 19.0)
    assert connection.ended is Wait.NEXT_REQUEST


def test_room_is_made_by_what_waits_longest_for_its_client(deadlines: Deadlines, reasons: list[str]) -> None:
    old, busy, head, young = (Connection(wait) for wait in (Wait.NEXT_REQUEST, Wait.ANSWER, Wait.HEAD, Wait.FIRST_BYTE))
    deadlines.look([busy, old], 0.0)
    deadlines.look([busy, head, old], 1.0)
    deadlines.look([young, busy, head, old], 2.0)
    assert deadlines.make_room(2, {old, busy, head, young}) == 2
    assert [connection.ended for connection in (old, busy, head, young)] == ["left", None, "left", None]
    assert deadlines.make_room(2, {busy, young}) == 1
    assert young.ended == "left"
    assert deadlines.make_room(2, {busy}) == 0, "what is being answered stays"
    assert reasons == ["no_room"] * 3


def test_room_is_made_last_by_what_has_got_on_since(deadlines: Deadlines) -> None:
    old, young = Connection(Wait.NEXT_REQUEST, 1), Connection(Wait.NEXT_REQUEST)
    deadlines.look([old], 0.0)
    deadlines.begin(young, 0.5)
    old.progress = 2
    assert deadlines.make_room(1, {old, young}) == 1
    assert (old.ended, young.ended) == (None, "left")
    old.wait = Wait.US
    assert deadlines.make_room(1, {old}) == 0


def test_no_room_is_made_by_what_is_gone_already(deadlines: Deadlines, reasons: list[str]) -> None:
    gone, here = Connection(Wait.LINGER), Connection(Wait.NEXT_REQUEST)
    deadlines.look([gone, here], 0.0)
    assert deadlines.make_room(2, {here}) == 1
    assert (gone.ended, here.ended, reasons) == (None, "left", ["no_room"])


def test_it_looks_often_enough_for_its_shortest_deadline() -> None:
    assert Deadlines(HttpSettings()).interval == 1.0
    assert Deadlines(HttpSettings(head_timeout=0.4)).interval == pytest.approx(0.2)

"""How an upstream does: one pause for all replicas, and one request while it fails."""

from __future__ import annotations

from functools import partial

import pytest

from registry.database.engine import Database
from registry.database.mirrors import mirror_states
from registry.database.mirrors.mirror_states import LONGEST, MirrorStateRow
from tests.database.mirrors.conftest import at_once, pass_time

HUB = "hub"


def state(database: Database) -> MirrorStateRow:
    with database.autocommit() as connection:
        found = mirror_states.find(connection, HUB).get()
    assert found is not None
    return found


def pause(database: Database, seconds: float) -> None:
    with database.transaction() as connection:
        mirror_states.pause(connection, HUB, seconds=seconds, error="it wants fewer requests")


def fail(database: Database) -> None:
    with database.transaction() as connection:
        mirror_states.fail(connection, HUB, seconds=30, error="the name is not known")


def answer(database: Database) -> None:
    with database.transaction() as connection:
        mirror_states.answer(connection, HUB)


def claim(database: Database) -> bool:
    with database.transaction() as connection:
        return mirror_states.claim(connection, HUB, seconds=30)


def begin(database: Database, configuration: str) -> None:
    with database.transaction() as connection:
        mirror_states.begin(connection, HUB, configuration)


def test_of_a_mirror_that_was_never_asked_nothing_is_known(database: Database) -> None:
    with database.autocommit() as connection:
        assert mirror_states.find(connection, HUB).get() is None
    assert not claim(database)
    answer(database)
    begin(database, "a")
    assert state(database)._replace(pause=0, wait=0) == MirrorStateRow(0, 0, 0, 0, None, None)
    assert not state(database).is_paused


def test_a_pause_only_grows_while_a_longer_one_stands(database: Database, second: Database) -> None:
    pause(database, 120)
    pause(second, 10)
    row = state(second)
    assert 60 < row.pause <= 120
    assert (row.is_paused, row.limits, row.error) == (True, 1, "it wants fewer requests")
    pause(second, 600)
    assert 300 < state(database).pause <= 600
    assert state(database).limits == 1, "one limit that many requests have met"
    pass_time(database, 601)
    assert not state(database).is_paused
    pause(second, 10)
    assert (state(database).limits, state(database).is_paused) == (2, True)
    assert state(database).pause <= 10


def test_limits_that_are_met_at_once_are_one(database: Database, second: Database) -> None:
    at_once(*(partial(pause, each, 60.0 + number) for number, each in enumerate((database, second) * 4)))
    assert state(database).limits == 1
    assert 60 < state(database).pause <= 67


def test_an_answer_ends_no_pause_and_the_next_pause_begins_anew_after_one(database: Database) -> None:
    pause(database, 60)
    answer(database)
    assert (state(database).is_paused, state(database).limits) == (True, 1)
    pass_time(database, 61)
    answer(database)
    assert (state(database).limits, state(database).error) == (0, None)


def test_no_pause_is_longer_than_an_hour_also_after_a_clock_was_set_back(database: Database) -> None:
    pause(database, 1e9)
    assert LONGEST - 60 < state(database).pause <= LONGEST
    pass_time(database, -1e6)
    assert not state(database).is_paused
    pause(database, 60)
    assert state(database).is_paused
    assert state(database).pause <= 60


def test_failures_in_a_row_are_counted_over_processes_and_an_answer_ends_them(
    database: Database, second: Database
) -> None:
    at_once(*(partial(fail, each) for each in (database, second) * 3))
    row = state(database)
    assert (row.fails, row.error) == (6, "the name is not known")
    assert 0 < row.wait <= 30
    answer(second)
    row = state(database)
    assert (row.fails, row.error) == (0, None)
    assert row.wait <= 0


def test_of_an_upstream_that_fails_one_process_finds_out_each_half_minute(database: Database, second: Database) -> None:
    fail(database)
    for _ in range(3):
        assert not claim(database)
        pass_time(database, 31)
        assert sorted(at_once(*(partial(claim, each) for each in (database, second) * 4))) == [False] * 7 + [True]


def test_a_claim_that_another_clock_has_written_keeps_no_process_from_asking(database: Database) -> None:
    fail(database)
    pass_time(database, -1e6)
    assert claim(database)


def test_other_settings_forget_what_was_known_and_the_same_ones_do_not(database: Database, second: Database) -> None:
    begin(database, "a")
    fail(database)
    pause(database, 60)
    with database.transaction() as connection:
        mirror_states.set_remaining(connection, HUB, 76)
    begin(second, "a")
    row = state(database)
    assert (row.fails, row.is_paused, row.limits, row.remaining) == (1, True, 1, 76)
    begin(second, "b")
    row = state(database)
    assert (row.fails, row.is_paused, row.limits, row.remaining, row.error) == (0, False, 0, None, None)
    assert row.wait <= 0


@pytest.mark.parametrize("counts", [(76, 75, 75), (0, 100)])
def test_the_requests_that_are_left_are_those_of_the_last_word(database: Database, counts: tuple[int, ...]) -> None:
    begin(database, "a")
    for count in counts:
        with database.transaction() as connection:
            mirror_states.set_remaining(connection, HUB, count)
    assert state(database).remaining == counts[-1]


def test_mirrors_are_apart(database: Database) -> None:
    pause(database, 60)
    with database.transaction() as connection:
        mirror_states.begin(connection, "other", "a")
        found = mirror_states.find(connection, "other").get()
    assert found is not None
    assert not found.is_paused


def described(database: Database) -> tuple[str | None, bool]:
    """The last error, and whether its time is known."""
    with database.autocommit() as connection:
        found = mirror_states.describe(connection, HUB).get()
    assert found is not None
    return found.error, found.failed_at is not None


def note(database: Database, error: str) -> None:
    with database.transaction() as connection:
        mirror_states.note(connection, HUB, error=error, seconds=30)


def test_the_last_error_stays_until_the_settings_change(database: Database, second: Database) -> None:
    begin(database, "a")
    assert described(second) == (None, False)
    fail(database)
    answer(database)
    assert described(second) == ("the name is not known", True)
    pause(database, 60)
    assert described(second) == ("it wants fewer requests", True)
    note(database, "it denies it")
    assert described(second) == ("it denies it", True)
    assert state(second).error == "it wants fewer requests", "why there is a pause"
    begin(second, "b")
    assert described(database) == (None, False)


def test_the_same_error_is_written_again_after_its_time_alone(database: Database) -> None:
    def failed_at() -> float:
        with database.autocommit() as connection:
            found = mirror_states.describe(connection, HUB).get()
        assert found is not None
        return found.failed_at or 0

    begin(database, "a")
    note(database, "it denies it")
    first = failed_at()
    note(database, "it denies it")
    assert failed_at() == first
    pass_time(database, 31)
    note(database, "it denies it")
    assert failed_at() >= first

"""Leases: background work runs in one process at a time, and goes on elsewhere when that process dies."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from registry.background.leases import Leases
from registry.database.engine import Database
from registry.database.migrate import upgrade_database


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database(f"sqlite:///{tmp_path / 'cache.db'}")
    upgrade_database(opened)
    yield opened
    opened.close()


class Clock:
    """Seconds since the epoch, as a test sets them."""

    now = 1_750_000_000.0

    def __call__(self) -> float:
        return self.now


def test_one_holder_at_a_time_and_another_after_it(database: Database) -> None:
    first, second = Leases(database, "a"), Leases(database, "b")
    with first.hold("rescan", 60) as held:
        assert held
        with second.hold("rescan", 60) as other:
            assert not other
        with second.hold("expiry", 60) as other:
            assert other
    with second.hold("rescan", 60) as held:
        assert held


def test_a_second_job_of_the_same_process_does_not_share_the_lease(database: Database) -> None:
    leases = Leases(database, "a")
    with leases.hold("rescan", 60) as held, leases.hold("rescan", 60) as again:
        assert (held, again) == (True, False)


def test_a_lease_is_given_back_when_the_work_fails(database: Database) -> None:
    leases = Leases(database, "a")
    with pytest.raises(KeyError), leases.hold("rescan", 60):
        raise KeyError("rescan")
    with leases.hold("rescan", 60) as held:
        assert held


def test_the_lease_of_a_killed_holder_ends_at_its_deadline_and_is_not_given_back_late(database: Database) -> None:
    clock = Clock()
    killed, second, third = (Leases(database, name, clock) for name in "abc")
    slow = contextlib.ExitStack()
    assert slow.enter_context(killed.hold("rescan", 60))
    clock.now += 61
    with second.hold("rescan", 60) as held:
        assert held
        slow.close()
        with third.hold("rescan", 60) as other:
            assert not other

"""One instance of the command at a time, and what the next one does where another has died."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from registry.background.leases import Leases
from registry.clocks import Clocks
from registry.database import leases
from registry.database.engine import Database
from registry.migration.report import Refused
from registry.migration.single_instance import LEASE, PATIENCE, SECONDS, exclusive_run
from tests.support.sqlite import create_current

THEIRS = "far-machine:1:1:aa"
RENEWAL = SECONDS / 3


class Clock:
    """Goes on while a caller sleeps; the rest do what they do meanwhile."""

    def __init__(self, meanwhile: Callable[[float], None] = lambda _: None) -> None:
        self.now = 1_750_000_000.0
        self.began = self.now
        self.meanwhile = meanwhile

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.meanwhile(self.now)

    @property
    def passed(self) -> float:
        return self.now - self.began


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def database(tmp_path: Path, clock: Clock) -> Iterator[Database]:
    opened = Database(create_current(tmp_path / "cache.db"), clocks=Clocks(wall=clock))
    yield opened
    opened.close()


def take(database: Database, *, seconds: float = SECONDS, holder: str = THEIRS) -> None:
    with database.transaction() as connection:
        assert leases.take(connection, LEASE, holder, seconds=seconds)


@contextlib.contextmanager
def migrating(database: Database, clock: Clock) -> Iterator[None]:
    with exclusive_run(database, clock=clock, sleep=clock.sleep):
        yield


def test_the_first_is_alone_and_gives_the_right_back(database: Database, clock: Clock) -> None:
    for _ in range(2):
        with migrating(database, clock):
            assert Leases(database, "").held(LEASE) is not None
        assert Leases(database, "").held(LEASE) is None
    assert clock.passed == 0


def test_a_second_instance_is_refused_as_soon_as_the_first_renews(database: Database, clock: Clock) -> None:
    begun: list[float] = []

    def renew(now: float) -> None:
        if now - begun[0] >= RENEWAL:
            take(database)
            begun[0] = now

    clock.meanwhile = renew
    begun.append(clock.now)
    take(database)
    with pytest.raises(Refused, match="far-machine"), migrating(database, clock):
        pytest.fail("two at a time")
    assert clock.passed <= RENEWAL + 1
    found = Leases(database, "").held(LEASE)
    assert found is not None
    assert found.holder == THEIRS


def test_a_killed_one_of_another_machine_is_succeeded_when_its_lease_ends(database: Database, clock: Clock) -> None:
    take(database)
    with migrating(database, clock):
        assert SECONDS < clock.passed < SECONDS + 2


def test_one_that_ends_meanwhile_is_succeeded(database: Database, clock: Clock) -> None:
    def end(_now: float) -> None:
        with database.transaction() as connection:
            leases.free(connection, LEASE, THEIRS)

    clock.meanwhile = end
    take(database)
    with migrating(database, clock):
        assert clock.passed < 2


def test_where_a_third_one_is_faster_the_second_is_refused(database: Database, clock: Clock) -> None:
    def end(now: float) -> None:
        with database.transaction() as connection:
            leases.free(connection, LEASE, THEIRS)
        take(database, holder="third")

    clock.meanwhile = end
    take(database)
    with pytest.raises(Refused, match="third"), migrating(database, clock):
        pytest.fail("two at a time")


def test_no_run_waits_for_ever(database: Database, clock: Clock) -> None:
    take(database, seconds=3600)
    with pytest.raises(Refused), migrating(database, clock):
        pytest.fail("two at a time")
    assert PATIENCE < clock.passed < PATIENCE + 2

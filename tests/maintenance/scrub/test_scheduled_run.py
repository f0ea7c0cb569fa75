"""Scheduled scrubs: a round in an interval over all processes, which gives way to a command and to the end."""

from __future__ import annotations

import threading
import time

import pytest

from registry.background.leases import Leases
from registry.config.scrub_sections import ScrubSettings
from registry.database import leases
from registry.images.registry import Registry
from registry.maintenance.scrub import scheduled_run
from registry.maintenance.scrub.report import ScrubReport
from registry.maintenance.scrub.run import begin_round, end_round
from registry.maintenance.scrub.scheduled_run import LEASE, WANTED, ScheduledRun, turn
from tests.maintenance.scrub.place import FAST, StopAfter, flip, key_of, scrub
from tests.support.registry_world import World, push_blob

DAY = 86400.0
DAILY = FAST.model_copy(update={"interval": DAY})
SLOW = ScrubSettings(interval=DAY, rate=64 << 10, requests=1e9)


def test_it_is_due_once_in_the_interval_whichever_process_asks(registry: Registry, world: World) -> None:
    done: list[ScrubReport] = []
    runs = [ScheduledRun(each, DAILY, on_done=done.append) for each in (registry, world.registry())]
    push_blob(registry, b"a")
    assert [run.is_due for run in runs] == [True, True]
    for run in runs:
        run.run()
    assert [report.objects for report in done] == [1], "the second one found it done"
    world.clock.now += DAY - 1
    assert [run.is_due for run in runs] == [False, False]
    world.clock.now += 1
    assert [run.is_due for run in runs] == [True, True]
    assert ScheduledRun(world.registry(), DAILY).is_due, "a restart does not bring it forward, nor back"


def test_without_an_interval_it_is_never_due(registry: Registry) -> None:
    assert not ScheduledRun(registry, FAST).is_due


def test_a_round_that_was_ended_is_due_at_once(registry: Registry, world: World) -> None:
    for number in range(5):
        push_blob(registry, bytes([number]))
    assert not scrub(registry, ending=StopAfter(10)).finished
    run = ScheduledRun(world.registry(), DAILY)
    assert run.is_due
    run.run()
    assert not run.is_due


def test_it_tells_what_it_reads_and_finds(registry: Registry, world: World) -> None:
    told: dict[str, int] = {}

    def observe(what: str, count: int) -> None:
        told[what] = told.get(what, 0) + count

    push_blob(registry, b"12345")
    flip(world, key_of(registry, push_blob(registry, b"wrong")))
    ScheduledRun(registry, DAILY, observe).run()
    assert told == {"bytes": 15, "right": 1, "wrong": 1, "rounds": 1}, "a wrong one is read twice"


@pytest.mark.parametrize("reason", ["the end", "a command"])
def test_it_gives_way(registry: Registry, world: World, monkeypatch: pytest.MonkeyPatch, reason: str) -> None:
    monkeypatch.setattr(scheduled_run, "LOOK_SECONDS", 0.05)
    for number in range(64):
        push_blob(registry, bytes([number]) * (64 << 10))
    done: list[ScrubReport] = []
    run = ScheduledRun(registry, SLOW, on_done=done.append)
    running = threading.Thread(target=run.run)
    running.start()
    time.sleep(0.2)
    if reason == "the end":
        run.ending.set()
        running.join(10)
    else:
        other = world.registry()
        with Leases(other.backends.database, "command").hold(WANTED, 30):
            running.join(10)
            assert not run.is_due
        assert run.is_due
    assert not running.is_alive()
    assert [report.finished for report in done] == [False]
    assert scrub(world.registry()).finished


@pytest.mark.parametrize("world", ["local"], indirect=True)
def test_a_command_that_was_killed_is_waited_for_until_its_lease_is_over_by_the_clock_of_the_database(
    registry: Registry, world: World
) -> None:
    push_blob(registry, b"a")
    world.clock.now += 1e8
    with registry.backends.database.transaction() as connection:
        assert leases.take(connection, WANTED, "killed", seconds=30)
    run = ScheduledRun(registry, DAILY)
    assert not is_due(run)
    world.clock.now += 31
    assert is_due(run)


def test_a_command_gets_its_turn_when_the_other_ends(registry: Registry, world: World) -> None:
    other = world.registry()
    with turn(registry) as is_ours:
        assert is_ours
        with turn(other, seconds=0.3) as as_well:
            assert not as_well
    with Leases(registry.backends.database, "server").hold(LEASE, 30), turn(other, seconds=0.3) as is_ours:
        assert not is_ours
    with turn(other) as is_ours:
        assert is_ours


YEAR = 365 * DAY


def is_due(run: ScheduledRun) -> bool:
    """Now; mypy takes a property for something that does not change."""
    return run.is_due


@pytest.mark.parametrize("ends", ["in that round", "later", "when the clock is right again"])
def test_a_clock_that_was_ahead_puts_off_no_scrub(registry: Registry, world: World, ends: str) -> None:
    for number in range(5):
        push_blob(registry, bytes([number]))
    scrub(registry)
    world.clock.now += YEAR + DAY
    if ends == "in that round":
        assert scrub(registry).finished
    else:
        assert not scrub(registry, ending=StopAfter(10)).finished
    if ends == "later":
        world.clock.now += 10
        assert scrub(registry).finished
    world.clock.now -= YEAR
    done: list[ScrubReport] = []
    run = ScheduledRun(registry, DAILY, on_done=done.append)
    assert is_due(run)
    run.run()
    assert [report.objects for report in done] == [5], "what was read by that clock is read again"
    assert not is_due(run), "and once"
    assert scrub(registry).objects == 5
    world.clock.now += DAY + 1
    assert is_due(run)


def test_a_round_that_ends_by_a_clock_that_is_ahead_puts_off_none(registry: Registry, world: World) -> None:
    for number in range(5):
        push_blob(registry, bytes([number]))
    assert not scrub(registry, ending=StopAfter(10)).finished
    world.clock.now += YEAR
    assert scrub(registry).finished
    world.clock.now -= YEAR
    for _ in range(2):
        run = ScheduledRun(world.registry(), DAILY)
        assert not is_due(run)
        world.clock.now += DAY
        assert is_due(run)
        run.run()


def test_a_run_that_is_slow_does_not_end_the_round_after_it(registry: Registry, world: World) -> None:
    first = begin_round(registry.backends.database, world.clock.now)
    end_round(registry.backends.database, first, world.clock.now)
    world.clock.now += 1
    second = begin_round(registry.backends.database, world.clock.now)
    end_round(registry.backends.database, first, world.clock.now)
    world.clock.now += 1
    assert begin_round(registry.backends.database, world.clock.now) == second, "it goes on"

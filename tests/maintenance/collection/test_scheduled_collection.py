"""Scheduled collections: once in an interval over all processes; none by itself where an earlier release has been."""

from __future__ import annotations

from typing import Any

import pytest

from registry.config.settings import Settings
from registry.images.registry import Registry
from registry.maintenance.collection.ledger import Ledger
from registry.maintenance.collection.scheduled_collection import ScheduledCollection
from registry.maintenance.collection.survey.gc_state import meet
from tests.support.registry_world import NAME, World, push_blob, push_image

DAY = 86400.0


def settings(**gc: Any) -> Settings:
    return Settings.model_validate({"gc": gc})


def test_it_is_due_once_in_the_interval_whichever_process_asks(world: World, registry: Registry) -> None:
    meet(registry)
    done: list[Ledger | None] = []
    runs = [ScheduledCollection(each, settings(), done.append) for each in (registry, world.registry())]
    assert [run.is_due for run in runs] == [True, True], "a day by default"
    for run in runs:
        run.run()
    assert len(done) == 1
    world.clock.now += DAY - 1
    assert [run.is_due for run in runs] == [False, False]
    world.clock.now += 1
    assert [run.is_due for run in runs] == [True, True]


def test_what_it_frees_is_told(world: World, registry: Registry) -> None:
    meet(registry)
    push_blob(registry, b"never named")
    push_image(registry, "one", "v1")
    registry.fold_waiting()
    done: list[Ledger | None] = []
    run = ScheduledCollection(registry, settings(interval=10), done.append)
    for _ in range(4):
        run.run()
        world.clock.now += 101
    ledgers = [ledger for ledger in done if ledger is not None]
    assert len(ledgers) == 4
    assert sum(ledger.bytes for ledger in ledgers) == len(b"never named")
    assert ledgers[1].oldest == pytest.approx(0, abs=1) or ledgers[0].oldest >= 0


@pytest.mark.parametrize("interval", [None, "auto"])
def test_without_an_interval_it_is_never_due(world: World, registry: Registry, interval: str | None) -> None:
    if interval == "auto":  # a storage that was there before this database
        push_image(registry, "one", "v1", name=NAME)
        registry.fold_waiting()
        registry = world.registry(url=world.another())
    meet(registry)
    assert not ScheduledCollection(registry, settings(interval=interval)).is_due


def test_one_that_is_refused_is_told_and_waits_for_the_next_interval(world: World, registry: Registry) -> None:
    meet(registry)
    push_image(registry, "one", "v1")
    registry.fold_waiting()
    other = world.registry(url=world.another())
    done: list[Ledger | None] = []
    run = ScheduledCollection(other, settings(interval=10), done.append)
    run.run()
    run.run()
    assert done == [None]


def test_a_run_by_a_clock_that_was_years_ahead_is_not_the_last(world: World, registry: Registry) -> None:
    meet(registry)
    done: list[Ledger | None] = []
    scheduled = ScheduledCollection(registry, settings(), done.append)
    world.clock.now += 1000 * DAY
    for count in (1, 2):
        for _ in range(2):
            scheduled.run()
        assert len(done) == count
        world.clock.now -= 1000 * DAY

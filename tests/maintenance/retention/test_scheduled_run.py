"""Scheduled runs of retention: once in an interval over all processes, by the mode of the settings."""

from __future__ import annotations

import pytest

from registry.config.retention_sections import RetentionSettings
from registry.database.errors import DatabaseUnavailable
from registry.images.registry import Registry
from registry.maintenance.retention.report import Summary
from registry.maintenance.retention.scheduled_run import ScheduledRun
from tests.maintenance.retention.cases import DAY, rule
from tests.support.registry_world import World, push_image, tags

NOTHING = RetentionSettings(rules=(rule({"any": {"pushed_within": 0}}),), mode="apply")


def test_it_is_due_once_in_the_interval_whichever_process_asks(registry: Registry, world: World) -> None:
    done: list[tuple[Summary, bool]] = []
    runs = [
        ScheduledRun(each, NOTHING, lambda summary, applies: done.append((summary, applies)))
        for each in (registry, world.registry())
    ]
    push_image(registry, "a", "a")
    world.clock.now += 1
    assert [run.is_due for run in runs] == [True, True]
    for run in runs:
        run.run()
    assert done == [(Summary(1, removed=1), True)], "the second one found it done"
    assert tags(registry) == []
    world.clock.now += DAY - 1
    assert [run.is_due for run in runs] == [False, False]
    world.clock.now += 1
    assert [run.is_due for run in runs] == [True, True]
    assert ScheduledRun(world.registry(), NOTHING).is_due, "a restart does not bring it forward, nor back"


def test_by_default_it_reports(registry: Registry, world: World) -> None:
    done: list[tuple[Summary, bool]] = []
    push_image(registry, "a", "a")
    world.clock.now += 1
    report = NOTHING.model_copy(update={"mode": "report"})
    ScheduledRun(registry, report, lambda summary, applies: done.append((summary, applies))).run()
    assert done == [(Summary(1, removed=1), False)]
    assert tags(registry) == ["a"]


@pytest.mark.parametrize("change", [{"rules": ()}, {"interval": None}])
def test_without_rules_or_an_interval_it_is_never_due(registry: Registry, change: dict[str, object]) -> None:
    assert not ScheduledRun(registry, NOTHING.model_copy(update=change)).is_due


def test_pulls_that_this_process_has_not_written_down_yet_count(registry: Registry, world: World) -> None:
    image = push_image(registry, "a", "a")
    registry.pulls.flush()
    world.clock.now += 90 * DAY
    registry.pulls.pulled("team/app", image.digest)
    pulled = RetentionSettings(rules=(rule({"any": {"pulled_within": "1d"}}),), mode="apply")
    ScheduledRun(registry, pulled).run()
    assert tags(registry) == ["a"]


def test_a_run_that_a_lost_database_ends_is_due_again(
    registry: Registry, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    push_image(registry, "a", "a")
    world.clock.now += 1
    run = ScheduledRun(registry, NOTHING)

    def lost(*_: object) -> None:
        raise DatabaseUnavailable("away")

    with monkeypatch.context() as patch:
        patch.setattr(registry.repositories, "touch", lost)
        with pytest.raises(DatabaseUnavailable):
            run.run()
    assert run.is_due
    run.run()
    assert tags(registry) == []
    assert not run.is_due

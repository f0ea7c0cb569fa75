"""Usage for metrics is counted once in an interval over all processes."""

from __future__ import annotations

from registry.images.registry import Registry
from registry.maintenance.usage.figures import Figures
from registry.maintenance.usage.range_usage import ALL, RangeUsage
from registry.maintenance.usage.scheduled_count import ScheduledCount
from tests.support.registry_world import World, push_image


def test_it_is_counted_once_in_the_interval_whichever_process_asks(world: World, registry: Registry) -> None:
    done: list[tuple[Figures, int]] = []
    counts = [
        ScheduledCount(each, 100, lambda figures, repositories: done.append((figures, repositories)))
        for each in (registry, world.registry())
    ]
    for name in ("team/app", "team/lib"):
        push_image(registry, "one", "v1", name=name)
    assert [count.is_due for count in counts] == [True, True]
    for count in counts:
        count.run()
    expected = RangeUsage(registry.backends).measure(ALL)
    assert expected.stored
    expected.frees = 0
    assert done == [(expected, 2)], "the second one found it done"
    world.clock.now += 99
    assert [count.is_due for count in counts] == [False, False]
    world.clock.now += 1
    assert [count.is_due for count in counts] == [True, True]

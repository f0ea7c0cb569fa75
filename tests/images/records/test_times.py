"""Times survive: a rebuild knows when each image was pushed and each tag set, on every store and database (I11)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import orjson
import pytest

from registry.database import repositories, tags
from registry.images.registry import Registry
from registry.maintenance.rebuild import rebuild_registry
from registry.oci.index_entry import PUSHED, TAGGED
from registry.oci.moment import whole
from registry.storage.middleware.faults import FaultyDriver
from tests.images.records.test_history import as_the_release_before, times
from tests.support.registry_world import GCS_KIND, KINDS, NAME, REAL_KIND, World, push_image

DAY = 86_400.0
ADOPTED = "team/adopted"
Fresh = Callable[[], str]


@pytest.fixture(params=["sqlite", "postgresql"])
def fresh(request: pytest.FixtureRequest, tmp_path: Path) -> Fresh:
    """The URL of a database with nothing in it."""
    if request.param == "postgresql":
        made: Fresh = request.getfixturevalue("new_database")
        return made
    names = iter(range(100))
    return lambda: f"sqlite:///{tmp_path / f'fresh-{next(names)}.db'}"


@pytest.fixture
def world(kind: str, tmp_path: Path, fresh: Fresh) -> Iterator[World]:
    made = World(tmp_path, kind, fresh())
    yield made
    made.close()


def rebuilt(world: World, fresh: Fresh) -> Registry:
    registry = world.registry(url=fresh())
    assert rebuild_registry(registry).problems == []
    return registry


def push_on_three_days(world: World, registry: Registry) -> dict[str, float]:
    """An image and its tag three, two and one days ago; when each tag was set."""
    now, set_at = world.clock.now, {}
    for days in (3, 2, 1):
        world.clock.now = now - days * DAY + 0.123_456
        push_image(registry, f"{days} days", f"of-{days}-days")
        set_at[f"of-{days}-days"] = whole(world.clock.now)
    world.clock.now = now
    return set_at


@pytest.mark.parametrize("kind", [*KINDS, REAL_KIND, GCS_KIND])
@pytest.mark.parametrize("state", ["unfolded", "folded", "as 0560e7b folds"])
def test_three_images_of_three_days_are_as_old_after_a_rebuild(
    world: World, registry: Registry, fresh: Fresh, state: str
) -> None:
    set_at = push_on_three_days(world, registry)
    if state != "unfolded":
        registry.fold_waiting()
    if state == "as 0560e7b folds":
        as_the_release_before(registry)
    for other in (rebuilt(world, fresh), rebuilt(world, fresh)):
        pushed, tagged = times(other)
        assert tagged == set_at
        assert sorted(pushed.values()) == sorted(set_at.values())


@pytest.mark.parametrize("state", ["folded", "as 0560e7b folds"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_first_touch_takes_them_too(world: World, registry: Registry, fresh: Fresh, state: str) -> None:
    set_at = push_on_three_days(world, registry)
    registry.fold_waiting()
    if state != "folded":
        as_the_release_before(registry)
    other = world.registry(url=fresh())
    assert other.manifests.find(NAME, "of-2-days")
    assert times(other)[1] == set_at


def newest(registry: Registry, count: int) -> set[str]:
    """The tags that were set last, as a rule that keeps the newest has them."""
    with registry.backends.database.snapshot() as connection:
        row = repositories.find(connection, NAME).get()
        assert row is not None
        set_at = tags.updated_at(connection, row.id).get()
    return set(sorted(set_at, key=lambda tag: set_at[tag], reverse=True)[:count])


@pytest.mark.parametrize("kind", KINDS)
def test_the_newest_five_of_thirty_days_are_the_same_after_a_rebuild(
    world: World, registry: Registry, fresh: Fresh
) -> None:
    """Check 16, as far as a rebuild goes; tags are set in an order that no name or number has."""
    days = [(7 * number) % 30 for number in range(30)]
    world.clock.now -= 31 * DAY
    for day in days:
        world.clock.now += DAY
        push_image(registry, f"{day}", f"day-{day}")
        if day % 4 == 0:
            registry.fold_waiting()
    expected = {f"day-{day}" for day in days[-5:]}
    assert newest(registry, 5) == expected
    assert newest(rebuilt(world, fresh), 5) == expected


@pytest.mark.parametrize("kind", ["memory"])
@pytest.mark.parametrize("says", [True, False])
def test_what_no_record_brought_takes_the_time_of_its_object_also_where_the_database_has_its_bytes(
    world: World, registry: Registry, fresh: Fresh, *, says: bool
) -> None:
    for name in (NAME, ADOPTED):
        made = push_image(registry, "1", "v1", name=name)
    registry.fold_waiting()
    pushed = times(registry, ADOPTED)[0]
    if not says:
        forget_times(registry)
    key = registry.backends.layout.blob(ADOPTED, made.digest)
    counted = FaultyDriver(world.driver())
    other = world.registry(driver=counted, url=fresh())
    other.manifests.read(other.manifests.find(NAME, "v1"))
    world.clock.now += DAY
    counted.calls.clear()
    other.manifests.find(ADOPTED, "v1")
    written = whole(world.driver().stat(key).modified)
    assert times(other, ADOPTED)[0] == (pushed if says else {made.manifest.digest: written})
    assert counted.calls["stat"] == (0 if says else 1)


def forget_times(registry: Registry) -> None:
    """As the index is where another registry's content was adopted: it says of no time, and no record does."""
    key = registry.backends.layout.index(ADOPTED)
    document = orjson.loads(registry.backends.driver.read(key, max_bytes=1 << 20)[0])
    for entry in document["manifests"]:
        del entry["annotations"][PUSHED], entry["annotations"][TAGGED]
    registry.backends.driver.write(key, orjson.dumps(document))

"""What migrations left on storage is in the database before anything is said or written, also in a new one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest

from registry.database import stores
from registry.database.stores import OPEN, READ_ONLY
from registry.images.migration_journal import reader as journal
from registry.images.migration_journal.documents import Phase, ReadOnly
from registry.images.registry import Registry
from registry.maintenance.rebuild import rebuild_registry
from registry.maintenance.rescan import Rescan
from registry.oci.errors import NameInvalid, Unavailable
from registry.storage.driver import StorageDriver
from registry.storage.middleware.base import DriverDecorator
from tests.support import adopted_bucket
from tests.support.registry_world import NAME, World, make_image, pull, push_blob, push_image, tags

T = TypeVar("T")
SHUT = ReadOnly("2026-11-25T04:00:00Z", "it was given back to the registry that it came from")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path, "memory")
    yield made
    made.close()


class Counting(DriverDecorator):
    """Counts operations by key."""

    def __init__(self, inner: StorageDriver) -> None:
        super().__init__(inner)
        self.calls: Counter[tuple[str, str]] = Counter()

    def around(self, operation: str, key: str, call: Callable[[], T]) -> T:
        self.calls[operation, key] += 1
        return call()

    def of_journal(self) -> dict[tuple[str, str], int]:
        """Those below the journals of migrations."""
        return {asked: count for asked, count in self.calls.items() if asked[1].startswith(journal.MIGRATIONS)}


def row(registry: Registry) -> stores.StoreRow | None:
    with registry.backends.database.autocommit() as connection:
        return stores.find(connection, registry.backends.driver.name).get()


def test_what_was_adopted_is_served_from_the_source(world: World) -> None:
    made = make_image("one")
    adopted_bucket.adopt_image(world.driver(), made)
    registry = world.registry()
    assert pull(registry, "v1") == made.digest
    assert tags(registry) == ["v1"]
    assert not list(world.driver().list("storage/blobs"))


def test_a_lost_database_gets_all_of_it_back(world: World) -> None:
    made = make_image("one")
    adopted_bucket.adopt_image(world.driver(), made)
    registry = world.registry()
    pushed = push_image(registry, "two", "v2")
    registry.fold_waiting()
    for fill in (rebuild_registry, lambda registry: Rescan(registry).run_once()):
        again = world.registry(url=f"{world.url}-{id(fill)}")
        fill(again)
        assert tags(again) == ["v1", "v2"]
        assert [pull(again, tag) for tag in ("v1", "v2")] == [made.digest, pushed.digest]


def test_a_database_that_is_lost_under_a_running_replica_gets_them_too(world: World) -> None:
    made = make_image("one")
    adopted_bucket.adopt_image(world.driver(), made)
    registry = world.registry()
    assert pull(registry, "v1") == made.digest
    with registry.backends.database.schema() as connection:
        for table in ("blob_location", "membership", "manifest", "tag", "reference", "repository", "blob", "store"):
            connection.exec_driver_sql(f"DELETE FROM {table}")  # noqa: S608 - constant names
    assert pull(registry, "v1") == made.digest
    assert row(registry) is not None


def test_a_start_without_migrations_costs_one_listing_and_a_touch_none(world: World) -> None:
    driver = Counting(world.driver())
    registry = world.registry(driver=driver)
    push_image(registry, "one", "v1")
    pull(registry, "v1")
    registry.fold_waiting()
    assert driver.of_journal() == {("children", journal.MIGRATIONS): 1}


def test_a_layout_per_repository_asks_nothing(tmp_path: Path) -> None:
    world = World(tmp_path, "local")
    driver = Counting(world.driver())
    registry = world.registry(driver=driver)
    push_image(registry, "one", "v1")
    assert pull(registry, "v1")
    registry.source_locations.ensure(again=True)
    registry.source_locations.ensure_row()
    assert registry.write_gate.prefixes() == ()
    assert driver.of_journal() == {}
    assert row(registry) is None
    world.close()


def test_shards_are_read_when_the_state_has_changed_and_not_before(world: World) -> None:
    driver = world.driver()
    one, two = make_image("one"), make_image("two")
    lines = adopted_bucket.adopt_image(driver, one)
    assert pull(world.registry(), "v1") == one.digest
    adopted_bucket.write_shards(driver, [*lines, *adopted_bucket.lines_of(driver, two)])
    adopted_bucket.write_taken_index(driver, {"v1": one, "v2": two})
    registry = world.registry()
    assert tags(registry) == ["v1"]  # their places are not known: the migration has not said that it has written them
    adopted_bucket.write_state(driver, revision=2)
    world.registry().source_locations.ensure()
    rebuild_registry(registry)
    assert [pull(registry, tag) for tag in ("v1", "v2")] == [one.digest, two.digest]
    found = row(registry)
    assert found is not None
    assert (found.migration, found.revision, found.mode, found.prefixes) == ("0001", 2, OPEN, ("zot",))


def test_the_locations_of_all_migrations_count_but_of_finalized_ones(world: World) -> None:
    driver = world.driver()
    first, second, gone = make_image("first"), make_image("second"), make_image("gone")
    for number, made in enumerate((first, second, gone), 1):
        adopted_bucket.write_shards(driver, adopted_bucket.lines_of(driver, made), f"000{number}")
    adopted_bucket.write_state(driver, state=Phase.ROLLED_BACK)
    adopted_bucket.write_state(driver, id="0002")
    adopted_bucket.write_state(driver, id="0003", state=Phase.FINALIZED)
    adopted_bucket.write_taken_index(driver, {"v1": first, "v2": second, "v3": gone})
    registry = world.registry()
    assert tags(registry) == ["v1", "v2"]
    assert [pull(registry, tag) for tag in ("v1", "v2")] == [first.digest, second.digest]


@pytest.mark.parametrize("damage", [b"", b'{"version":2}', b"[]"])
def test_a_journal_that_is_not_understood_stops_everything(world: World, damage: bytes) -> None:
    made = make_image("one")
    adopted_bucket.adopt_image(world.driver(), made)
    world.driver().write(journal.state_key("0001"), damage)
    registry = world.registry()
    with pytest.raises(Unavailable):
        registry.manifests.find(NAME, "v1")
    with pytest.raises(Exception, match=r"of a later release, or damaged"):
        rebuild_registry(registry)
    assert row(registry) is None


def test_read_only_is_known_to_a_new_database(world: World) -> None:
    made = make_image("one")
    adopted_bucket.adopt_image(world.driver(), made)
    adopted_bucket.write_state(world.driver(), revision=2, state=Phase.ROLLED_BACK, read_only=SHUT)
    registry = world.registry()
    with pytest.raises(Unavailable, match=SHUT.reason):
        push_blob(registry, b"new")
    assert pull(registry, "v1") == made.digest
    found = row(registry)
    assert found is not None
    assert (found.mode, found.reason) == (READ_ONLY, SHUT.reason)


def test_an_older_look_never_opens_what_was_shut_meanwhile(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cut of a rollback falls between the read of the journal and the note of it."""
    adopted_bucket.adopt_image(world.driver(), make_image("one"))
    first = world.registry()
    first.source_locations.ensure()
    registry = world.registry()
    read = registry.source_locations._journal.newest
    cuts = iter([True])

    def and_cut() -> Any:
        found = read()
        if next(cuts, False):
            first.write_gate.note(
                adopted_bucket.write_state(world.driver(), revision=3, state=Phase.ROLLING_BACK, read_only=SHUT)
            )
        return found

    monkeypatch.setattr(registry.source_locations._journal, "newest", and_cut)
    adopted_bucket.write_state(world.driver(), revision=2)
    registry.source_locations.ensure()
    found = row(registry)
    assert found is not None
    assert (found.revision, found.mode) == (3, READ_ONLY)


def test_a_journal_that_is_gone_leaves_the_store_open(world: World) -> None:
    adopted_bucket.adopt_image(world.driver(), make_image("one"))
    adopted_bucket.write_state(world.driver(), read_only=SHUT)
    world.registry().source_locations.ensure()
    world.driver().delete([journal.state_key("0001")])
    registry = world.registry()
    push_blob(registry, b"new")
    found = row(registry)
    assert found is not None
    assert (found.migration, found.mode) == (None, OPEN)


def test_no_repository_is_made_in_the_trees_of_the_source(world: World) -> None:
    adopted_bucket.adopt_image(world.driver(), make_image("one"))
    registry = world.registry()
    for name in ("zot", "zot/app", f"zot/{NAME}"):
        with pytest.raises(NameInvalid):
            push_blob(registry, b"new", name)
    push_blob(registry, b"new", "zots")


def test_locations_that_were_swapped_by_a_rollback_are_swapped_in_a_new_database(world: World) -> None:
    driver = world.driver()
    [line, *rest] = adopted_bucket.adopt_image(driver, make_image("one"))
    data = driver.read(line.locations[0].key, max_bytes=1 << 20)[0]
    copy = driver.write(world.registry().backends.layout.blob("", line.digest), data)
    adopted_bucket.write_shards(driver, [line._replace(copy=copy.etag), *rest])
    adopted_bucket.write_state(driver, state=Phase.ROLLED_BACK, read_only=SHUT)
    registry = world.registry()
    registry.source_locations.ensure()
    with registry.backends.database.schema() as connection:
        states: dict[str, str] = dict(connection.exec_driver_sql("SELECT key, state FROM blob_location").fetchall())
    assert states == {
        **{each.locations[0].key: "current" for each in [line, *rest]},
        registry.backends.layout.blob("", line.digest): "copy",
    }


def test_what_a_state_says_is_noted_whole(world: World) -> None:
    registry = world.registry()
    registry.source_locations.ensure()
    registry.write_gate.note(replace(adopted_bucket.STATE, prefixes=("", "zot"), revision=9, read_only=SHUT))
    found = row(registry)
    assert found is not None
    assert found[:6] == (registry.backends.driver.name, "0001", 9, READ_ONLY, SHUT.reason, ("zot",))

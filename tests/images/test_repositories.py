"""The database is emptied under processes that run on: what they know of it must not be taken for what is there now.

Only where several replicas share a database server; a SQLite file that is deleted lives on in its processes.
"""

from __future__ import annotations

import contextlib
import sqlite3

import pytest

from registry.database import revision
from registry.images.registry import Registry
from registry.maintenance.rebuild import rebuild_registry
from registry.oci.digest import Digest
from registry.oci.errors import BlobUnknown, RegistryError, Unavailable
from registry.storage.middleware.faults import Fault, FaultyDriver, When
from tests.support.registry_world import World, make_image, pull, pull_blob, push_blob, push_image, read_index, tags

pytestmark = pytest.mark.parametrize("kind", ["memory"])


def lose(world: World) -> None:
    """Every row is gone; ids begin again."""
    with contextlib.closing(sqlite3.connect(world.url.removeprefix("sqlite:///"))) as connection:
        names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        connection.execute("PRAGMA foreign_keys = OFF")
        for (name,) in names:
            if name not in {"alembic_version", revision.TABLE, "sqlite_sequence"}:
                connection.execute(f'DELETE FROM "{name}"')  # noqa: S608 - of sqlite_master
        connection.commit()


def settle(world: World, *registries: Registry) -> None:
    """What is done behind the answers, and what others do after a while."""
    for _ in range(3):
        for registry in registries:
            registry.fold_waiting()
        world.clock.now += 10


def test_a_repository_that_is_being_read_from_storage_is_not_served_from_half_a_view(world: World) -> None:
    other = world.registry()
    first = push_image(other, "1", "v1")
    for number in range(2, 5):
        push_image(other, str(number), f"v{number}")
    done: list[bool] = []

    def meanwhile() -> None:
        """The first touch by one process has made the row; another has looked at storage long ago."""
        if not done:
            done.append(True)
            assert pull(other, "v1") == first.digest
            push_image(other, "new", "new")

    driver = FaultyDriver(world.driver(), [Fault("stat", "*/blobs/*", effect=meanwhile, times=None)])
    reading = world.registry(driver=driver)
    lose(world)
    assert pull(reading, "v1") == first.digest
    assert done
    settle(world, other, reading)
    for registry in (other, reading, world.registry()):
        assert tags(registry) == ["new", "v1", "v2", "v3", "v4"]
        assert pull(registry, "new") == make_image("new").digest
    assert set(read_index(other).tags()) == {"new", "v1", "v2", "v3", "v4"}


def test_a_repository_that_was_absent_a_moment_ago_is_looked_for_before_it_is_made(world: World) -> None:
    other, registry = world.registry(), world.registry()
    with pytest.raises(RegistryError):
        pull(registry, "v1")
    for tag in ("v1", "v2", "v3"):
        push_image(other, tag, tag)
    other.fold_waiting()
    lose(world)
    with contextlib.suppress(Unavailable):
        push_image(registry, "new", "new")
    push_image(registry, "new", "new")
    settle(world, registry, other)
    for process in (registry, other):
        assert tags(process) == ["new", "v1", "v2", "v3"]
    assert set(read_index(registry).tags()) == {"new", "v1", "v2", "v3"}


@pytest.mark.parametrize("moment", list(When))
def test_a_number_that_the_lost_database_gave_is_not_given_twice(world: World, moment: When) -> None:
    """A change was committed before the loss, and its record is written after another process has read the journal."""
    other = world.registry()
    push_image(other, "1", "v1")
    other.fold_waiting()

    def meanwhile() -> None:
        lose(world)
        if moment is When.BEFORE:
            rebuild_registry(other)
            push_image(other, "3", "v3")
        else:
            rebuild_registry(world.registry())

    driver = FaultyDriver(world.driver(), [Fault("write", "*/.journal/*", effect=meanwhile, moment=moment)])
    slow = world.registry(driver=driver)
    acknowledged = {"v1", "v3"}
    try:
        push_image(slow, "2", "v2")
    except Unavailable:
        assert moment is When.BEFORE
    else:
        acknowledged.add("v2")
    if moment is When.AFTER:
        push_image(other, "3", "v3")
    settle(world, slow, other)
    for registry in (slow, other, world.registry()):
        assert acknowledged <= set(tags(registry))
        for tag in tags(registry):
            pull(registry, tag)
    assert set(read_index(other).tags()) == set(tags(other)) >= acknowledged
    push_image(slow, "2", "v2")
    assert pull(other, "v2") == make_image("2").digest


def test_a_record_that_was_written_after_the_journal_was_read_is_found_without_another_push(world: World) -> None:
    other = world.registry()
    push_image(other, "1", "v1")
    other.fold_waiting()

    def meanwhile() -> None:
        lose(world)
        rebuild_registry(other)

    driver = FaultyDriver(world.driver(), [Fault("write", "*/.journal/*", effect=meanwhile)])
    slow = world.registry(driver=driver)
    push_image(slow, "2", "v2")
    settle(world, slow, other)
    assert tags(other) == ["v1", "v2"]
    assert set(read_index(other).tags()) == {"v1", "v2"}


def test_a_blob_becomes_no_member_of_a_repository_that_has_got_the_same_id(world: World) -> None:
    registry, other = world.registry(), world.registry()
    for name in ("b/mine", "a/other"):
        push_image(registry, name, "v1", name=name)
        registry.fold_waiting()
    secret = b"of my repository alone"

    def meanwhile() -> None:
        lose(world)
        rebuild_registry(other)

    driver = FaultyDriver(world.driver(), [Fault("writer.publish", effect=meanwhile)])
    slow = world.registry(driver=driver)
    pull(slow, "v1", "b/mine")
    with contextlib.suppress(RegistryError):
        push_blob(slow, secret, "b/mine")
    with pytest.raises(BlobUnknown):
        pull_blob(other, Digest.of(secret), "a/other")
    push_blob(slow, secret, "b/mine")
    assert pull_blob(other, Digest.of(secret), "b/mine") == secret

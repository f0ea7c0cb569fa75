"""A repository that was never read becomes rows in short transactions; nothing of it is served before the last."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from registry.database import repositories
from registry.images.backends import Backends
from registry.images.records import blob_discovery, first_reading, repository_reader
from registry.images.records.manifest_rows import ManifestRows
from registry.images.registry import Registry
from registry.oci.errors import ManifestUnknown, Unavailable
from registry.oci.index import Index
from registry.storage.middleware.faults import Fault, FaultyDriver
from tests.support.kills import Doom, DyingDatabase, DyingDriver, Killed
from tests.support.payloads import image, index
from tests.support.registry_world import (
    ACTOR,
    KINDS,
    NAME,
    REAL,
    REAL_KIND,
    Pushed,
    World,
    is_there,
    pull,
    push_blob,
    push_image,
    push_manifest,
    read_index,
    tags,
    write_index,
)

ROWS = {
    "repository": "SELECT sequence, folded, missing FROM repository",
    "tags": "SELECT t.name, b.digest, t.sequence, t.updated_at FROM tag t JOIN blob b ON b.id = t.blob_id",
    "members": "SELECT b.digest FROM membership m JOIN blob b ON b.id = m.blob_id",
    "manifests": "SELECT b.digest, m.media_type, m.subject, m.annotations, m.pushed_at, m.complete"
    " FROM manifest m JOIN blob b ON b.id = m.blob_id",
    "references": "SELECT b.digest, r.digest, r.kind FROM reference r JOIN blob b ON b.id = r.manifest_id",
    "locations": "SELECT b.digest, l.key, l.size, l.state, l.verified_at IS NULL"
    " FROM blob b JOIN blob_location l ON l.blob_id = b.id",
    "withheld": "SELECT digest, kind FROM withheld",
    "trash": "SELECT b.digest, t.sequence, t.tags FROM trash_manifest t JOIN blob b ON b.id = t.blob_id",
    "changes": "SELECT sequence, state FROM change",
}


@pytest.fixture(params=[*KINDS, REAL_KIND])
def kind(request: pytest.FixtureRequest) -> str:
    """SQLite, of which each test makes many."""
    return str(request.param)


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(first_reading, "PAGE", 2)
    monkeypatch.setattr(repository_reader, "AT_ONCE", 2)
    monkeypatch.setattr(blob_discovery, "PAGE", 3)
    monkeypatch.setattr(blob_discovery, "BATCH", 2)


def rows(url: str) -> dict[str, list[Any]]:
    """What a database says, but for the numbers of its rows."""
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
        return {name: sorted(connection.execute(query).fetchall()) for name, query in ROWS.items()}


def fill(world: World, registry: Registry) -> dict[str, Pushed]:
    """Images of several times, an index with children, what is deleted, and changes that are not folded."""
    pushed = {}
    for number in range(5):
        world.clock.now += 3600
        pushed[f"v{number}"] = push_image(registry, str(number), f"v{number}")
    children = [push_image(registry, f"child {number}") for number in range(3)]
    push_manifest(registry, index([child.manifest for child in children]), "multi")
    registry.manifests.delete(NAME, push_image(registry, "deleted", "deleted").digest, actor=ACTOR)
    registry.fold_waiting()
    world.clock.now += 3600
    pushed["moved"] = push_image(registry, "moved", "v0")
    registry.manifests.delete(NAME, push_image(registry, "gone", "gone").digest, actor=ACTOR)
    return pushed


def read(world: World, url: str) -> dict[str, list[Any]]:
    """The rows of a new database after a first touch."""
    registry = world.registry(url=url)
    registry.repositories.require(NAME)
    return rows(url)


@pytest.fixture(name="url")
def _url(tmp_path: Path) -> Iterator[str]:
    return iter(f"sqlite:///{tmp_path / f'new-{number}.db'}" for number in range(1000))


def test_pages_of_any_size_make_the_same_rows(
    world: World, registry: Registry, url: Iterator[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pushed = fill(world, registry)
    paged = read(world, next(url))
    monkeypatch.setattr(first_reading, "PAGE", 1000)
    assert read(world, next(url)) == paged
    before = rows(world.url)
    assert [row[:2] for row in paged["tags"]] == [row[:2] for row in before["tags"]]
    assert [row[3] for row in paged["tags"]] == [row[3] for row in before["tags"]], "the times of the records"
    assert [row[0:6:4] for row in paged["manifests"]] == [row[0:6:4] for row in before["manifests"]]
    assert paged["references"] == before["references"]
    other = world.registry(url=next(url))
    assert pull(other, "v0") == pushed["moved"].digest
    assert tags(other) == ["multi", "v0", "v1", "v2", "v3", "v4"]


@pytest.mark.parametrize(
    ("kind", "step"),
    [
        *((kind, 7) for kind in KINDS),
        *(pytest.param(kind, 1, marks=pytest.mark.stores) for kind in KINDS),
        pytest.param(REAL, 1, marks=REAL_KIND.marks),
    ],
)
def test_a_process_that_is_killed_at_any_step_leaves_what_the_next_goes_on_with(
    world: World, registry: Registry, url: Iterator[str], step: int
) -> None:
    fill(world, registry)
    expected = read(world, next(url))

    def doomed(doom: Doom, at: str) -> Registry:
        world.registry(url=at)  # makes the database
        database = DyingDatabase(at, doom, world.clocks())
        return Registry(Backends(DyingDriver(world.driver(), doom), database, world.policy, clock=world.clock))

    life = Doom()
    dying = doomed(life, next(url))
    dying.repositories.require(NAME)
    dying.close()
    for at in range(1, life.steps + 1, step):
        target = next(url)
        dying = doomed(Doom(at), target)
        with pytest.raises(Killed):
            dying.repositories.require(NAME)
        dying.close()
        assert read(world, target) == expected, at


def test_what_was_read_is_not_read_again_and_nothing_is_served_before_the_end(
    world: World, registry: Registry, url: Iterator[str]
) -> None:
    fill(world, registry)
    target = next(url)
    fault = Fault("read", "*/blobs/*", first=7, times=None)
    failing = world.registry(url=target, driver=FaultyDriver(world.driver(), [fault]))
    with pytest.raises(Unavailable):
        failing.repositories.require(NAME)
    with failing.backends.database.snapshot() as connection:
        row = repositories.find(connection, NAME).get()
    assert row is not None
    assert row.is_unread
    assert len(rows(target)["manifests"]) in {4, 6}, "the pages before"
    with pytest.raises(Unavailable):
        failing.manifests.find(NAME, "v1")
    counting = FaultyDriver(world.driver(), [Fault("read", "*/blobs/*", times=None, effect=lambda: None)])
    again = world.registry(url=target, driver=counting)
    again.repositories.require(NAME)
    every = FaultyDriver(world.driver(), [Fault("read", "*/blobs/*", times=None, effect=lambda: None)])
    fresh = next(url)
    world.registry(url=fresh, driver=every).repositories.require(NAME)
    assert counting.struck[0] <= every.struck[0] - 3, "an index may be read again, for its children"
    assert rows(target) == rows(fresh)


def test_what_a_tool_has_changed_between_two_attempts_is_as_it_left_it(
    world: World, registry: Registry, url: Iterator[str]
) -> None:
    """An image is taken out, a tag is moved, a time is another one."""
    pushed = fill(world, registry)
    registry.fold_waiting()
    target = next(url)
    first = world.registry(url=target)
    with pytest.MonkeyPatch.context() as patch:

        def stop(*_: object) -> None:
            raise RuntimeError

        patch.setattr("registry.images.records.row_merge.RowMerge.end_reading", stop)
        with pytest.raises(RuntimeError):
            first.repositories.require(NAME)
    assert len(rows(target)["manifests"]) > 8
    changed = read_index(registry)
    changed.remove_manifest(pushed["v1"].digest)
    changed.set_tag("v2", changed.manifests()[pushed["v3"].digest])
    document = json.loads(changed.serialise())
    for entry in document["manifests"]:
        if entry["digest"] == pushed["v4"].digest:
            entry["annotations"]["io.stowage.pushed"] = "2020-01-01T00:00:00.000+00:00"
    write_index(registry, Index.parse(json.dumps(document).encode()))
    fresh = next(url)
    expected = read(world, fresh)
    found = read(world, target)
    if registry.backends.layout.per_repository:
        assert found["members"] == expected["members"], "the file of the image is still there"
    found["members"] = expected["members"] = []
    found["locations"] = expected["locations"] = []  # a bucket keeps the object, and the row says where it is
    assert found == expected
    again = world.registry(url=target)
    assert pull(again, "v2") == pushed["v3"].digest
    with pytest.raises(ManifestUnknown):
        again.manifests.find(NAME, pushed["v1"].digest)


def test_a_reading_that_another_process_has_ended_meanwhile_takes_what_is_there(
    world: World, registry: Registry, url: Iterator[str]
) -> None:
    pushed = fill(world, registry)
    target = next(url)
    other = world.registry(url=target)

    def end() -> None:
        other.repositories.require(NAME)
        push_image(other, "meanwhile", "meanwhile")
        for tag in ("v1", "v2", "v3", "v4"):
            other.manifests.delete(NAME, pushed[tag].digest, actor=ACTOR)
        other.fold_waiting()

    slow = world.registry(
        url=target, driver=FaultyDriver(world.driver(), [Fault("read", "*/blobs/*", first=5, effect=end)])
    )
    slow.repositories.require(NAME)
    assert tags(slow) == tags(other) == ["meanwhile", "multi", "v0"]
    pull(slow, "meanwhile")
    for tag in ("v1", "v2", "v3", "v4"):
        assert not is_there(slow, pushed[tag].manifest)


def test_children_of_an_index_whose_rows_an_earlier_attempt_has_left_are_read(
    world: World, registry: Registry, url: Iterator[str]
) -> None:
    """They are in no entry of ``index.json``: only the index names them."""
    children = []
    for number in range(3):
        made = push_image(registry, f"child {number}")
        children.append(made)
    push_manifest(registry, index([child.manifest for child in children]), "multi")
    registry.fold_waiting()
    document = read_index(registry)
    for child in children:
        document.remove_manifest(child.digest)
    write_index(registry, document)
    target = next(url)
    failing = world.registry(url=target, driver=FaultyDriver(world.driver(), [Fault("read", "*/blobs/*", first=4)]))
    with pytest.raises(Unavailable):
        failing.repositories.require(NAME)
    again = world.registry(url=target)
    for child in children:
        assert pull(again, child.manifest.digest) == child.digest


def test_a_large_manifest_has_a_page_of_its_own(
    world: World, registry: Registry, url: Iterator[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(first_reading, "PAGE", 1000)
    monkeypatch.setattr(first_reading, "PAGE_BYTES", 1000)
    made = push_image(registry, "1", "v1")
    for number in range(3):
        push_manifest(registry, image(made.config, [made.layer], annotations={"n": "x" * 900 + str(number)}))
    push_blob(registry, b"unnamed")
    registry.fold_waiting()
    written = list[int]()
    write = ManifestRows.write

    def count(self: Any, loaded: Any) -> None:
        written.append(len(loaded))
        write(self, loaded)

    monkeypatch.setattr(ManifestRows, "write", count)
    read(world, next(url))
    assert sorted(written) == [1, 1, 1, 1]

"""When manifests were pushed and tags set is the same after storage was read again (design, I11)."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from registry.database import changes, manifests, repositories, tags
from registry.images.layout import SEGMENT
from registry.images.records.folding import ABANDONED_SECONDS
from registry.images.records.history import History
from registry.images.records.journal import Journal
from registry.images.registry import Registry
from registry.maintenance.rebuild import rebuild_registry
from registry.oci.digest import Digest
from registry.oci.index import NOTED, Index
from registry.oci.index_entry import PUSHED, TAGGED
from registry.oci.record import Record
from registry.storage.middleware.faults import Fault, FaultyDriver
from tests.images.records.test_reconciliation import copy_of
from tests.support.payloads import index
from tests.support.registry_world import (
    ACTOR,
    KINDS,
    NAME,
    REAL_KIND,
    World,
    make_image,
    pull,
    push_blob,
    push_image,
    push_manifest,
    write_index,
)

Times = tuple[dict[str, float], dict[str, float]]
Fresh = Callable[[], str]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """A real store is for the tests that name it."""
    return str(request.param)


@pytest.fixture
def fresh(tmp_path: Path) -> Fresh:
    """The URL of a database with nothing in it."""
    numbers = itertools.count()
    return lambda: f"sqlite:///{tmp_path / f'fresh-{next(numbers)}.db'}"


def times(registry: Registry, name: str = NAME) -> Times:
    """Of pushes by digest, and of tags by name, as the database has them."""
    with registry.backends.database.snapshot() as connection:
        row = repositories.find(connection, name).get()
        assert row is not None
        return manifests.pushed_at(connection, row.id).get(), tags.updated_at(connection, row.id).get()


def rebuilt(world: World, url: str) -> Registry:
    """A process with a new database, a day later."""
    world.clock.now += 86_400
    registry = world.registry(url=url)
    rebuild_registry(registry)
    return registry


def push_for_days(world: World, registry: Registry) -> None:
    """What happens to tags and manifests, a day after the other."""
    first = push_image(registry, "1", "v1", "latest")
    for work in (
        lambda: push_image(registry, "2", "v2", "latest"),
        lambda: push_manifest(registry, first.manifest, "again"),
        lambda: registry.manifests.untag(NAME, "v2", actor=ACTOR),
        lambda: push_manifest(registry, push_image(registry, "3").manifest, "v3"),
        lambda: push_manifest(registry, index([first.manifest]), "multi"),
        lambda: registry.manifests.untag(NAME, "again", actor=ACTOR),
        lambda: push_manifest(registry, first.manifest),
        lambda: registry.manifests.delete(NAME, push_image(registry, "gone", "gone").digest, actor=ACTOR),
        lambda: push_manifest(registry, first.manifest, "v1"),
    ):
        world.clock.now += 86_400.123_456
        work()


def stored(registry: Registry, name: str = NAME) -> Index:
    return Index.parse(registry.backends.driver.read(registry.backends.layout.index(name), max_bytes=1 << 20)[0])


def as_the_release_before(registry: Registry) -> None:
    """The index without what that release does not write."""
    key = registry.backends.layout.index(NAME)
    document = orjson.loads(registry.backends.driver.read(key, max_bytes=1 << 20)[0])
    document["annotations"].pop(NOTED, None)
    for entry in document["manifests"]:
        left = {name: value for name, value in entry.get("annotations", {}).items() if name not in {PUSHED, TAGGED}}
        entry.pop("annotations", None)
        if left:
            entry["annotations"] = left
    registry.backends.driver.write(key, orjson.dumps(document))


@pytest.mark.parametrize("kind", [*KINDS, REAL_KIND])
@pytest.mark.parametrize("folds", ["each", "end", "never"])
def test_a_rebuild_keeps_the_times(world: World, registry: Registry, fresh: Fresh, folds: str) -> None:
    push_for_days(world, registry)
    if folds == "each":
        other = world.registry()
        for _ in range(3):
            push_image(other, "more", "more")
            other.fold_waiting()
    if folds != "never":
        registry.fold_waiting()
    before = times(registry)
    assert len(set(before[0].values())) > 2
    assert times(rebuilt(world, fresh())) == before
    assert times(rebuilt(world, fresh())) == before


def test_the_fold_writes_them_into_the_index_and_history_need_not_be_read(
    world: World, registry: Registry, fresh: Fresh
) -> None:
    push_for_days(world, registry)
    registry.fold_waiting()
    before = times(registry)
    shutil.rmtree(world.root / NAME / ".journal", ignore_errors=True)
    journal = registry.backends.layout.journal(NAME)
    registry.backends.driver.delete([key for key, _ in registry.backends.driver.list(journal)])
    assert times(rebuilt(world, fresh())) == before
    entries = orjson.loads(stored(registry).serialise())["manifests"]
    assert all(PUSHED in entry["annotations"] for entry in entries)
    assert [TAGGED in entry["annotations"] for entry in entries] == [
        "org.opencontainers.image.ref.name" in entry["annotations"] for entry in entries
    ]


@pytest.mark.parametrize("how", ["rebuild", "fold"])
def test_an_index_without_them_has_its_history_read_once(
    world: World, registry: Registry, fresh: Fresh, how: str
) -> None:
    world.policy = replace(world.policy, undelete_window=0.0)  # the trash is read from records
    push_for_days(world, registry)
    registry.fold_waiting()
    before = times(registry)
    as_the_release_before(registry)
    if how == "rebuild":
        assert times(rebuilt(world, fresh())) == before
    else:
        push_image(registry, "more", "more")
        registry.fold_waiting()
        registry.fold_waiting()
        before = times(registry)
    assert stored(registry).noted == stored(registry).folded
    assert stored(registry).untimed == 0
    reading = FaultyDriver(world.driver(), [Fault("read", "*/.journal/*", times=None)])
    other = world.registry(driver=reading, url=fresh())
    if not other.backends.driver.capabilities.appends:  # a file of records is looked into for the newest
        rebuild_registry(other)
        assert times(other) == before


def test_history_is_read_once_also_where_others_fold_meanwhile(
    world: World, fresh: Fresh, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading a hundred thousand records takes a minute, and in a busy repository none passes without a fold."""
    registry = world.registry(accept_missing_blobs=True)
    push_for_days(world, registry)
    lacking = make_image("lacking")
    push_manifest(registry, lacking.manifest, "lacking")
    registry.fold_waiting()
    as_the_release_before(registry)
    with registry.backends.database.transaction() as connection:
        row = repositories.find(connection, NAME).get()
        assert row is not None
        etag = registry.backends.driver.stat(registry.backends.layout.index(NAME)).etag
        repositories.set_etag(connection, row.id, etag)
    wrote, read, others = History.write, Journal.history, itertools.count()
    ranges = list[int]()

    def write(history: History, name: str, data: bytes, etag: str) -> bool:
        if len(ranges) <= 3:
            with monkeypatch.context() as patched:
                patched.setattr(History, "complete", lambda *_: None)
                other = world.registry()
                world.clock.now += 86_400
                push_image(other, f"other {next(others)}", "v1")
                if len(ranges) == 2:
                    push_blob(other, lacking.config.data)
                other.fold_waiting()
        return wrote(history, name, data, etag)

    def history(journal: Journal, repository: str, after: int, last: int) -> Iterator[Record]:
        ranges.append(after)
        return read(journal, repository, after, last)

    monkeypatch.setattr(History, "write", write)
    monkeypatch.setattr(Journal, "history", history)
    push_image(registry, "more", "more")
    registry.fold_waiting()
    assert ranges[0] == 0
    assert len(ranges) > 3
    assert 0 not in ranges[1:]
    assert stored(registry).noted == stored(registry).folded
    assert stored(registry).withheld.blobs == {Digest.parse(lacking.layer.digest)}
    assert times(rebuilt(world, fresh())) == times(registry)


@pytest.mark.parametrize("kind", ["local"])
def test_history_is_in_memory_one_file_at_a_time(world: World, registry: Registry) -> None:
    push_image(registry, "1", "v1")
    line = registry.backends.driver.read(registry.backends.layout.record(NAME, 1), max_bytes=1 << 20)[0]
    numbers = [1, SEGMENT, 2 * SEGMENT]
    for number in numbers[1:]:
        registry.backends.driver.append(
            registry.backends.layout.record(NAME, number), replace(Record.parse(line), sequence=number).to_line()
        )
    faults = [Fault("read", registry.backends.layout.record(NAME, number)) for number in numbers[1:]]
    failing = Journal(world.registry(driver=FaultyDriver(world.driver(), faults)).backends)
    assert next(failing.history(NAME, 0, numbers[-1])).sequence == 1
    found = Journal(registry.backends).history(NAME, 0, numbers[-1])
    assert [record.sequence for record in found] == numbers


def test_a_release_before_that_folds_in_between_takes_no_time_away(
    world: World, registry: Registry, fresh: Fresh
) -> None:
    push_for_days(world, registry)
    registry.fold_waiting()
    noted = stored(registry).noted
    push_image(registry, "beside", "v1")
    registry.fold_waiting()
    before = times(registry)
    key = registry.backends.layout.index(NAME)
    document = orjson.loads(registry.backends.driver.read(key, max_bytes=1 << 20)[0])
    document["annotations"][NOTED] = str(noted)
    for entry in document["manifests"]:
        if entry["annotations"].get("org.opencontainers.image.ref.name") == "v1":
            del entry["annotations"][PUSHED], entry["annotations"][TAGGED]
    registry.backends.driver.write(key, orjson.dumps(document))
    assert times(rebuilt(world, fresh())) == before


def test_an_older_copy_of_the_database_gets_the_times_of_what_came_since(
    world: World, registry: Registry, tmp_path: Path
) -> None:
    made = push_image(registry, "1", "v1")
    registry.fold_waiting()
    old = copy_of(world, tmp_path / "old.db")
    world.clock.now += 86_400
    push_manifest(registry, made.manifest, "v1")
    registry.fold_waiting()
    before = times(registry)
    assert times(rebuilt(world, old)) == before


@pytest.mark.parametrize("kind", ["local"])
def test_what_another_tool_placed_has_the_time_of_its_files(world: World, registry: Registry, fresh: Fresh) -> None:
    push_image(registry, "1", "v1")
    registry.fold_waiting()
    shutil.copytree(world.root / NAME, world.root / "placed", ignore=shutil.ignore_patterns(".journal"))
    document = orjson.loads((world.root / "placed/index.json").read_bytes())
    placed = {
        "schemaVersion": 2,
        "manifests": [{**document["manifests"][0], "annotations": {"org.opencontainers.image.ref.name": "v1"}}],
    }
    (world.root / "placed/index.json").write_bytes(orjson.dumps(placed))
    for path in (world.root / "placed").rglob("*"):
        os.utime(path, (1_000_000_000.5, 1_000_000_000.5))
    found = times(rebuilt(world, fresh()), "placed")
    assert set(found[0].values()) == set(found[1].values()) == {1_000_000_000.5}
    last = rebuilt(world, fresh())
    assert times(last, "placed") == found
    push_image(last, "2", "v2", name="placed")
    last.fold_waiting()
    assert stored(last, "placed").tagged("v1") == 1_000_000_000.5
    os.utime(world.root / "placed/index.json")
    for path in (world.root / "placed/blobs").rglob("*"):
        os.utime(path)
    found = times(last, "placed")
    assert times(rebuilt(world, fresh()), "placed") == found


@pytest.mark.parametrize("kind", ["local"])
@pytest.mark.parametrize("claimed", ["9999-12-31T23:59:59.999999Z", "0001-01-01T00:00:00Z"])
def test_no_time_that_a_tool_claims_stops_its_repository(world: World, registry: Registry, claimed: str) -> None:
    made = push_image(registry, "1", "v1")
    registry.fold_waiting()
    document = orjson.loads((world.root / NAME / "index.json").read_bytes())
    document["annotations"] = {}
    document["manifests"][0]["annotations"] |= {PUSHED: claimed, TAGGED: claimed}
    shutil.copytree(world.root / NAME, world.root / "placed", ignore=shutil.ignore_patterns(".journal"))
    (world.root / "placed/index.json").write_bytes(orjson.dumps(document))
    rebuild_registry(registry)
    document["manifests"] = []
    (world.root / "placed/index.json").write_bytes(orjson.dumps(document))
    other = world.registry()
    rebuild_registry(other)
    push_image(other, "2", "v2", name="placed")
    world.clock.now += 86_400
    other.fold_waiting()
    assert stored(other, "placed").tags().keys() == {"v1", "v2"}
    assert pull(other, "v1", "placed") == made.digest


@pytest.mark.parametrize("kind", ["local"])
def test_what_a_tool_dropped_comes_back_with_its_times(world: World, registry: Registry, fresh: Fresh) -> None:
    push_image(registry, "1", "v1", "also")
    registry.fold_waiting()
    stale = stored(registry)
    world.clock.now += 86_400
    push_image(registry, "2", "v2")
    registry.fold_waiting()
    before = times(registry)
    write_index(registry, stale)
    world.clock.now += 86_400
    other = world.registry()
    rebuild_registry(other)
    other.fold_waiting()
    assert times(other) == before
    assert times(rebuilt(world, fresh())) == before


def test_a_record_that_a_later_release_wrote_differently_stops_its_repository(
    world: World, registry: Registry, fresh: Fresh
) -> None:
    push_image(registry, "1", "v1")
    push_image(registry, "1", "v1", name="team/other")
    registry.fold_waiting()
    line = orjson.dumps({"seq": 2, "time": "2026-11-28T00:00:00Z", "actor": "x", "op": "rename", "tags": [], "old": {}})
    key = registry.backends.layout.record(NAME, 2)
    if registry.backends.driver.capabilities.appends:
        registry.backends.driver.append(key, line + b"\n")
    else:
        registry.backends.driver.write(key, line + b"\n")
    other = world.registry(url=fresh())
    report = rebuild_registry(other)
    assert report.repositories == 1
    assert [problem for problem in report.problems if problem.startswith(f"{NAME}: ")] == report.problems != []


def test_a_change_that_a_later_release_committed_stops_its_repository_alone(world: World, registry: Registry) -> None:
    """It runs beside this one on the same database, and was killed before its record was on storage."""
    for name in (NAME, "team/other"):
        push_image(registry, "1", "v1", name=name)
    line = orjson.dumps({"seq": 2, "time": "2026-11-28T00:00:00Z", "actor": "x", "op": "rename", "tags": [], "old": {}})
    with registry.backends.database.transaction() as connection:
        row = repositories.find(connection, NAME).get()
        assert row is not None
        repositories.next_sequence(connection, row.id)
        changes.add(connection, row.id, 2, line + b"\n", state=changes.PENDING, now=world.clock.now)
    world.clock.now += ABANDONED_SECONDS + 1
    registry.fold_waiting()
    assert stored(registry, "team/other").folded == 1
    report = rebuild_registry(registry)
    assert report.repositories == 1
    assert [problem for problem in report.problems if problem.startswith(f"{NAME}: ")] == report.problems != []


@pytest.mark.parametrize("kind", ["local"])
def test_a_line_that_a_kill_cut_short_is_skipped(world: World, registry: Registry, fresh: Fresh) -> None:
    push_image(registry, "1", "v1")
    with (world.root / registry.backends.layout.record(NAME, 1)).open("ab") as journal:
        journal.write(b'{"seq":2,"time":"2026')
    push_image(registry, "2", "v2")
    before = times(registry)
    assert times(rebuilt(world, fresh())) == before

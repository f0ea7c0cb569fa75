"""Adopting over the memory driver: everything is served, no byte moves, and passes take what the source changed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

from registry.images.index_file import MAX_INDEX
from registry.images.records.folding import ABANDONED_SECONDS
from registry.maintenance.rebuild import rebuild_registry
from registry.migration.report import Refused
from registry.oci.digest import Digest
from registry.oci.errors import ManifestUnknown
from registry.oci.index import FOLDED, MIGRATION, NOTED, WITHHELD
from registry.oci.index_entry import PUSHED, TAGGED
from registry.oci.withheld import Withheld
from registry.storage.driver import StorageDriver
from registry.storage.middleware.faults import Fault, FaultyDriver
from tests.support.migrated_bucket import Bucket, check_served
from tests.support.payloads import Blob, image
from tests.support.registry_world import push_blob, push_manifest
from tests.support.source_world import (
    AMD,
    ARM,
    BOTH,
    NOTHING,
    ON_AMD,
    OTHER,
    PLAIN,
    SHARED,
    Repository,
    earlier_layout,
    fill,
    per_repository,
    repositories,
)

T = TypeVar("T")
NEW = image(AMD, [Blob(b"a new layer")])


class Reads(FaultyDriver):
    """Knows what was read."""

    def __init__(self, inner: StorageDriver) -> None:
        super().__init__(inner)
        self.keys: list[str] = []

    def around(self, operation: str, key: str, call: Callable[[], T]) -> T:
        self.keys += [key] if operation == "read" else []
        return super().around(operation, key, call)


def with_new(content: list[Repository], tag: str = "v2") -> list[Repository]:
    """The same, and a new image in the first repository."""
    content[0].tags[tag] = NEW
    content[0].blobs.append(Blob(b"a new layer"))
    return content


def overwritten(layout: str) -> set[str]:
    return {f"{made.name}/index.json" for made in repositories()} if layout == "zot-without-prefix" else set()


def test_everything_is_served_from_the_source_and_none_of_it_is_touched(layout: str, bucket: Bucket) -> None:
    driver = FaultyDriver(bucket.driver)
    found = bucket.adopt(bucket.registry(driver=driver))
    assert (found.state, found.problems, found.notes) == ("adopted", [], [])
    assert found.counts == {"taken": 3}
    assert driver.calls["copy"] == driver.calls["delete"] == driver.calls["open"] == 0
    check_served(bucket.registry(), repositories())
    now = bucket.objects()
    assert {key for key, data in bucket.source.items() if now[key] != data} == overwritten(layout)
    assert not [key for key in now if key.startswith("storage/blobs/")]


def test_a_second_pass_writes_its_state_and_nothing_else(bucket: Bucket) -> None:
    bucket.adopt()
    before = bucket.objects()
    driver = FaultyDriver(bucket.driver)
    found = bucket.adopt(bucket.registry(driver=driver))
    assert (found.state, found.is_quiet) == ("adopted", True)
    assert driver.calls["write"] == 1
    now = bucket.objects()
    assert {key for key in now if now[key] != before.get(key)} == {"storage/migrations/0001/state.json"}


def test_without_a_database_the_journal_gives_everything_back(bucket: Bucket, tmp_path: Path) -> None:
    bucket.adopt()
    bucket.world.url = f"sqlite:///{tmp_path / 'new.db'}"
    registry = bucket.registry()
    report = rebuild_registry(registry)
    assert (report.repositories, report.problems) == (3, [])
    check_served(registry, repositories())
    assert bucket.adopt(registry).state == "adopted"


def test_an_index_that_both_share_is_kept_first_and_nothing_of_it_is_dropped(tmp_path: Path) -> None:
    tree = per_repository(repositories())
    document = json.loads(tree["app/index.json"])
    document["annotations"] = {"com.example.mine": "kept"}
    document["manifests"] += [{"what": "is this"}, PLAIN.descriptor() | {"platform": {"os": "plan9"}}]
    tree["app/index.json"] = json.dumps(document, indent=1).encode()
    bucket = Bucket(tmp_path, "zot-without-prefix", tree)
    bucket.adopt()
    assert (
        bucket.driver.read("storage/migrations/0001/repositories/app/.index", max_bytes=MAX_INDEX)[0]
        == (tree["app/index.json"])
    )
    now = json.loads(bucket.driver.read("app/index.json", max_bytes=MAX_INDEX)[0])
    lacks = Withheld(frozenset({Digest.parse(NOTHING.digest)})).to_text()  # of PLAIN, which is of another repository
    assert now["annotations"] == {"com.example.mine": "kept", FOLDED: "0", MIGRATION: "0001", WITHHELD: lacks}
    for entry in now["manifests"]:
        for name in (PUSHED, TAGGED):
            entry.get("annotations", {}).pop(name, None)
        if entry.get("annotations") == {}:
            del entry["annotations"]
    assert [entry for entry in document["manifests"] if entry not in now["manifests"]] == []


def test_what_is_pushed_while_a_pass_reads_is_named_and_taken_by_the_next(layout: str, bucket: Bucket) -> None:
    pushing = Fault("list", "", first=3, effect=lambda: bucket.become(with_new(repositories())))  # the second listing
    found = bucket.adopt(bucket.registry(driver=FaultyDriver(bucket.driver, [pushing])))
    assert (found.state, found.is_quiet) == ("adopting", False)
    assert "app" in found.changed
    registry = bucket.registry()
    for repository in repositories()[1:]:
        if layout == "zot-without-prefix":  # the source would find our entries in its own index
            assert registry.repositories.touch(repository.name) is None
        else:
            check_served(registry, [repository])
    assert registry.repositories.touch("app") is None
    assert not any(b"stowage" in data for key, data in bucket.objects().items() if key in bucket.source)
    again = bucket.adopt()
    assert (again.state, again.is_quiet) == ("adopted", True)
    check_served(bucket.registry(), with_new(repositories()))


@pytest.mark.parametrize("layout", ["zot", "distribution"])
def test_passes_take_what_the_source_pushed_moved_and_removed(layout: str, bucket: Bucket) -> None:
    bucket.adopt()
    content = with_new(repositories())
    content[0].tags["amd"] = NEW
    content[0].untagged += [ON_AMD]
    del content[1].tags["stable"]
    del content[2]
    content.append(Repository("brand/new", {"v1": OTHER}, [], [ARM, SHARED]))
    bucket.become(content)
    found = bucket.adopt()
    assert (found.problems, found.is_quiet) == ([], True)
    registry = bucket.registry()
    check_served(registry, content)
    assert registry.manifests.tags("team/web/nested", last="", count=9)[0] == []
    with pytest.raises(ManifestUnknown):
        registry.manifests.find("team/web/nested", Digest.parse(OTHER.digest))
    registry.fold_waiting()
    before = bucket.objects("app", "team", "brand")
    assert bucket.adopt().notes == found.notes
    assert bucket.objects("app", "team", "brand") == before
    check_served(bucket.registry(), content)


@pytest.mark.parametrize("layout", ["zot", "distribution"])
def test_what_stowage_changed_too_stays_and_is_told(layout: str, bucket: Bucket) -> None:
    bucket.adopt()
    registry = bucket.registry()
    push_blob(registry, b"mine", "app")
    mine = image(AMD, [Blob(b"mine")])
    push_manifest(registry, mine, "v1", "own", name="app")
    registry.manifests.untag("team/web", "stable", actor="client")
    registry.fold_waiting()
    content = with_new(repositories(), "v1")
    content[1].tags["stable"] = NEW
    content[1].blobs.append(Blob(b"a new layer"))
    bucket.become(content)
    found = bucket.adopt()
    assert [(note.kind, note.count) for note in found.notes if note.kind == "kept-tags"] == [("kept-tags", 2)]
    registry = bucket.registry()
    assert registry.manifests.find("app", "v1").digest == mine.digest
    assert registry.manifests.find("app", Digest.parse(NEW.digest)).digest == NEW.digest
    with pytest.raises(ManifestUnknown):
        registry.manifests.find("team/web", "stable")
    assert [note.kind for note in bucket.adopt().notes if note.kind == "kept-tags"] == []


def test_pushes_to_stowage_before_the_adoption_are_merged(layout: str, bucket: Bucket) -> None:
    registry = bucket.registry()
    push_blob(registry, b"mine", "app")
    push_blob(registry, AMD.data, "app")
    mine = image(AMD, [Blob(b"mine")])
    push_manifest(registry, mine, "v1", "own", name="app")
    registry.fold_waiting()
    before = {key: data for key, data in bucket.objects().items() if key in bucket.source}
    assert before == bucket.source
    found = bucket.adopt()
    assert [(note.kind, note.count) for note in found.notes] == [("kept-tags", 1)]
    registry = bucket.registry()
    bucket.world.clock.now += 2 * ABANDONED_SECONDS
    registry.fold_waiting()
    assert registry.manifests.find("app", "v1").digest == registry.manifests.find("app", "own").digest == mine.digest
    assert registry.manifests.find("app", "amd").digest == ON_AMD.digest
    assert registry.manifests.find("app", Digest.parse(BOTH.digest)).digest == BOTH.digest
    check_served(registry, repositories()[1:])
    index = json.loads(bucket.driver.read("app/index.json", max_bytes=MAX_INDEX)[0])
    assert index["annotations"] == {FOLDED: "1", NOTED: "1", MIGRATION: "0001"}


def test_pushes_to_stowage_after_it_go_beside_the_source(layout: str, bucket: Bucket) -> None:
    bucket.adopt()
    registry = bucket.registry()
    push_blob(registry, b"mine", "app")
    mine = image(SHARED, [Blob(b"mine")])
    push_manifest(registry, mine, "own", name="app")
    registry.fold_waiting()
    now = bucket.objects()
    assert {key for key, data in bucket.source.items() if now[key] != data} == overwritten(layout)
    found = bucket.adopt()
    assert (found.is_quiet, found.notes) == (True, [])
    content = repositories()
    content[0].tags["own"] = mine
    content[0].blobs.append(Blob(b"mine"))
    check_served(bucket.registry(), content)
    base = json.loads(bucket.driver.read("storage/migrations/0001/repositories/app/.original.json", max_bytes=9999)[0])
    assert set(base["tags"]) == {"amd", "v1"}, "what Stowage has pushed is nothing that the source said"


def test_what_is_pushed_to_an_index_that_both_share_is_taken_by_the_next_pass(tmp_path: Path) -> None:
    """The source keeps the annotations of an index that it rewrites."""
    bucket = Bucket(tmp_path, "zot-without-prefix")
    tree = dict(bucket.source)
    bucket.adopt()
    index = json.loads(bucket.driver.read("app/index.json", max_bytes=MAX_INDEX)[0])
    pushed = json.loads(per_repository(with_new(repositories()))["app/index.json"])
    index["manifests"] += [entry for entry in pushed["manifests"] if entry["digest"] == NEW.digest]
    fill(
        bucket.driver, {key: data for key, data in per_repository(with_new(repositories())).items() if key not in tree}
    )
    bucket.driver.write("app/index.json", json.dumps(index).encode())
    found = bucket.adopt()
    assert (found.is_quiet, found.problems) == (True, [])
    check_served(bucket.registry(), with_new(repositories()))


@pytest.mark.parametrize("is_made_anew", [False, True])
def test_a_shared_index_that_was_lost_is_taken_again_and_the_one_of_the_source_kept(
    is_made_anew: bool, tmp_path: Path
) -> None:
    bucket = Bucket(tmp_path, "zot-without-prefix")
    tree = dict(bucket.source)
    bucket.adopt()
    bucket.driver.delete(["app/index.json"])
    content = repositories()
    if is_made_anew:
        registry = bucket.registry()
        content[0].tags["own"] = image(AMD, [Blob(b"mine")])
        for data in (AMD.data, b"mine"):
            push_blob(registry, data, "app")
        push_manifest(registry, content[0].tags["own"], "own", name="app")
        registry.fold_waiting()
    assert bucket.adopt().is_quiet
    check_served(bucket.registry(), content)
    saved = bucket.driver.read("storage/migrations/0001/repositories/app/.index", max_bytes=MAX_INDEX)[0]
    assert saved == tree["app/index.json"]


def test_an_earlier_layout_of_ours_is_taken_with_the_records_that_its_indexes_lack(tmp_path: Path) -> None:
    bucket = Bucket(tmp_path, "zot-without-prefix", earlier_layout(repositories()))
    assert bucket.adopt().problems == []
    check_served(bucket.registry(), repositories())
    assert bucket.adopt().is_quiet
    registry = bucket.registry()
    push_blob(registry, b"mine", "app")
    push_manifest(registry, image(AMD, [Blob(b"mine")]), "own", name="app")
    assert registry.fold_waiting() >= 1
    assert registry.manifests.find("app", "v1").digest == BOTH.digest


def test_an_index_that_neither_registry_wrote_is_left_alone_where_ours_would_be(tmp_path: Path) -> None:
    bucket = Bucket(tmp_path, "distribution")
    strange = b'{"manifests": []}'
    meanwhile = Fault("list", "", first=3, effect=lambda: fill(bucket.driver, {"app/index.json": strange}))
    found = bucket.adopt(bucket.registry(driver=FaultyDriver(bucket.driver, [meanwhile])))
    assert [(problem.kind.value, problem.repository) for problem in found.problems] == [("name-collision", "app")]
    assert bucket.driver.read("app/index.json", max_bytes=99)[0] == strange
    check_served(bucket.registry(), repositories()[1:])


def test_another_instance_is_noticed_by_the_state_that_it_wrote(bucket: Bucket) -> None:
    bucket.adopt()
    key = "storage/migrations/0001/state.json"

    def write() -> None:
        state = json.loads(bucket.driver.read(key, max_bytes=9999)[0])
        bucket.driver.write(key, json.dumps(state | {"writer": "another", "revision": state["revision"] + 1}).encode())

    meanwhile = Fault("list", "", first=3, effect=write)
    with pytest.raises(Refused, match="another has written"):
        bucket.adopt(bucket.registry(driver=FaultyDriver(bucket.driver, [meanwhile])))


def test_a_base_covers_its_repository_so_that_nothing_of_it_is_read_again(layout: str, bucket: Bucket) -> None:
    bucket.adopt()
    driver = Reads(bucket.driver)
    bucket.adopt(bucket.registry(driver=driver))
    assert [key for key in driver.keys if key in bucket.source and key not in overwritten(layout)] == []

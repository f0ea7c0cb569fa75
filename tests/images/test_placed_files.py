"""Other tools that write into a repository's directory: what they add is taken, what we acknowledged is put back."""

from __future__ import annotations

import itertools
import shutil
import time

import orjson
import pytest

from registry.database import repositories as repository_rows
from registry.images import repositories
from registry.images.registry import Registry
from registry.oci.descriptor import Descriptor
from registry.oci.digest import Digest
from registry.oci.errors import BlobUnknown, ManifestUnknown, NameUnknown
from registry.oci.index import Index
from registry.oci.media_types import OCI_INDEX
from tests.support.registry_world import (
    ACTOR,
    NAME,
    Pushed,
    World,
    make_image,
    pull,
    push_image,
    read_index,
    tags,
    write_index,
)

pytestmark = pytest.mark.parametrize("kind", ["local"])


@pytest.fixture(autouse=True)
def every_request_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repositories, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(repositories, "FOLD_SECONDS", 0.01)
    monkeypatch.setattr(repositories, "MISSING_SECONDS", 0.0)


def place(registry: Registry, made: Pushed, name: str = NAME) -> Descriptor:
    """Write the blobs of an image as another tool does."""
    for data in (made.config.data, made.layer.data, made.manifest.data):
        registry.backends.driver.write(registry.backends.layout.blob(name, Digest.of(data)), data)
    return Descriptor(made.manifest.media_type, made.digest, len(made.manifest.data))


def raw_index(registry: Registry) -> Index:
    return Index.parse(registry.backends.driver.read(registry.backends.layout.index(NAME), max_bytes=1 << 20)[0])


def test_an_image_that_another_tool_added_is_served(registry: Registry) -> None:
    push_image(registry, "1", "v1")
    registry.fold_waiting()
    made, index = make_image("outside"), raw_index(registry)
    index.set_tag("outside", place(registry, made))
    write_index(registry, index)
    assert pull(registry, "outside") == made.digest
    push_image(registry, "2", "v2")
    registry.fold_waiting()
    assert set(read_index(registry).tags()) == {"outside", "v1", "v2"}


def test_a_layout_that_another_tool_placed_is_served(registry: Registry) -> None:
    made, index = make_image("outside"), Index.empty()
    registry.backends.driver.write(registry.backends.layout.marker(NAME), b'{"imageLayoutVersion":"1.0.0"}')
    index.set_tag("outside", place(registry, made))
    write_index(registry, index)
    assert pull(registry, "outside") == made.digest
    push_image(registry, "1", "v1")
    registry.fold_waiting()
    assert set(read_index(registry).tags()) == {"outside", "v1"}


def test_tags_that_a_tool_erased_by_writing_an_older_index_come_back(world: World, registry: Registry) -> None:
    push_image(registry, "1", "v1")
    registry.fold_waiting()
    stale = raw_index(registry)
    second = push_image(registry, "2", "v2")
    registry.fold_waiting()
    made = make_image("outside")
    stale.set_tag("outside", place(registry, made))
    write_index(registry, stale)
    for process in (registry, world.registry()):
        assert tags(process) == ["outside", "v1", "v2"]
        assert pull(process, "v2") == second.digest
    world.clock.now += 10
    registry.fold_waiting()
    assert set(read_index(registry).tags()) == {"outside", "v1", "v2"}
    assert second.digest in read_index(registry).manifests()


def test_tags_that_a_tool_left_out_come_back(world: World, registry: Registry, tmp_path: object) -> None:
    pushed = push_image(registry, "1", "v1")
    untagged = push_image(registry, "untagged")
    registry.fold_waiting()
    index = Index.empty()
    index.folded = raw_index(registry).folded
    write_index(registry, index)
    assert pull(registry, "v1") == pushed.digest
    world.clock.now += 10
    registry.fold_waiting()
    assert set(read_index(registry).manifests()) == {pushed.digest, untagged.digest}
    fresh = world.registry(url=f"sqlite:///{tmp_path}/new.db")
    assert tags(fresh) == ["v1"]


def test_what_we_deleted_does_not_come_back_with_an_older_index(world: World, registry: Registry) -> None:
    push_image(registry, "1", "v1")
    gone = push_image(registry, "2", "gone", "untagged")
    registry.fold_waiting()
    stale = raw_index(registry)
    registry.manifests.untag(NAME, "untagged", actor=ACTOR)
    registry.manifests.delete(NAME, gone.digest, actor=ACTOR)
    registry.fold_waiting()
    write_index(registry, stale)
    assert tags(registry) == ["v1"]
    with pytest.raises(ManifestUnknown):
        registry.manifests.find(NAME, gone.digest)
    world.clock.now += 10
    registry.fold_waiting()
    assert set(read_index(registry).tags()) == {"v1"}


def test_a_tag_that_only_the_tool_moved_is_taken(registry: Registry) -> None:
    push_image(registry, "1", "v1")
    second = push_image(registry, "2", "v2")
    registry.fold_waiting()
    index = raw_index(registry)
    index.set_tag("v1", index.tags()["v2"])
    write_index(registry, index)
    assert pull(registry, "v1") == second.digest


def test_a_tag_that_both_moved_keeps_ours(world: World, registry: Registry) -> None:
    push_image(registry, "1", "v1")
    second = push_image(registry, "2", "v2")
    registry.fold_waiting()
    index = raw_index(registry)
    ours = push_image(registry, "ours", "v1")
    index.set_tag("v1", index.tags()["v2"])
    write_index(registry, index)
    assert pull(registry, "v1") == ours.digest
    world.clock.now += 10
    registry.fold_waiting()
    assert read_index(registry).tags()["v1"].digest == ours.digest
    assert pull(registry, "v2") == second.digest


def test_a_manifest_with_other_bytes_than_its_digest_is_left_out(registry: Registry) -> None:
    push_image(registry, "1", "v1")
    registry.fold_waiting()
    made, index = make_image("outside"), raw_index(registry)
    index.set_tag("wrong", place(registry, made))
    key = registry.backends.layout.blob(NAME, made.digest)
    registry.backends.driver.write(key, made.manifest.data.replace(b"sha256", b"sha257"))
    write_index(registry, index)
    assert tags(registry) == ["v1"]
    with pytest.raises(ManifestUnknown):
        registry.manifests.find(NAME, "wrong")
    push_image(registry, "outside", "right")
    assert pull(registry, "right") == made.digest


def test_an_entry_whose_manifest_is_not_there_yet_is_taken_when_it_is(registry: Registry) -> None:
    push_image(registry, "1", "v1")
    registry.fold_waiting()
    made, index = make_image("outside"), raw_index(registry)
    index.set_tag("early", Descriptor(made.manifest.media_type, made.digest, len(made.manifest.data)))
    write_index(registry, index)
    assert tags(registry) == ["v1"]
    place(registry, made)
    write_index(registry, index)
    assert pull(registry, "early") == made.digest


@pytest.mark.parametrize("half", [False, True])
def test_what_a_tool_writes_after_the_index_that_names_it_is_taken_when_it_is_there(
    world: World, registry: Registry, half: bool
) -> None:
    """As ``cp -r`` does: the index may come first, and a file grows while it is read."""
    made, index = make_image("outside"), Index.empty()
    key = registry.backends.layout.blob(NAME, made.digest)
    index.set_tag("early", Descriptor(made.manifest.media_type, made.digest, len(made.manifest.data)))
    write_index(registry, index)
    if half:
        registry.backends.driver.write(key, made.manifest.data[:50])
    other = world.registry()
    for process in (registry, other):
        assert tags(process) == []
    with registry.backends.database.autocommit() as connection:
        before = repository_rows.find(connection, NAME).get()
    assert tags(registry) == []
    with registry.backends.database.autocommit() as connection:
        assert repository_rows.find(connection, NAME).get() == before, (
            "nothing was found, and yet something was written"
        )
    push_image(registry, "1", "v1")
    registry.fold_waiting()
    place(registry, made)
    for process in (other, registry):
        assert pull(process, "early") == made.digest
        assert tags(process) == ["early", "v1"]
    with registry.backends.database.autocommit() as connection:
        row = repository_rows.find(connection, NAME).get()
    assert row is not None
    assert row.missing_manifests == 0


def test_a_layer_that_a_tool_was_writing_is_served_when_it_is_whole(registry: Registry) -> None:
    made, index = make_image("outside"), Index.empty()
    index.set_tag("early", place(registry, made))
    layer = Digest.parse(made.layer.digest)
    key = registry.backends.layout.blob(NAME, layer)
    registry.backends.driver.write(key, made.layer.data[:5])
    write_index(registry, index)
    assert registry.manifests.find(NAME, "early").digest == made.digest
    for length in (6, 7):
        registry.backends.driver.write(key, made.layer.data[:length])
        with pytest.raises(BlobUnknown):
            registry.blobs.find(NAME, layer)
    registry.backends.driver.write(key, made.layer.data)
    assert registry.blobs.find(NAME, layer).size == len(made.layer.data)
    assert pull(registry, "early") == made.digest


def test_a_child_that_a_tool_writes_after_its_index_is_taken_when_it_is_there(registry: Registry) -> None:
    child = make_image("child")
    descriptor = place(registry, child)
    registry.backends.driver.delete([registry.backends.layout.blob(NAME, child.digest)])
    parent = orjson.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [descriptor.to_json()]})
    digest = Digest.of(parent)
    registry.backends.driver.write(registry.backends.layout.blob(NAME, digest), parent)
    index = Index.empty()
    index.set_tag("many", Descriptor(OCI_INDEX, digest, len(parent)))
    write_index(registry, index)
    assert tags(registry) == ["many"]
    with pytest.raises(ManifestUnknown):
        registry.manifests.find(NAME, child.digest)
    place(registry, child)
    assert registry.manifests.find(NAME, child.digest).digest == child.digest


def test_what_is_missing_for_long_is_looked_for_less_and_less(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repositories, "MISSING_SECONDS", 300.0)
    looks = range(1000, 3000, 5)
    now = iter(looks)
    monkeypatch.setattr(time, "monotonic", lambda: next(now))
    times = [look - looks[0] for look in looks if registry.repositories._is_time_to_read_again(NAME)]
    monkeypatch.undo()
    assert times[:7] == [0, 5, 10, 20, 40, 80, 160]
    assert {later - earlier for earlier, later in itertools.pairwise(times[8:])} == {300}


def test_what_a_tool_writes_while_we_fold_is_not_lost(world: World, registry: Registry) -> None:
    push_image(registry, "1", "v1")
    registry.fold_waiting()
    push_image(registry, "2", "v2")
    made, index = make_image("outside"), raw_index(registry)
    index.set_tag("outside", place(registry, made))
    write_index(registry, index)
    registry.fold_waiting()
    assert set(read_index(registry).tags()) == {"outside", "v1", "v2"}
    assert tags(registry) == ["outside", "v1", "v2"]


@pytest.mark.parametrize("touched", [False, True])
def test_an_index_that_was_deleted_comes_back_whole(
    world: World, registry: Registry, tmp_path: object, touched: bool
) -> None:
    first = push_image(registry, "1", "v1")
    registry.fold_waiting()
    push_image(registry, "2", "v2")
    registry.backends.driver.delete([registry.backends.layout.index(NAME)])
    if touched:
        assert pull(registry, "v1") == first.digest
    world.clock.now += 10
    registry.fold_waiting()
    assert set(read_index(registry).tags()) == {"v1", "v2"}
    assert tags(world.registry(url=f"sqlite:///{tmp_path}/new.db")) == ["v1", "v2"]


def test_a_directory_that_was_deleted_is_no_repository_until_something_is_pushed(
    world: World, registry: Registry
) -> None:
    push_image(registry, "1", "v1")
    registry.fold_waiting()
    shutil.rmtree(world.root / NAME)
    with pytest.raises(NameUnknown):
        registry.manifests.find(NAME, "v1")
    second = push_image(registry, "2", "v2")
    assert tags(registry) == ["v2"]
    assert pull(registry, "v2") == second.digest
    registry.fold_waiting()
    assert set(read_index(registry).tags()) == {"v2"}

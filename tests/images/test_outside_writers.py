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
from tests.images.world import ACTOR, NAME, Pushed, World, make_image, pull, push_image, read_index, tags, write_index

pytestmark = pytest.mark.parametrize("kind", ["local"])


@pytest.fixture(autouse=True)
def every_request_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repositories, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(repositories, "FOLD_SECONDS", 0.01)
    monkeypatch.setattr(repositories, "MISSING_SECONDS", 0.0)


def place(core: Registry, made: Pushed, name: str = NAME) -> Descriptor:
    """Write the blobs of an image as another tool does."""
    for data in (made.config.data, made.layer.data, made.manifest.data):
        core.stores.driver.write(core.stores.layout.blob(name, Digest.of(data)), data)
    return Descriptor(made.manifest.media_type, made.digest, len(made.manifest.data))


def raw_index(core: Registry) -> Index:
    return Index.parse(core.stores.driver.read(core.stores.layout.index(NAME), max_bytes=1 << 20)[0])


def test_an_image_that_another_tool_added_is_served(core: Registry) -> None:
    push_image(core, "1", "v1")
    core.fold_waiting()
    made, index = make_image("outside"), raw_index(core)
    index.set_tag("outside", place(core, made))
    write_index(core, index)
    assert pull(core, "outside") == made.digest
    push_image(core, "2", "v2")
    core.fold_waiting()
    assert set(read_index(core).tags()) == {"outside", "v1", "v2"}


def test_a_layout_that_another_tool_placed_is_served(core: Registry) -> None:
    made, index = make_image("outside"), Index.empty()
    core.stores.driver.write(core.stores.layout.marker(NAME), b'{"imageLayoutVersion":"1.0.0"}')
    index.set_tag("outside", place(core, made))
    write_index(core, index)
    assert pull(core, "outside") == made.digest
    push_image(core, "1", "v1")
    core.fold_waiting()
    assert set(read_index(core).tags()) == {"outside", "v1"}


def test_tags_that_a_tool_erased_by_writing_an_older_index_come_back(world: World, core: Registry) -> None:
    push_image(core, "1", "v1")
    core.fold_waiting()
    stale = raw_index(core)
    second = push_image(core, "2", "v2")
    core.fold_waiting()
    made = make_image("outside")
    stale.set_tag("outside", place(core, made))
    write_index(core, stale)
    for process in (core, world.core()):
        assert tags(process) == ["outside", "v1", "v2"]
        assert pull(process, "v2") == second.digest
    world.clock.now += 10
    core.fold_waiting()
    assert set(read_index(core).tags()) == {"outside", "v1", "v2"}
    assert second.digest in read_index(core).manifests()


def test_tags_that_a_tool_left_out_come_back(world: World, core: Registry, tmp_path: object) -> None:
    pushed = push_image(core, "1", "v1")
    untagged = push_image(core, "untagged")
    core.fold_waiting()
    index = Index.empty()
    index.folded = raw_index(core).folded
    write_index(core, index)
    assert pull(core, "v1") == pushed.digest
    world.clock.now += 10
    core.fold_waiting()
    assert set(read_index(core).manifests()) == {pushed.digest, untagged.digest}
    fresh = world.core(url=f"sqlite:///{tmp_path}/new.db")
    assert tags(fresh) == ["v1"]


def test_what_we_deleted_does_not_come_back_with_an_older_index(world: World, core: Registry) -> None:
    push_image(core, "1", "v1")
    gone = push_image(core, "2", "gone", "untagged")
    core.fold_waiting()
    stale = raw_index(core)
    core.manifests.untag(NAME, "untagged", actor=ACTOR)
    core.manifests.delete(NAME, gone.digest, actor=ACTOR)
    core.fold_waiting()
    write_index(core, stale)
    assert tags(core) == ["v1"]
    with pytest.raises(ManifestUnknown):
        core.manifests.find(NAME, gone.digest)
    world.clock.now += 10
    core.fold_waiting()
    assert set(read_index(core).tags()) == {"v1"}


def test_a_tag_that_only_the_tool_moved_is_taken(core: Registry) -> None:
    push_image(core, "1", "v1")
    second = push_image(core, "2", "v2")
    core.fold_waiting()
    index = raw_index(core)
    index.set_tag("v1", index.tags()["v2"])
    write_index(core, index)
    assert pull(core, "v1") == second.digest


def test_a_tag_that_both_moved_keeps_ours(world: World, core: Registry) -> None:
    push_image(core, "1", "v1")
    second = push_image(core, "2", "v2")
    core.fold_waiting()
    index = raw_index(core)
    ours = push_image(core, "ours", "v1")
    index.set_tag("v1", index.tags()["v2"])
    write_index(core, index)
    assert pull(core, "v1") == ours.digest
    world.clock.now += 10
    core.fold_waiting()
    assert read_index(core).tags()["v1"].digest == ours.digest
    assert pull(core, "v2") == second.digest


def test_a_manifest_with_other_bytes_than_its_digest_is_left_out(core: Registry) -> None:
    push_image(core, "1", "v1")
    core.fold_waiting()
    made, index = make_image("outside"), raw_index(core)
    index.set_tag("wrong", place(core, made))
    key = core.stores.layout.blob(NAME, made.digest)
    core.stores.driver.write(key, made.manifest.data.replace(b"sha256", b"sha257"))
    write_index(core, index)
    assert tags(core) == ["v1"]
    with pytest.raises(ManifestUnknown):
        core.manifests.find(NAME, "wrong")
    push_image(core, "outside", "right")
    assert pull(core, "right") == made.digest


def test_an_entry_whose_manifest_is_not_there_yet_is_taken_when_it_is(core: Registry) -> None:
    push_image(core, "1", "v1")
    core.fold_waiting()
    made, index = make_image("outside"), raw_index(core)
    index.set_tag("early", Descriptor(made.manifest.media_type, made.digest, len(made.manifest.data)))
    write_index(core, index)
    assert tags(core) == ["v1"]
    place(core, made)
    write_index(core, index)
    assert pull(core, "early") == made.digest


@pytest.mark.parametrize("half", [False, True])
def test_what_a_tool_writes_after_the_index_that_names_it_is_taken_when_it_is_there(
    world: World, core: Registry, half: bool
) -> None:
    """As ``cp -r`` does: the index may come first, and a file grows while it is read."""
    made, index = make_image("outside"), Index.empty()
    key = core.stores.layout.blob(NAME, made.digest)
    index.set_tag("early", Descriptor(made.manifest.media_type, made.digest, len(made.manifest.data)))
    write_index(core, index)
    if half:
        core.stores.driver.write(key, made.manifest.data[:50])
    other = world.core()
    for process in (core, other):
        assert tags(process) == []
    with core.stores.database.look() as connection:
        before = repository_rows.find(connection, NAME)
    assert tags(core) == []
    with core.stores.database.look() as connection:
        assert repository_rows.find(connection, NAME) == before, "nothing was found, and yet something was written"
    push_image(core, "1", "v1")
    core.fold_waiting()
    place(core, made)
    for process in (other, core):
        assert pull(process, "early") == made.digest
        assert tags(process) == ["early", "v1"]
    with core.stores.database.look() as connection:
        row = repository_rows.find(connection, NAME)
    assert row is not None
    assert row.missing == 0


def test_a_layer_that_a_tool_was_writing_is_served_when_it_is_whole(core: Registry) -> None:
    made, index = make_image("outside"), Index.empty()
    index.set_tag("early", place(core, made))
    layer = Digest.parse(made.layer.digest)
    key = core.stores.layout.blob(NAME, layer)
    core.stores.driver.write(key, made.layer.data[:5])
    write_index(core, index)
    assert core.manifests.find(NAME, "early").digest == made.digest
    for length in (6, 7):
        core.stores.driver.write(key, made.layer.data[:length])
        with pytest.raises(BlobUnknown):
            core.blobs.find(NAME, layer)
    core.stores.driver.write(key, made.layer.data)
    assert core.blobs.find(NAME, layer).size == len(made.layer.data)
    assert pull(core, "early") == made.digest


def test_a_child_that_a_tool_writes_after_its_index_is_taken_when_it_is_there(core: Registry) -> None:
    child = make_image("child")
    descriptor = place(core, child)
    core.stores.driver.delete([core.stores.layout.blob(NAME, child.digest)])
    parent = orjson.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [descriptor.to_json()]})
    digest = Digest.of(parent)
    core.stores.driver.write(core.stores.layout.blob(NAME, digest), parent)
    index = Index.empty()
    index.set_tag("many", Descriptor(OCI_INDEX, digest, len(parent)))
    write_index(core, index)
    assert tags(core) == ["many"]
    with pytest.raises(ManifestUnknown):
        core.manifests.find(NAME, child.digest)
    place(core, child)
    assert core.manifests.find(NAME, child.digest).digest == child.digest


def test_what_is_missing_for_long_is_looked_for_less_and_less(core: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repositories, "MISSING_SECONDS", 300.0)
    looks = range(1000, 3000, 5)
    now = iter(looks)
    monkeypatch.setattr(time, "monotonic", lambda: next(now))
    times = [look - looks[0] for look in looks if core.repositories._is_time_to_read_again(NAME)]
    monkeypatch.undo()
    assert times[:7] == [0, 5, 10, 20, 40, 80, 160]
    assert {later - earlier for earlier, later in itertools.pairwise(times[8:])} == {300}


def test_what_a_tool_writes_while_we_fold_is_not_lost(world: World, core: Registry) -> None:
    push_image(core, "1", "v1")
    core.fold_waiting()
    push_image(core, "2", "v2")
    made, index = make_image("outside"), raw_index(core)
    index.set_tag("outside", place(core, made))
    write_index(core, index)
    core.fold_waiting()
    assert set(read_index(core).tags()) == {"outside", "v1", "v2"}
    assert tags(core) == ["outside", "v1", "v2"]


@pytest.mark.parametrize("touched", [False, True])
def test_an_index_that_was_deleted_comes_back_whole(
    world: World, core: Registry, tmp_path: object, touched: bool
) -> None:
    first = push_image(core, "1", "v1")
    core.fold_waiting()
    push_image(core, "2", "v2")
    core.stores.driver.delete([core.stores.layout.index(NAME)])
    if touched:
        assert pull(core, "v1") == first.digest
    world.clock.now += 10
    core.fold_waiting()
    assert set(read_index(core).tags()) == {"v1", "v2"}
    assert tags(world.core(url=f"sqlite:///{tmp_path}/new.db")) == ["v1", "v2"]


def test_a_directory_that_was_deleted_is_no_repository_until_something_is_pushed(world: World, core: Registry) -> None:
    push_image(core, "1", "v1")
    core.fold_waiting()
    shutil.rmtree(world.root / NAME)
    with pytest.raises(NameUnknown):
        core.manifests.find(NAME, "v1")
    second = push_image(core, "2", "v2")
    assert tags(core) == ["v2"]
    assert pull(core, "v2") == second.digest
    core.fold_waiting()
    assert set(read_index(core).tags()) == {"v2"}

"""A blob that is in several places is read from one that has it, and is missing when none has (I6)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from registry.database import blob_locations, blobs, migration_queries
from registry.images.registry import Registry
from registry.images.verification import WrongBytes
from registry.oci.digest import Digest
from registry.oci.errors import BlobUnknown, ManifestUnknown
from registry.storage.driver import StorageDriver
from registry.storage.middleware.faults import Fault, FaultyDriver
from tests.support import adopted_bucket
from tests.support.registry_world import NAME, Pushed, World, make_image, pull, pull_blob, push_blob, push_manifest


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path, "memory")
    yield made
    made.close()


@pytest.fixture
def made() -> Pushed:
    return make_image("one")


@pytest.fixture
def registry(world: World, made: Pushed) -> Registry:
    """Over an image that was adopted."""
    adopted_bucket.adopt_image(world.driver(), made)
    registry = world.registry()
    assert tags_of(registry) == {"v1"}
    return registry


def tags_of(registry: Registry) -> set[str]:
    return set(registry.manifests.tags(NAME, last="", count=10)[0])


def digest_of(made: Pushed) -> Digest:
    """Of the layer."""
    return Digest.parse(made.layer.digest)


def places(registry: Registry, digest: Digest) -> dict[str, str]:
    """The states of all locations of a blob, by key."""
    with registry.backends.database.autocommit() as connection:
        rows = migration_queries.placed(
            connection, store=registry.backends.driver.name, low=digest, high=f"{digest}g"
        ).get()
    return {row.key: row.state for _, row in rows}


def add_place(registry: Registry, digest: Digest, data: bytes, key: str, *, verified: bool) -> None:
    """One more object of the source."""
    etag = registry.backends.driver.write(key, data).etag
    line = migration_queries.SourceObject(digest, len(data), key, etag, verified)
    with registry.backends.database.transaction() as connection:
        migration_queries.put(
            connection, "0001", [line], store=registry.backends.driver.name, now=registry.backends.clock()
        )


def copy(registry: Registry, digest: Digest, data: bytes) -> str:
    """What consolidation makes: our object with its row. Its key."""
    key = registry.backends.layout.blob("", digest)
    etag = registry.backends.driver.write(key, data).etag
    copied = migration_queries.Copied(digest, len(data), key, etag)
    with registry.backends.database.transaction() as connection:
        store = registry.backends.driver.name
        assert migration_queries.set_copied(connection, [copied], store=store, now=registry.backends.clock()) == []
    return key


def version(registry: Registry) -> int:
    row = registry.repositories.require(NAME)
    return row.version


def test_a_source_object_is_hashed_at_its_first_whole_read_and_trusted_then(registry: Registry, made: Pushed) -> None:
    digest = digest_of(made)
    assert not registry.blobs.open(NAME, digest).is_verified
    with registry.blobs.read(registry.blobs.open(NAME, digest), offset=1) as reader:
        assert reader.read(100) == made.layer.data[1:]
    assert not registry.blobs.open(NAME, digest).is_verified
    assert pull_blob(registry, digest) == made.layer.data
    assert registry.blobs.open(NAME, digest).is_verified


def test_a_verified_location_is_chosen_before_others_and_ours_before_the_source(
    registry: Registry, made: Pushed
) -> None:
    digest, first = digest_of(made), adopted_bucket.source_key(digest_of(made))
    assert registry.blobs.open(NAME, digest).key == first
    add_place(registry, digest, made.layer.data, "zot/b", verified=True)
    assert registry.blobs.open(NAME, digest).key == "zot/b"
    assert registry.blobs.find(NAME, digest).key == "zot/b"
    ours = copy(registry, digest, made.layer.data)
    assert registry.blobs.open(NAME, digest).key == ours


@pytest.mark.parametrize("wrong", [None, b"shorter"])
def test_a_read_goes_on_where_the_bytes_are(registry: Registry, made: Pushed, wrong: bytes | None) -> None:
    digest, driver = digest_of(made), registry.backends.driver
    add_place(registry, digest, made.layer.data, "zot/b", verified=True)
    if wrong is None:
        driver.delete(["zot/b"])
    else:
        driver.write("zot/b", wrong)
    before = version(registry)
    assert pull_blob(registry, digest) == made.layer.data
    assert places(registry, digest) == {"zot/b": "lost", adopted_bucket.source_key(digest): "original"}
    assert version(registry) > before  # a process that remembers an address of the lost location asks again


def test_wrong_bytes_are_never_sent_whole_and_the_next_read_is_right(registry: Registry, made: Pushed) -> None:
    digest, driver = digest_of(made), registry.backends.driver
    add_place(registry, digest, made.layer.data, "zot/b", verified=False)
    key = adopted_bucket.source_key(digest)
    driver.write(key, made.layer.data[::-1])
    with registry.blobs.read(registry.blobs.open(NAME, digest)) as reader, pytest.raises(WrongBytes):
        reader.read(1000)
    assert places(registry, digest) == {"zot/b": "original", key: "lost"}
    assert pull_blob(registry, digest) == made.layer.data


def test_a_verified_location_with_another_etag_is_hashed_again(registry: Registry, made: Pushed) -> None:
    digest, driver = digest_of(made), registry.backends.driver
    key = adopted_bucket.source_key(digest)
    assert pull_blob(registry, digest) == made.layer.data
    driver.write(key, made.layer.data)
    assert pull_blob(registry, digest) == made.layer.data
    assert registry.blobs.open(NAME, digest).location.etag == driver.stat(key).etag
    driver.write(key, made.layer.data[::-1])
    assert registry.blobs.open(NAME, digest).is_verified
    with registry.blobs.read(registry.blobs.open(NAME, digest)) as reader, pytest.raises(WrongBytes):
        reader.read(1000)


def test_what_is_nowhere_is_unknown_until_the_next_push(registry: Registry, made: Pushed) -> None:
    digest, driver = digest_of(made), registry.backends.driver
    before = version(registry)
    driver.delete([adopted_bucket.source_key(digest)])
    with pytest.raises(BlobUnknown):
        pull_blob(registry, digest)
    assert version(registry) > before
    with pytest.raises(BlobUnknown):
        registry.blobs.find(NAME, digest)
    push_blob(registry, made.layer.data)
    assert pull_blob(registry, digest) == made.layer.data
    assert places(registry, digest) == {
        adopted_bucket.source_key(digest): "lost",
        registry.backends.layout.blob("", digest): "current",
    }


def test_a_location_that_is_found_again_makes_the_blob_present(registry: Registry, made: Pushed) -> None:
    digest = digest_of(made)
    registry.backends.driver.delete([adopted_bucket.source_key(digest)])
    with pytest.raises(BlobUnknown):
        pull_blob(registry, digest)
    before = version(registry)
    add_place(registry, digest, made.layer.data, "zot/b", verified=False)
    assert version(registry) > before
    assert pull_blob(registry, digest) == made.layer.data


def test_an_object_of_ours_without_a_row_is_found_when_nothing_else_is_left(registry: Registry, made: Pushed) -> None:
    """A database from before a consolidation that was finalized since."""
    digest, driver = digest_of(made), registry.backends.driver
    ours = registry.backends.layout.blob("", digest)
    driver.write(ours, made.layer.data)
    driver.delete([adopted_bucket.source_key(digest)])
    assert pull_blob(registry, digest) == made.layer.data
    assert places(registry, digest) == {adopted_bucket.source_key(digest): "lost", ours: "current"}
    assert registry.blobs.open(NAME, digest).is_verified


def test_an_object_of_ours_without_a_row_and_of_another_size_is_none(registry: Registry, made: Pushed) -> None:
    digest, driver = digest_of(made), registry.backends.driver
    driver.write(registry.backends.layout.blob("", digest), b"short")
    driver.delete([adopted_bucket.source_key(digest)])
    with pytest.raises(BlobUnknown):
        pull_blob(registry, digest)


def test_a_location_that_goes_between_its_choice_and_its_opening_is_no_404(registry: Registry, made: Pushed) -> None:
    """Finalizing: the row goes, then the object."""
    digest = digest_of(made)
    chosen = registry.blobs.open(NAME, digest)
    copy(registry, digest, made.layer.data)
    with registry.backends.database.transaction() as connection:
        migration_queries.forget(connection, [chosen.key], store=registry.backends.driver.name)
    registry.backends.driver.delete([chosen.key])
    with registry.blobs.read(chosen) as reader:
        assert reader.read(1000) == made.layer.data
    with registry.blobs.read(chosen, offset=2, length=3) as reader:
        assert reader.read(1000) == made.layer.data[2:5]


def test_a_location_that_was_replaced_meanwhile_is_not_lost(registry: Registry, made: Pushed) -> None:
    """A read opens what is gone, and before it says so a pass has noted the object that is there by now."""
    digest, key = digest_of(made), adopted_bucket.source_key(digest_of(made))
    chosen = registry.blobs.open(NAME, digest)
    registry.backends.driver.delete([key])
    add_place(registry, digest, made.layer.data, key, verified=False)
    following = registry.blob_locations.mark_lost_and_next(digest, chosen.size, chosen.location, blobs.MISSING)
    assert following is not None
    assert following.etag == registry.backends.driver.stat(key).etag
    assert places(registry, digest) == {key: "original"}


def test_a_manifest_whose_kept_bytes_are_lost_is_read_where_it_is(registry: Registry, made: Pushed) -> None:
    found = registry.manifests.find(NAME, "v1")
    add_place(registry, made.digest, made.manifest.data, "zot/b", verified=True)
    registry.backends.driver.delete([adopted_bucket.source_key(made.digest)])
    assert registry.manifests.read(found) == made.manifest.data
    with registry.backends.database.schema() as connection:
        connection.exec_driver_sql("DELETE FROM manifest_body")
    registry.backends.driver.write("zot/b", made.manifest.data[::-1])
    with pytest.raises(ManifestUnknown):
        registry.manifests.read(found)
    with pytest.raises(ManifestUnknown):
        registry.manifests.find(NAME, "v1")


def test_a_mount_shares_the_location_of_its_source(registry: Registry, made: Pushed) -> None:
    digest = digest_of(made)
    assert registry.blobs.mount("team/other", digest, NAME)
    assert pull_blob(registry, digest, "team/other") == made.layer.data
    assert list(places(registry, digest)) == [adopted_bucket.source_key(digest)]
    assert not list(registry.backends.driver.list("storage/blobs"))


def test_a_mount_of_what_was_replaced_is_refused(registry: Registry, made: Pushed) -> None:
    digest = digest_of(made)
    registry.backends.driver.write(adopted_bucket.source_key(digest), made.layer.data[::-1])
    assert not registry.blobs.mount("team/other", digest, NAME)


def test_a_push_of_what_the_source_has_verified_makes_no_object(registry: Registry, made: Pushed) -> None:
    digest = digest_of(made)
    pull_blob(registry, digest)
    push_blob(registry, made.layer.data, "team/other")
    assert pull_blob(registry, digest, "team/other") == made.layer.data
    assert places(registry, digest) == {adopted_bucket.source_key(digest): "original"}
    assert not list(registry.backends.driver.list("storage/blobs"))


def test_a_push_of_what_the_source_has_unverified_heals_it(registry: Registry, made: Pushed) -> None:
    digest = digest_of(made)
    registry.backends.driver.write(adopted_bucket.source_key(digest), made.layer.data[::-1])
    push_blob(registry, made.layer.data)
    assert pull_blob(registry, digest) == made.layer.data
    assert registry.blobs.open(NAME, digest).key == registry.backends.layout.blob("", digest)


@pytest.mark.parametrize("before", ["forgotten", "replaced"])
def test_a_push_that_joins_a_location_which_goes_meanwhile_puts_its_own(
    world: World, registry: Registry, made: Pushed, before: str
) -> None:
    digest = digest_of(made)
    pull_blob(registry, digest)
    key = adopted_bucket.source_key(digest)

    def meanwhile() -> None:
        with registry.backends.database.transaction() as connection:
            if before == "forgotten":
                migration_queries.forget(connection, [key], store=registry.backends.driver.name)
            else:
                [place] = blob_locations.of_digest(connection, digest, store=registry.backends.driver.name).get()
                assert blob_locations.set_lost(connection, place.id, etag=place.etag)

    driver: StorageDriver = FaultyDriver(world.driver(), [Fault("stat", key, effect=meanwhile)])
    push_blob(world.registry(driver=driver), made.layer.data, "team/other")
    assert places(registry, digest)[registry.backends.layout.blob("", digest)] == "current"
    assert pull_blob(registry, digest, "team/other") == made.layer.data


def test_an_image_is_pushed_over_layers_of_the_source(registry: Registry, made: Pushed) -> None:
    other = make_image("two")
    push_blob(registry, other.config.data)
    push_blob(registry, other.layer.data)
    push_manifest(registry, other.manifest, "v2")
    push_manifest(registry, made.manifest, "again")
    assert {pull(registry, tag) for tag in ("v1", "again")} == {made.digest}
    assert pull(registry, "v2") == other.digest
    assert registry.backends.layout.blob("", made.digest) not in adopted_bucket.content(registry.backends.driver)

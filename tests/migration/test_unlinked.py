"""What a manifest of the source names and its repository does not have stays withheld through a migration (I12)."""

from __future__ import annotations

from pathlib import Path

import pytest

from registry.images.migration_journal.documents import Phase
from registry.maintenance.rebuild import rebuild_registry
from registry.migration.context import RunOptions
from registry.oci.digest import Digest
from registry.oci.errors import BlobUnknown, ManifestUnknown
from tests.images.records.test_history import times
from tests.support.migrated_bucket import Bucket, check_served
from tests.support.payloads import Blob, image, index
from tests.support.registry_world import push_blob
from tests.support.rollback import back, source_tree
from tests.support.source_world import Repository

CONFIG, SECRET = Blob(b"config"), Blob(b"a layer of another repository " * 30)
MADE = image(CONFIG, [SECRET])
PRIVATE = Repository("private", {"v1": MADE}, [], [CONFIG, SECRET])
SPARSE = Repository("app", {"v1": MADE}, [], [CONFIG])
FOREIGN = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
NAMING = Repository("foreign", {"v1": image(CONFIG, [], elsewhere=[SECRET.descriptor(FOREIGN)])}, [], [CONFIG])


def is_held(bucket: Bucket, blob: Blob, name: str, url: str | None = None) -> bool:
    registry = bucket.world.registry(url=url)
    if url is not None:
        rebuild_registry(registry)
    try:
        registry.blobs.open(name, Digest.parse(blob.digest))
    except BlobUnknown:
        return False
    return True


@pytest.fixture
def lost(tmp_path: Path) -> str:
    """A database with nothing in it."""
    return f"sqlite:///{tmp_path / 'lost.db'}"


@pytest.mark.parametrize("name", ["app", "foreign"])
def test_a_layer_that_the_repository_of_the_source_lacks_is_not_granted(bucket: Bucket, lost: str, name: str) -> None:
    bucket.become([PRIVATE, SPARSE, NAMING])
    found = bucket.run()
    assert (found.state, found.problems) == (Phase.CONSOLIDATED, [])
    check_served(bucket.registry(), [PRIVATE, SPARSE])
    assert not is_held(bucket, SECRET, name)
    assert not is_held(bucket, SECRET, name, lost)


def test_what_is_pushed_there_later_stays(bucket: Bucket, lost: str) -> None:
    bucket.become([PRIVATE, SPARSE])
    bucket.adopt()
    registry = bucket.registry()
    push_blob(registry, SECRET.data, "app")
    registry.fold_waiting()
    bucket.adopt()
    assert is_held(bucket, SECRET, "app")
    assert is_held(bucket, SECRET, "app", lost)


def test_what_the_source_gets_later_is_taken(bucket: Bucket, lost: str) -> None:
    bucket.become([PRIVATE, SPARSE])
    bucket.adopt()
    assert not is_held(bucket, SECRET, "app")
    bucket.become([PRIVATE, Repository("app", {"v1": MADE}, [], [CONFIG, SECRET])])
    bucket.adopt()
    assert is_held(bucket, SECRET, "app")
    assert is_held(bucket, SECRET, "app", lost)


def test_a_manifest_that_the_repository_of_the_source_lacks_is_not_granted(bucket: Bucket, lost: str) -> None:
    bucket.become([PRIVATE, Repository("app", {"multi": index([MADE])}, [], [])])
    bucket.adopt()
    rebuilt = bucket.world.registry(url=lost)
    rebuild_registry(rebuilt)
    for registry in (bucket.registry(), rebuilt):
        with pytest.raises(ManifestUnknown):
            registry.manifests.find("app", Digest.parse(MADE.digest))
        with pytest.raises(BlobUnknown):
            registry.blobs.open("app", Digest.parse(SECRET.digest))


def test_it_is_withheld_after_a_way_back_and_another_migration(bucket: Bucket, lost: str) -> None:
    bucket.become([PRIVATE, SPARSE])
    bucket.adopt()
    assert back(bucket).problems == []
    here = [key for key in source_tree(bucket) if "/app/" in f"/{key}" and SECRET.digest.replace(":", "/") in key]
    assert here == []
    bucket.run(options=RunOptions(adopt_only=True))
    assert not is_held(bucket, SECRET, "app")
    assert not is_held(bucket, SECRET, "app", lost)


def test_times_are_those_of_the_objects_and_are_written_down(bucket: Bucket, lost: str) -> None:
    bucket.adopt()
    before = times(bucket.registry(), "app")
    for key, data in bucket.objects().items():
        bucket.driver.write(key, data)  # it has another time now, as in a copy of the bucket
    rebuilt = bucket.world.registry(url=lost)
    rebuild_registry(rebuilt)
    assert times(rebuilt, "app") == before

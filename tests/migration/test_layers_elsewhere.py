"""Layers that clients may fetch from elsewhere: a migration takes and gives back those that a repository has (I13)."""

from __future__ import annotations

from registry.images.migration_journal.documents import Phase
from registry.oci.digest import Digest
from tests.support.migrated_bucket import Bucket, check_served
from tests.support.payloads import Blob, image
from tests.support.rollback import back, check_source, push, source_tree
from tests.support.source_world import Repository

CONFIG, PUSHED, ABSENT = Blob(b"config"), Blob(b"layer of a base " * 100), Blob(b"layer that is only elsewhere")
FOREIGN = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
MADE = image(CONFIG, [], elsewhere=[PUSHED.descriptor(FOREIGN), ABSENT.descriptor(FOREIGN)])
CONTENT = [Repository("app", {"v1": MADE}, [], [CONFIG, PUSHED])]


def become(bucket: Bucket) -> None:
    """The source has these layers, and nothing else."""
    bucket.become(CONTENT)


def test_a_migration_takes_those_that_are_there_and_misses_no_other(bucket: Bucket) -> None:
    become(bucket)
    found = bucket.run()
    assert (found.state, found.problems) == (Phase.CONSOLIDATED, [])
    check_served(bucket.registry(), CONTENT)
    assert f"storage/blobs/{PUSHED.digest.replace(':', '/')}" in bucket.objects()


def test_a_rollback_gives_back_those_that_were_pushed_since(bucket: Bucket) -> None:
    become(bucket)
    bucket.adopt()
    layer = Blob(b"pushed since " * 50)
    made = image(CONFIG, [], elsewhere=[layer.descriptor(FOREIGN), ABSENT.descriptor(FOREIGN)])
    registry = bucket.registry()
    push(registry, "app", made, [layer], "v2")
    registry.fold_waiting()
    assert back(bucket).problems == []
    content = [Repository("app", {"v1": MADE, "v2": made}, [], [CONFIG, PUSHED, layer])]
    check_source(bucket, content)
    given = [key for key, data in source_tree(bucket).items() if data in {layer.data, layer.digest.encode()}]
    assert len(given) == (2 if bucket.layout == "distribution" else 1)


def test_a_manifest_whose_layer_was_lost_and_can_be_fetched_elsewhere_is_given_back(bucket: Bucket) -> None:
    become(bucket)
    bucket.adopt()
    layer = Blob(b"pushed since " * 50)
    made = image(CONFIG, [], elsewhere=[layer.descriptor(FOREIGN)])
    registry = bucket.registry()
    push(registry, "app", made, [layer], "v2")
    registry.fold_waiting()
    registry.backends.driver.delete([registry.backends.layout.blob("app", Digest.parse(layer.digest))])
    found = back(bucket, accept_loss=True)
    assert found.state == Phase.ROLLED_BACK
    check_source(bucket, [Repository("app", {"v1": MADE, "v2": made}, [], [CONFIG, PUSHED])])

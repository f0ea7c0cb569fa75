"""What the source moves, deletes and collects between passes, and between one migration and the next."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from registry.images.migration_journal.documents import Phase
from registry.migration.context import RunOptions
from registry.migration.report import ProblemKind, Refused
from registry.oci.descriptor import Descriptor
from registry.oci.digest import Digest
from registry.oci.errors import BlobUnknown, NameUnknown
from registry.oci.index import Index
from tests.support.migrated_bucket import MAKE, Bucket, check_served, finalizing
from tests.support.payloads import Blob, image
from tests.support.rollback import LAYER, NEW_CONFIG, PUSHED, back, check_source, give_back_untaken, push
from tests.support.source_world import (
    AMD,
    ARM,
    EMPTY_JSON,
    FIRST,
    NOTHING,
    ON_AMD,
    ON_ARM,
    OTHER,
    PLAIN,
    SBOM,
    SHARED,
    TREE,
    Repository,
    path,
    repositories,
)

MOVED = Repository("e", {"v1": OTHER}, [], [ARM, SHARED])
BEFORE = Repository("d", {"v1": OTHER}, [], [ARM, SHARED])
"""The same, before the source moved it."""


def later(bucket: Bucket) -> None:
    """Time passes, and what waits to be folded is."""
    bucket.world.clock.now += 10
    bucket.registry().fold_waiting()
    bucket.world.clock.now += 10


def pull(bucket: Bucket, name: str, blob: Blob) -> None:
    """A client reads a blob whole, by which it is hashed."""
    registry = bucket.registry()
    with registry.blobs.read(registry.blobs.open(name, Digest(blob.digest))) as reader:
        while reader.read(1 << 20):
            pass


def collected() -> list[Repository]:
    """The source has deleted what was attached to an image, and collected the blobs of that."""
    content = repositories()
    content[0].untagged = [ON_ARM]
    content[0].blobs = [blob for blob in content[0].blobs if blob not in {SBOM, EMPTY_JSON}]
    return content


# ---- a second migration


def test_what_moved_before_a_rollback_is_copied_before_the_next_migration_is_finalized(tmp_path: Path) -> None:
    other = Repository("f", {"v1": PLAIN}, [], [AMD, SHARED, NOTHING])
    bucket = Bucket(tmp_path, "zot", MAKE["zot"]([BEFORE, other]))
    bucket.adopt()
    bucket.become([MOVED, other])
    bucket.adopt()
    later(bucket)
    back(bucket, accept_loss=True)
    assert bucket.run().state == Phase.CONSOLIDATED
    assert f"storage/blobs/{path(OTHER.digest)}" in bucket.objects()
    later(bucket)
    assert finalizing(bucket).state == Phase.FINALIZED
    bucket.world.url = f"sqlite:///{tmp_path / 'new.db'}"
    check_served(bucket.registry(), [MOVED, other])
    bucket.world.close()


def test_what_was_hashed_where_it_no_longer_is_is_copied_too(tmp_path: Path) -> None:
    bucket = Bucket(tmp_path, "zot", MAKE["zot"]([BEFORE]))
    bucket.adopt()
    pull(bucket, "d", SHARED)
    moved = Repository("a", {"v1": OTHER}, [], [ARM, SHARED])
    bucket.become([moved, BEFORE])
    bucket.adopt()
    bucket.become([moved])
    bucket.adopt()
    later(bucket)
    for blob in (ARM, SHARED):  # what no manifest names any more
        bucket.registry().blobs.delete("d", Digest(blob.digest))
    back(bucket, accept_loss=True)
    assert bucket.run().state == Phase.CONSOLIDATED
    later(bucket)
    assert finalizing(bucket).state == Phase.FINALIZED
    check_served(bucket.registry(), [moved])
    bucket.world.close()


def test_consolidated_means_copied_also_where_an_earlier_migration_has_hashed_it(tmp_path: Path) -> None:
    bucket = Bucket(tmp_path, "zot", MAKE["zot"]([BEFORE]))
    bucket.adopt()
    back(bucket)
    bucket.become([Repository(name, {"v1": OTHER}, [], [ARM, SHARED]) for name in "abcd"])
    assert bucket.run().state == Phase.CONSOLIDATED
    for digest in (OTHER.digest, ARM.digest, SHARED.digest):
        assert f"storage/blobs/{path(digest)}" in bucket.objects()
    bucket.world.close()


@pytest.mark.parametrize("layout", ["zot", "distribution"], indirect=True)
def test_a_repository_that_was_deleted_after_a_rollback_is_gone_after_the_next_migration(bucket: Bucket) -> None:
    bucket.run()
    back(bucket)
    bucket.become(repositories()[:2])
    bucket.run()
    registry = bucket.registry()
    try:
        tags = registry.manifests.tags("team/web/nested", last="", count=100)[0]
    except NameUnknown:
        tags = []
    assert tags == []
    check_served(registry, repositories()[:2])


# ---- between passes


@pytest.mark.parametrize("layout", ["zot", "distribution"], indirect=True)
def test_what_the_source_deleted_and_collected_is_no_problem(layout: str, bucket: Bucket) -> None:
    bucket.adopt()
    bucket.become(collected())
    bucket.adopt()
    later(bucket)
    assert bucket.run().problems == []
    assert finalizing(bucket).problems == []
    assert not [key for key in bucket.objects() if key.startswith(("zot/", "docker/"))], layout
    check_served(bucket.registry(), collected())


@pytest.mark.parametrize("layout", ["zot", "distribution"], indirect=True)
def test_a_source_that_was_collected_does_not_stop_a_rollback(bucket: Bucket) -> None:
    bucket.adopt()
    pull(bucket, "app", SBOM)
    bucket.become(collected())
    bucket.adopt()
    later(bucket)
    found = back(bucket)
    assert (found.state, found.problems) == (Phase.ROLLED_BACK, [])
    check_source(bucket, collected())


def test_a_source_that_is_gone_is_a_problem_where_something_names_it(bucket: Bucket) -> None:
    bucket.adopt()
    pull(bucket, "app", FIRST)
    registry = bucket.registry()
    push(registry, "brand/new", image(NEW_CONFIG, [FIRST]), [NEW_CONFIG, FIRST], "v1")
    registry.fold_waiting()
    bucket.driver.delete([key for key, data in bucket.source.items() if data == FIRST.data])
    found = back(bucket, accept_loss=True)
    assert found.state == Phase.ROLLED_BACK
    assert {(problem.kind, problem.digest) for problem in found.problems} == {(ProblemKind.WRONG_DIGEST, FIRST.digest)}


def test_a_source_that_was_written_again_with_the_same_bytes_is_given_back(layout: str, bucket: Bucket) -> None:
    bucket.adopt()
    pull(bucket, "app", FIRST)
    made = image(NEW_CONFIG, [FIRST])
    registry = bucket.registry()
    push(registry, "brand/new", made, [NEW_CONFIG, FIRST], "v1")
    registry.fold_waiting()
    bucket.driver.write(min(key for key, data in bucket.source.items() if data == FIRST.data), FIRST.data)
    found = back(bucket)
    assert (found.state, found.problems) == (Phase.ROLLED_BACK, []), layout
    check_source(bucket, [*repositories(), Repository("brand/new", {"v1": made}, [], [NEW_CONFIG, FIRST])])


def test_a_migration_that_began_with_both_prefixes_goes_on_so(tmp_path: Path) -> None:
    bucket = Bucket(tmp_path, "zot")
    bucket.adopt()
    before = bucket.objects("zot")
    with pytest.raises(Refused, match="without --single-prefix"):
        bucket.run(options=RunOptions(adopt_only=True, single_prefix=True))
    assert bucket.objects("zot") == before
    assert back(bucket).state == Phase.ROLLED_BACK
    bucket.world.close()


# ---- records of Stowage beside an index that is the source's again


def tags_of(bucket: Bucket, name: str) -> dict[str, str]:
    registry = bucket.registry()
    names = registry.manifests.tags(name, last="", count=100)[0]
    return {tag: registry.manifests.find(name, tag).digest for tag in names}


def test_records_that_were_given_back_are_not_made_again_over_what_the_source_did_since(
    layout: str, bucket: Bucket
) -> None:
    """The key of our index was never ours where it is theirs."""
    give_back_untaken(bucket)
    content = repositories()
    content[0].tags["new"] = PUSHED
    check_source(bucket, content)
    if layout == "distribution":
        tag = f"{TREE}/repositories/app/_manifests/tags/new"
        bucket.driver.write(f"{tag}/current/link", ON_AMD.digest.encode())
        bucket.driver.write(f"{tag}/index/{path(ON_AMD.digest)}/link", ON_AMD.digest.encode())
    else:
        key = ("zot/" if layout == "zot" else "") + "app/index.json"
        index = Index.parse(bucket.objects()[key])
        index.set_tag("new", Descriptor(ON_AMD.media_type, Digest(ON_AMD.digest), len(ON_AMD.data)))
        document = json.loads(index.serialise())
        document.pop("annotations", None)
        bucket.driver.write(key, json.dumps(document).encode())
    assert bucket.run().state == Phase.CONSOLIDATED
    bucket.registry().fold_waiting()
    assert tags_of(bucket, "app")["new"] == ON_AMD.digest


def test_what_no_pass_has_taken_is_taken_after_a_rollback_that_added_to_it(layout: str, bucket: Bucket) -> None:
    """Clients push a new repository to the source and, before a pass has taken it, an image of that name to us."""
    bucket.adopt()
    for key, data in MAKE[layout]([MOVED]).items():
        bucket.driver.write(key, data)
    registry = bucket.registry()
    push(registry, MOVED.name, PUSHED, [NEW_CONFIG, SHARED, LAYER], "ours")
    registry.fold_waiting()
    back(bucket)
    content = [*repositories(), Repository(MOVED.name, MOVED.tags | {"ours": PUSHED}, [], [])]
    check_source(bucket, content)
    assert bucket.run().problems == []
    check_served(bucket.registry(), content)


@pytest.mark.parametrize("is_lost", [False, True], ids=["database-kept", "database-lost"])
def test_what_the_source_could_not_have_is_there_after_the_next_migration(
    layout: str, bucket: Bucket, tmp_path: Path, is_lost: bool
) -> None:
    bucket.adopt()
    registry = bucket.registry()
    layer = Blob(b"the source cannot have it", "sha512" if layout == "distribution" else "sha256")
    made = image(NEW_CONFIG, [layer])
    push(registry, "app", made, [NEW_CONFIG, layer], "v1", "mine")
    registry.fold_waiting()
    if layout != "distribution":
        bucket.driver.delete([f"storage/blobs/{path(layer.digest)}"])
        with pytest.raises(BlobUnknown):
            pull(bucket, "app", layer)
    back(bucket, accept_loss=True)
    bucket.run()
    later(bucket)
    if is_lost:
        bucket.world.url = f"sqlite:///{tmp_path / 'new.db'}"
    tags = tags_of(bucket, "app")
    assert (tags["v1"], tags["mine"]) == (made.digest, made.digest)


def test_a_repository_whose_blobs_lie_at_the_keys_of_ours_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    content = [Repository("storage", {"v1": OTHER}, [], [ARM, SHARED]), *repositories()]
    bucket = Bucket(tmp_path, "zot-without-prefix", MAKE["zot-without-prefix"](content))
    with pytest.raises(Refused, match="repository called storage"):
        bucket.run()
    assert bucket.objects() == bucket.source
    bucket.world.close()

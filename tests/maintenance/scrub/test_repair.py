"""Repair: right bytes come back from another location that has them, and from nowhere else."""

from __future__ import annotations

import pytest

from registry.database import blob_locations, blobs, manifest_bodies, memberships, repositories, stores
from registry.database.statement import Statement
from registry.images.registry import Registry
from registry.maintenance.scrub.object_check import Verdict
from registry.maintenance.scrub.report import Outcome
from registry.oci.digest import Digest
from registry.oci.errors import BlobUnknown
from registry.storage.middleware.faults import Fault, FaultyDriver
from tests.maintenance.scrub.conftest import POSTGRESQL
from tests.maintenance.scrub.place import flip, flip_file, key_of, scrub, state_of
from tests.support.registry_world import GCS_KIND, NAME, REPLICAS_KIND, World, pull, pull_blob, push_blob, push_image

OTHER = "other/app"
IN_A_BUCKET = pytest.mark.parametrize("world", [POSTGRESQL, REPLICAS_KIND, GCS_KIND], indirect=True)
ON_DISK = pytest.mark.parametrize("world", ["local"], indirect=True)
COPY = "elsewhere/blob"


def note_another_location(registry: Registry, digest: Digest) -> None:
    """A second object with the bytes of a blob, as a migration has it."""
    backends = registry.backends
    stat = backends.driver.stat(key_of(registry, digest))
    made = backends.driver.copy(key_of(registry, digest), COPY, size=stat.size, if_etag=stat.etag)
    with backends.database.transaction() as connection:
        row = blob_locations.find(connection, backends.driver.name, key_of(registry, digest)).get()
        assert row is not None
        blob_locations.put(
            connection,
            row.blob_id,
            store=backends.driver.name,
            key=COPY,
            size=stat.size,
            etag=made.etag,
            verified_at=1.0,
        )


def test_without_another_location_nothing_is_repaired(world: World, registry: Registry) -> None:
    image = push_image(registry, "a", "v1")
    flip(world, key_of(registry, image.layer.digest))
    report = scrub(registry, repairs=True)
    assert (report.wrong, report.repaired, report.is_clean) == (1, 0, False)
    with pytest.raises(BlobUnknown):
        registry.blobs.find(NAME, Digest(image.layer.digest))


@IN_A_BUCKET
@pytest.mark.parametrize("damage", ["wrong", "missing"])
@pytest.mark.parametrize("at_once", [True, False])
def test_a_bucket_is_repaired_from_another_location(
    world: World, registry: Registry, damage: str, at_once: bool
) -> None:
    image = push_image(registry, "a", "v1")
    digest = Digest(image.layer.digest)
    key = key_of(registry, digest)
    note_another_location(registry, digest)
    if damage == "wrong":
        flip(world, key)
    else:
        world.driver().delete([key])
    if not at_once:
        report = scrub(registry)
        assert [found.outcome for found in report.findings] == [Outcome.ELSEWHERE]
        assert (state_of(registry, key), pull(registry, "v1")) == ("lost", image.digest)
    report = scrub(registry, repairs=True)
    assert [found.outcome for found in report.findings] == [Outcome.REPAIRED]
    assert report.is_clean
    assert state_of(registry, key) == "current"
    assert world.driver().read(key, max_bytes=1000)[0] == image.layer.data
    assert pull(registry, "v1") == image.digest
    assert scrub(registry).wrong == 0


@IN_A_BUCKET
def test_the_other_locations_of_a_wrong_one_go_on_serving(world: World, registry: Registry) -> None:
    image = push_image(registry, "a", "v1")
    digest = Digest(image.layer.digest)
    note_another_location(registry, digest)
    flip(world, COPY)
    report = scrub(registry)
    assert [(found.key, found.outcome) for found in report.findings] == [(COPY, Outcome.ELSEWHERE)]
    assert pull(world.registry(), "v1") == image.digest


@IN_A_BUCKET
def test_what_belongs_to_a_source_registry_is_read_and_never_written(world: World, registry: Registry) -> None:
    image = push_image(registry, "a", "v1")
    digest = Digest(image.layer.digest)
    note_another_location(registry, digest)
    with registry.backends.database.transaction() as connection:
        mark = Statement("UPDATE blob_location SET state = 'original', migration = '0001' WHERE key = :key")
        connection.execute(mark, {"key": COPY})
    flip(world, COPY)
    before = world.driver().stat(COPY).etag
    for _ in range(2):
        report = scrub(registry, repairs=True)
        assert [(found.key, found.outcome) for found in report.findings] == [(COPY, Outcome.ELSEWHERE)]
    assert world.driver().stat(COPY).etag == before
    assert pull(registry, "v1") == image.digest


@IN_A_BUCKET
def test_a_manifest_is_repaired_from_what_the_database_keeps(world: World, registry: Registry) -> None:
    image = push_image(registry, "a", "v1")
    key = key_of(registry, image.digest)
    flip(world, key)
    report = scrub(registry, repairs=True)
    assert [found.outcome for found in report.findings] == [Outcome.REPAIRED]
    assert world.driver().read(key, max_bytes=10_000)[0] == image.manifest.data
    assert pull(registry, "v1") == image.digest
    flip(world, key)
    with registry.backends.database.transaction() as connection:
        manifest_bodies.keep(connection, image.digest, b"wrong as well")
    assert scrub(registry, repairs=True).repaired == 0


def test_an_object_that_an_operator_has_brought_back_is_served_again(world: World, registry: Registry) -> None:
    image = push_image(registry, "a", "v1")
    digest = Digest(image.layer.digest)
    key = key_of(registry, digest)
    flip(world, key)
    assert scrub(registry).wrong == 1
    world.driver().write(key, image.layer.data)
    for _ in range(2):
        assert scrub(registry).is_clean
        assert pull(world.registry(), "v1") == image.digest
        assert state_of(registry, key) == "current"


@IN_A_BUCKET
def test_where_no_change_may_commit_nothing_is_repaired(world: World, registry: Registry) -> None:
    image = push_image(registry, "a", "v1")
    note_another_location(registry, Digest(image.layer.digest))
    flip(world, key_of(registry, image.layer.digest))
    with registry.backends.database.exclusive() as connection:
        row = stores.find(connection, registry.backends.driver.name).get()
        assert row is not None
        stores.put(connection, row._replace(mode=stores.READ_ONLY, reason="a rollback"))
    report = scrub(registry, repairs=True)
    assert [found.outcome for found in report.findings] == [Outcome.ELSEWHERE]
    assert "a rollback" in report.problems[0]


def separate(world: World, registry: Registry, digest: Digest) -> None:
    """Give the other repository bytes of its own, as another file system has them."""
    path = world.root / key_of(registry, digest, OTHER)
    own = path.with_name("copy")
    own.write_bytes(path.read_bytes())
    own.replace(path)


@ON_DISK
@pytest.mark.parametrize("part", ["layer", "manifest"])
@pytest.mark.parametrize("damage", ["wrong", "missing"])
@pytest.mark.parametrize("at_once", [True, False])
def test_a_repository_on_disk_is_repaired_from_another(
    world: World, registry: Registry, part: str, damage: str, at_once: bool
) -> None:
    image = push_image(registry, "a", "v1")
    push_image(registry, "a", "v1", name=OTHER)
    digest = Digest(getattr(image, part).digest)
    separate(world, registry, digest)
    scrub(registry)  # which notes the file that the other one has now
    path = world.root / key_of(registry, digest)
    if damage == "wrong":
        flip_file(path)
    else:
        path.unlink()
    world.clock.now += 1
    if not at_once:
        assert [found.outcome for found in scrub(registry).findings] == [Outcome.NOT_SERVED]
        assert not path.exists()
    report = scrub(registry, repairs=True)
    assert [(found.outcome, found.affected.repositories) for found in report.findings] == [(Outcome.REPAIRED, [NAME])]
    assert report.is_clean
    assert pull(registry, "v1") == image.digest
    assert pull(registry, "v1", OTHER) == image.digest
    assert scrub(registry).is_clean


@ON_DISK
def test_a_blob_that_a_client_has_deleted_is_not_given_back(world: World, registry: Registry) -> None:
    digest = push_blob(registry, b"private")
    push_blob(registry, b"private", name=OTHER)
    separate(world, registry, digest)
    scrub(registry)
    flip_file(world.root / key_of(registry, digest))
    assert scrub(registry).wrong == 1
    deleted: list[Digest] = []

    def delete() -> None:
        if not deleted:
            deleted.append(digest)
            with pytest.raises(BlobUnknown):
                pull_blob(world.registry(), digest)
            with registry.backends.database.transaction() as connection:
                repository = repositories.find(connection, NAME).get()
                blob = blobs.find(connection, digest).get()
                assert repository is not None
                assert blob is not None
                memberships.remove(connection, repository.id, blob.id)

    driver = FaultyDriver(world.driver(), [Fault("link", key_of(registry, digest), effect=delete)])
    report = scrub(world.registry(driver=driver), repairs=True)
    assert deleted
    assert report.repaired == 0
    with pytest.raises(BlobUnknown):
        pull_blob(registry, digest)
    assert pull_blob(registry, digest, OTHER) == b"private"


@ON_DISK
def test_what_was_moved_away_and_lost_its_file_is_told_still(world: World, registry: Registry) -> None:
    digest = push_blob(registry, b"a")
    flip_file(world.root / key_of(registry, digest))
    assert scrub(registry).findings[0].found is Verdict.WRONG
    (kept,) = [key for key, _ in registry.backends.driver.list(".quarantine")]
    assert kept == f".quarantine/{key_of(registry, digest)}"
    registry.backends.driver.delete([kept])
    report = scrub(registry)
    assert [found.found for found in report.findings] == [Verdict.MISSING]


@ON_DISK
def test_the_quarantine_has_no_file_of_a_blob_that_nothing_has(world: World, registry: Registry) -> None:
    digest = push_blob(registry, b"a")
    flip_file(world.root / key_of(registry, digest))
    scrub(registry)
    push_blob(registry, b"a")
    registry.blobs.delete(NAME, digest)
    (world.root / ".quarantine" / "note").write_text("an operator's own")
    assert scrub(registry).is_clean
    assert [key for key, _ in registry.backends.driver.list(".quarantine")] == [".quarantine/note"]


@ON_DISK
def test_a_file_that_another_tool_has_not_written_to_its_end_is_left_alone(world: World, registry: Registry) -> None:
    push_image(registry, "a", "v1")
    digest = Digest.of(b"whole")
    path = world.root / key_of(registry, digest)
    path.write_bytes(b"who")
    with registry.backends.database.transaction() as connection:  # as it was found there
        blob = blobs.adopt(connection, digest, size=3)
        stat = registry.backends.driver.stat(key_of(registry, digest))
        blob_locations.adopt(connection, blob.id, store="local", key=key_of(registry, digest), size=3, etag=stat.etag)
    assert scrub(registry).is_clean
    assert path.exists()
    world.clock.now += 7200
    report = scrub(registry)
    assert [found.outcome for found in report.findings] == [Outcome.NOT_SERVED]
    assert path.exists(), "it is hashed before it is served, and is not ours to move"


@ON_DISK
def test_a_purge_reaches_the_quarantine(world: World, registry: Registry) -> None:
    image = push_image(registry, "secret", "v1")
    flip(world, key_of(registry, image.layer.digest))
    scrub(registry)
    assert len(list(registry.backends.driver.list(".quarantine"))) == 1
    purged = registry.purge.run(NAME, image.digest, actor="tester", unknown=lambda: None)
    assert (purged.unreachable, purged.unfinished) == ([], [])
    assert list(registry.backends.driver.list(".quarantine")) == []

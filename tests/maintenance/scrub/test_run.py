"""A scrub reads every object; what is wrong or missing is told with its tags, and never served again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from registry.database import blob_locations, blobs, memberships, repositories
from registry.images.registry import Registry
from registry.maintenance.rebuild import rebuild_registry
from registry.maintenance.scrub.object_check import Verdict
from registry.maintenance.scrub.report import Outcome
from registry.oci.digest import Digest
from registry.oci.errors import BlobUnknown, ManifestBlobUnknown, ManifestUnknown
from registry.storage.errors import StorageError, StorageUnavailable
from registry.storage.middleware.faults import Fault, FaultyDriver
from tests.maintenance.scrub.place import flip, key_of, scrub
from tests.soak.budget import budget
from tests.support.payloads import index
from tests.support.registry_world import (
    NAME,
    World,
    is_there,
    make_image,
    pull,
    pull_blob,
    push_blob,
    push_image,
    push_manifest,
)

OTHER = "other/app"


def test_what_is_right_is_read_once_and_stays(world: World, registry: Registry) -> None:
    image = push_image(registry, "a", "v1")
    push_image(registry, "b", "v2")
    report = scrub(registry)
    assert (report.objects, report.wrong, report.missing, report.is_clean) == (6, 0, 0, True)
    assert report.finished
    assert report.bytes == sum(stat.size for key, stat in world.driver().list("") if "/blobs/" in f"/{key}")
    assert pull(registry, "v1") == image.digest


@pytest.mark.parametrize("part", ["layer", "config", "manifest"])
def test_wrong_bytes_are_told_with_their_tags_and_never_served_again(
    world: World, registry: Registry, part: str
) -> None:
    image = push_image(registry, "a", "v1", "v2")
    listing = index([image.manifest])
    push_manifest(registry, listing, "all")
    push_image(registry, "b", "other")
    digest = Digest(getattr(image, part).digest)
    replica = world.registry()
    assert pull(replica, "v1") == image.digest
    version = registry.repositories.require(NAME).version
    flip(world, key_of(registry, digest))
    report = scrub(registry)
    assert replica.repositories.require(NAME).version > version, "or processes go on with what they remember"
    assert (report.objects, report.wrong, report.is_clean) == (6, 1, False)
    (found,) = report.findings
    assert (found.digest, found.found, found.outcome) == (digest, Verdict.WRONG, Outcome.NOT_SERVED)
    assert found.affected.repositories == [NAME]
    assert found.affected.tags == [f"{NAME}:{tag}" for tag in ("all", "v1", "v2")]
    for each in (registry, replica, world.registry()):
        if part == "manifest":
            assert not is_there(each, image.manifest)
        else:
            with pytest.raises(BlobUnknown):
                each.blobs.find(NAME, digest)
            with pytest.raises(BlobUnknown):
                pull_blob(each, digest)
            with pytest.raises(ManifestBlobUnknown):
                push_manifest(each, make_image("a", annotations={"another": "one"}).manifest)
    assert pull(replica, "other")


@pytest.mark.parametrize("part", ["layer", "config", "manifest"])
def test_the_next_push_heals(world: World, registry: Registry, part: str) -> None:
    image = push_image(registry, "a", "v1")
    digest = Digest(getattr(image, part).digest)
    flip(world, key_of(registry, digest))
    assert scrub(registry).wrong == 1
    push_image(world.registry(), "a", "v1")
    for each in (registry, world.registry()):
        assert pull(each, "v1") == image.digest
    report = scrub(registry)
    assert (report.wrong, report.missing, report.is_clean) == (0, 0, True)
    assert report.objects == 3
    if registry.backends.layout.per_repository:
        assert list(registry.backends.driver.list(".quarantine")) == [], "what healed leaves the quarantine"


def test_what_is_missing_is_told(world: World, registry: Registry) -> None:
    image = push_image(registry, "a", "v1")
    digest = Digest(image.layer.digest)
    world.driver().delete([key_of(registry, digest)])
    report = scrub(registry)
    assert (report.objects, report.wrong, report.missing) == (2, 0, 1)
    (found,) = report.findings
    assert (found.digest, found.found) == (digest, Verdict.MISSING)
    assert found.affected.tags == [f"{NAME}:v1"]
    with pytest.raises(BlobUnknown):
        registry.blobs.find(NAME, digest)


def test_an_object_that_was_cut_short_is_wrong(world: World, registry: Registry) -> None:
    image = push_image(registry, "a", "v1")
    world.driver().write(key_of(registry, image.layer.digest), image.layer.data[:-1])
    assert scrub(registry).wrong == 1
    with pytest.raises(BlobUnknown):
        registry.blobs.find(NAME, Digest(image.layer.digest))


def test_damage_is_told_in_each_round_until_it_is_healed(world: World, registry: Registry) -> None:
    image = push_image(registry, "a", "v1")
    flip(world, key_of(registry, image.layer.digest))
    for _ in range(2):
        report = scrub(registry)
        assert [finding.found for finding in report.findings] == [Verdict.WRONG]
        assert report.findings[0].affected.tags == [f"{NAME}:v1"]
        assert not report.is_clean


def test_repositories_that_share_the_bytes_are_all_named(world: World, registry: Registry) -> None:
    image = push_image(registry, "a", "v1")
    push_image(registry, "a", "v1", name=OTHER)
    flip(world, key_of(registry, image.layer.digest))
    report = scrub(registry)
    named = [name for finding in report.findings for name in finding.affected.repositories]
    tags = [tag for finding in report.findings for tag in finding.affected.tags]
    assert sorted(named) == [OTHER, NAME]
    assert sorted(tags) == [f"{OTHER}:v1", f"{NAME}:v1"]
    for name in (NAME, OTHER):
        with pytest.raises(BlobUnknown):
            registry.blobs.find(name, Digest(image.layer.digest))


def test_a_blob_that_a_client_deletes_meanwhile_is_no_damage(world: World, registry: Registry) -> None:
    image = push_image(registry, "a", "v1")
    digest = Digest(push_blob(registry, b"short lived"))
    key = key_of(registry, digest)

    def delete() -> None:
        world.registry().blobs.delete(NAME, digest)
        if not registry.backends.layout.per_repository:
            world.driver().delete([key])  # as a collection does
            with registry.backends.database.transaction() as connection:
                blob_locations.forget(connection, store=registry.backends.driver.name, key=key)

    driver = FaultyDriver(world.driver(), [Fault("open", key, effect=delete)])
    report = scrub(world.registry(driver=driver))
    assert (report.wrong, report.missing, report.problems) == (0, 0, [])
    assert pull(registry, "v1") == image.digest


def test_bytes_that_are_wrong_only_once_are_no_damage(world: World, registry: Registry) -> None:
    image = push_image(registry, "a", "v1")
    key = key_of(registry, image.layer.digest)
    flip(world, key)
    opened = []

    def heal() -> None:
        opened.append(key)
        if len(opened) == 2:
            flip(world, key)

    driver = FaultyDriver(world.driver(), [Fault("open", key, times=None, effect=heal)])
    report = scrub(world.registry(driver=driver))
    assert (report.objects, report.wrong) == (3, 0)
    assert pull(registry, "v1") == image.digest


def test_an_object_that_cannot_be_read_is_a_problem_and_no_end(world: World, registry: Registry) -> None:
    image = push_image(registry, "a", "v1")
    key = key_of(registry, image.layer.digest)
    driver = FaultyDriver(world.driver(), [Fault("reader.read", key, times=None)])
    report = scrub(world.registry(driver=driver))
    assert (report.objects, report.unreadable, report.wrong, report.finished) == (2, 1, 0, True)
    assert key in report.problems[0]
    assert not report.is_clean
    assert pull(registry, "v1") == image.digest


def operations_of(world: World, registry: Registry) -> int:
    """How many calls of the driver a scrub makes."""
    driver = FaultyDriver(world.driver())
    scrub(world.registry(driver=driver))
    return sum(driver.calls.values())


def test_each_call_of_the_store_fails_once_and_nothing_right_is_lost(world: World, registry: Registry) -> None:
    """A part of check 13: what cannot be read proves nothing, and the next run finishes."""
    images = [push_image(registry, text, text) for text in ("a", "b")]
    flip(world, key_of(registry, images[0].layer.digest))
    total = operations_of(world, registry)
    assert total > 3
    for first in range(1, total + 4, budget(sample=3, full=1)):
        push_image(registry, "a", "a")
        flip(world, key_of(registry, images[0].layer.digest))
        world.clock.now += 1
        driver = FaultyDriver(world.driver(), [Fault("*", "*", first=first)])
        failing = world.registry(driver=driver)
        attempt(lambda: scrub(failing))  # noqa: B023 - called at once
        assert pull(registry, "b") == images[1].digest
        attempt(registry.blob_deletion.finish_abandoned)
        world.clock.now += 1000
        registry.blob_deletion.finish_abandoned()
        last = scrub(registry)
        assert last.finished
        with pytest.raises(BlobUnknown):
            pull_blob(registry, Digest(images[0].layer.digest))
        assert pull(registry, "b") == images[1].digest


def attempt(call: Callable[[], object]) -> None:
    """Call it; a failure of the store is met by the caller."""
    try:
        call()
    except StorageError:
        return


def test_a_store_that_fails_altogether_ends_the_run(world: World, registry: Registry) -> None:
    for text in "abcdefgh":
        push_image(registry, text, text)
    driver = FaultyDriver(world.driver(), [Fault("open", times=None), Fault("check", times=None)])
    failing = world.registry(driver=driver)
    with pytest.raises(StorageUnavailable):
        scrub(failing)
    assert scrub(registry).objects == 24


def test_a_store_that_reads_nothing_ends_the_run_whatever_it_says(
    world: World, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("registry.maintenance.scrub.findings.MOST_FAILURES", 5)
    for number in range(8):
        push_blob(registry, bytes([number]))
    failing = world.registry(driver=FaultyDriver(world.driver(), [Fault("open", times=None)]))
    with pytest.raises(StorageUnavailable):
        scrub(failing)


def test_damage_outlives_the_database(world: World, registry: Registry, tmp_path: Path) -> None:
    image, other = push_image(registry, "a", "v1"), push_image(registry, "b", "v2")
    registry.fold_waiting()
    for digest in (image.layer.digest, other.digest):
        flip(world, key_of(registry, digest))
    assert scrub(registry).wrong == 2
    rebuilt = world.registry(url=f"sqlite:///{tmp_path / 'new.db'}")
    rebuild_registry(rebuilt)
    scrub(rebuilt)
    with pytest.raises(BlobUnknown):
        pull_blob(rebuilt, Digest(image.layer.digest))
    assert not is_there(rebuilt, other.manifest)
    for text, tag in (("a", "v1"), ("b", "v2")):
        push_image(rebuilt, text, tag)
    assert pull(rebuilt, "v1") == image.digest
    assert pull(rebuilt, "v2") == other.digest


def test_known_damage_that_nothing_wants_is_told_once(world: World, registry: Registry) -> None:
    digest = push_blob(registry, b"a")
    flip(world, key_of(registry, digest))
    assert scrub(registry).wrong == 1
    with registry.backends.database.transaction() as connection:
        row = repositories.find(connection, NAME).get()
        blob = blobs.find(connection, digest).get()
        assert row is not None
        assert blob is not None
        memberships.remove(connection, row.id, blob.id)
    assert scrub(registry).is_clean


def test_a_manifest_that_is_quarantined_is_unknown_by_its_tag(world: World, registry: Registry) -> None:
    image = push_image(registry, "a", "v1")
    flip(world, key_of(registry, image.digest))
    scrub(registry)
    with pytest.raises(ManifestUnknown):
        registry.manifests.find(NAME, "v1")


def test_the_trash_is_read_as_well(world: World, registry: Registry) -> None:
    image = push_image(registry, "a", "v1")
    registry.manifests.delete(NAME, image.digest, actor="tester")
    registry.fold_waiting()
    report = scrub(registry)
    assert (report.objects, report.wrong) == (3, 0)
    key = key_of(registry, image.digest)
    flip(world, f".trash/{key}" if registry.backends.layout.per_repository else key)
    report = scrub(registry)
    assert (report.objects, report.wrong) == (2, 1)
    assert report.findings[0].digest == image.digest
    with pytest.raises(ManifestUnknown):
        registry.restoration.last(NAME, actor="tester")
    assert not is_there(registry, image.manifest)


def test_what_is_withheld_stays_so(world: World, registry: Registry) -> None:
    """A part of check 26: neither a scrub nor a repair grants what a repository names and does not have."""
    accepting = world.registry(accept_missing_blobs=True)
    image = push_image(registry, "a", "v1")
    sparse = make_image("a").manifest
    push_blob(accepting, image.config.data, OTHER)
    push_manifest(accepting, sparse, "v1", name=OTHER)
    digest = Digest(image.layer.digest)
    for damaged in (False, True):
        if damaged:
            flip(world, key_of(registry, digest))
        scrub(accepting, repairs=True)
        with pytest.raises(BlobUnknown):
            accepting.blobs.find(OTHER, digest)

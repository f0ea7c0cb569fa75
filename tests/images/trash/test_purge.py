"""A purge leaves nothing of a secret that this registry can delete, and tells of what it cannot; killed, it goes on."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from registry.database import blob_locations, manifest_bodies
from registry.images.publication.manifest_publication import ManifestPublication
from registry.images.registry import Registry
from registry.images.trash.purge_grounds import Purged
from registry.images.trash.restoration import Restoration
from registry.maintenance.collection.survey.survey import Survey
from registry.maintenance.rebuild import rebuild_registry
from registry.oci.change_reference import ChangeReference
from registry.oci.digest import Digest
from registry.oci.errors import BlobUnknown, ManifestUnknown, RegistryError, Unsupported
from registry.storage.errors import StorageError
from registry.storage.middleware.faults import Fault, FaultyDriver, When
from tests.images.trash.test_attachments import attach
from tests.images.trash.test_trash_emptying import members, oldest
from tests.maintenance.usage.conftest import SERVER, WORLDS
from tests.support.payloads import Blob, Manifest, image, index
from tests.support.registry_world import (
    ACTOR,
    NAME,
    World,
    is_there,
    open_world,
    pull,
    push_blob,
    push_image,
    push_manifest,
    tags,
)

OTHER = "other/app"
SECRET = b"hunter2-was-never-here"
CONFIG, LAYER = Blob(b"config " + SECRET), Blob(b"layer " + SECRET)
LEAKED = image(CONFIG, [LAYER], annotations={"secret": SECRET.decode()})
ALL = {LEAKED.digest, CONFIG.digest, LAYER.digest}


@pytest.fixture(params=WORLDS)
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    kind, database = request.param
    made = open_world(request, tmp_path, kind, postgresql=database == SERVER)
    yield made
    made.close()


def leak(registry: Registry, *names: str, name: str = NAME, manifest: Manifest = LEAKED) -> Digest:
    for blob in (CONFIG, LAYER):
        push_blob(registry, blob.data, name)
    return push_manifest(registry, manifest, *names, name=name)


def purge(registry: Registry, digest: str = LEAKED.digest, name: str = NAME, *, everywhere: bool = False) -> Purged:
    unknown = Survey(registry).unknown
    return registry.purge.run(name, Digest.parse(digest), actor=ACTOR, unknown=unknown, everywhere=everywhere)


def preview(registry: Registry, digest: str = LEAKED.digest, name: str = NAME, *, everywhere: bool = False) -> Purged:
    unknown = Survey(registry, dry=True).unknown
    return registry.purge.preview(name, Digest.parse(digest), unknown=unknown, everywhere=everywhere)


def places(world: World) -> list[str]:
    """Where storage has the secret."""
    if world.kind == "local":
        files = (path for path in world.root.rglob("*") if path.is_file())
        return [str(path) for path in files if SECRET in path.read_bytes()]
    driver = world.driver()
    return [key for key, stat in driver.list("") if SECRET in driver.read(key, max_bytes=stat.size)[0]]


def stored_blobs(world: World) -> list[str]:
    """The keys of all blobs, of the trash too."""
    return [key for key, _ in world.driver().list("") if "blobs/" in key]


def is_whole(done: Purged) -> bool:
    return not (done.kept or done.unreachable or done.unfinished)


def test_nothing_is_left_of_what_is_purged(world: World, registry: Registry) -> None:
    kept = push_image(registry, "kept", "v2")
    digest = leak(registry, "v1", "latest")
    registry.fold_waiting()
    assert places(world)
    done = purge(registry)
    assert is_whole(done)
    assert (set(done.removed), done.manifests) == (ALL, [digest])
    assert done.bytes == sum(map(len, (LEAKED.data, CONFIG.data, LAYER.data)))
    assert places(world) == []
    assert tags(registry) == ["v2"]
    assert oldest(registry) == []
    assert not is_there(registry, LEAKED)
    with pytest.raises(BlobUnknown):
        registry.blobs.find(NAME, Digest.parse(LAYER.digest))
    with registry.backends.database.autocommit() as connection:
        assert manifest_bodies.find(connection, LEAKED.digest).get() is None
    with pytest.raises(ManifestUnknown):
        registry.restoration.last(NAME, actor=ACTOR)
    with pytest.raises(ManifestUnknown):
        registry.restoration.manifest(NAME, digest, actor=ACTOR)
    assert pull(registry, "v2") == kept.digest
    registry.fold_waiting()
    assert places(world) == []


def test_what_was_deleted_before_is_purged_from_the_trash(world: World, registry: Registry) -> None:
    digest = leak(registry, "v1")
    registry.manifests.delete(NAME, digest, actor=ACTOR)
    registry.fold_waiting()
    done = purge(registry)
    assert (is_whole(done), set(done.removed)) == (True, ALL)
    assert places(world) == []
    with pytest.raises(ManifestUnknown):
        purge(registry)


def test_what_is_attached_goes_too(world: World, registry: Registry) -> None:
    digest = leak(registry, "v1")
    signature = attach(registry, LEAKED, "signature")
    done = purge(registry)
    assert set(done.manifests) == {digest, signature.manifest.digest}
    assert {signature.config.digest, signature.layer.digest} < set(done.removed)
    assert members(registry) == set()
    assert places(world) == []


@pytest.mark.parametrize("kind", ["local", "memory"])
@pytest.mark.parametrize("first", [1, 3, 4])
def test_what_went_with_a_manifest_goes_too_where_the_purge_is_run_again(kind: str, first: int, tmp_path: Path) -> None:
    """The same again purged the manifest alone, and told that all was done."""
    world = World(tmp_path, kind)
    registry = world.registry()
    digest = leak(registry, "v1")
    signature = attach(registry, LEAKED, "signature")
    registry.fold_waiting()
    driver = FaultyDriver(world.driver(), [Fault("delete_once", first=first)])
    with contextlib.suppress(StorageError):
        assert not is_whole(purge(world.registry(driver=driver)))
    assert driver.struck
    world.clock.now += registry.backends.policy.unclear + registry.backends.policy.claim + 1
    again = world.registry()
    previewed = preview(again, digest)
    done = purge(again)
    assert {digest, signature.digest} == set(done.manifests) == set(previewed.manifests)
    assert (is_whole(done), oldest(again), members(again)) == (True, [], set())
    again.fold_waiting()
    assert stored_blobs(world) == []
    world.close()


@pytest.mark.parametrize("ours", [True, False])
def test_what_a_client_has_deleted_is_purged_with_what_went_with_it(
    world: World, registry: Registry, *, ours: bool
) -> None:
    digest = leak(registry, "v1")
    signature = attach(registry, LEAKED, "signature")
    registry.manifests.delete(NAME, digest, actor=ACTOR)
    if ours:
        registry.fold_waiting()
    assert set(purge(registry).manifests) == {digest, signature.digest}
    registry.fold_waiting()
    assert stored_blobs(world) == []


def test_no_rebuild_finds_it_in_the_trash(world: World, registry: Registry) -> None:
    digest = leak(registry, "v1")
    push_image(registry, "kept", "v2")
    leak(registry, "v1", name=OTHER)
    purge(registry)
    registry.fold_waiting()
    lost = world.registry(url=f"sqlite:///{world.root.parent / 'another.db'}")
    assert lost.repositories.require(NAME)
    with pytest.raises(ManifestUnknown):
        lost.restoration.manifest(NAME, digest, actor=ACTOR)
    with pytest.raises(ManifestUnknown):
        lost.restoration.last(NAME, actor=ACTOR)
    assert pull(lost, "v1", OTHER) == digest, "another repository has it"
    assert tags(lost) == ["v2"]


def test_what_the_trash_names_is_purged_after_a_lost_database_too(world: World, registry: Registry) -> None:
    """Where all share objects, none of its blobs has a row then: the secret stayed, and nothing told of it."""
    registry.manifests.delete(NAME, leak(registry, "v1"), actor=ACTOR)
    registry.fold_waiting()
    lost = world.registry(url=world.another())
    assert rebuild_registry(lost).problems == []
    previewed = preview(lost)
    done = purge(lost)
    assert (is_whole(done), set(done.removed)) == (True, ALL)
    assert sorted(previewed.removed) == sorted(done.removed)
    assert places(world) == []


@pytest.mark.parametrize("kind", ["memory"])
def test_what_another_repository_names_without_having_it_stays(kind: str, tmp_path: Path) -> None:
    world = World(tmp_path, kind)
    registry = world.registry(accept_missing_blobs=True)
    registry.manifests.delete(NAME, leak(registry, "v1"), actor=ACTOR)
    push_blob(registry, b"{}", OTHER)
    push_manifest(registry, image(Blob(b"{}"), [LAYER]), "v1", name=OTHER)
    registry.fold_waiting()
    lost = world.registry(url=world.another(), accept_missing_blobs=True)
    assert rebuild_registry(lost).problems == []
    done = purge(lost)
    assert set(done.removed) == ALL - {LAYER.digest}
    assert [(each["digest"], each["repositories"]) for each in done.kept] == [(LAYER.digest, [OTHER])]
    world.close()


@pytest.mark.parametrize("deleted", [False, True])
def test_what_a_repository_has_that_the_database_does_not_know_stays(
    world: World, registry: Registry, *, deleted: bool
) -> None:
    """After a lost database the purge of one repository took the bytes that another served."""
    digest = leak(registry, "v1")
    leak(registry, "v1", name=OTHER)
    if deleted:
        registry.manifests.delete(OTHER, digest, actor=ACTOR)
    registry.fold_waiting()
    world.url = world.another()
    lost = world.registry()
    assert lost.repositories.require(NAME)
    done = purge(lost)
    assert not is_there(lost, LEAKED)
    if world.kind != "local":
        assert (done.removed, done.manifests) == ([], [])
        assert all(OTHER in each and "registry rebuild" in each for each in done.unfinished)
    assert rebuild_registry(lost).problems == []
    if deleted:
        lost.restoration.last(OTHER, actor=ACTOR)
    assert pull(lost, "v1", OTHER) == digest
    done = purge(lost, everywhere=True) if world.kind != "local" else purge(lost, name=OTHER)
    assert (is_whole(done), set(done.removed)) == (True, ALL)
    assert places(world) == []


def test_what_another_manifest_needs_stays_and_is_told(world: World, registry: Registry) -> None:
    leak(registry, "v1")
    push_blob(registry, b"{}")
    other = push_manifest(registry, image(Blob(b"{}"), [LAYER]), "v2")
    done = purge(registry)
    assert set(done.removed) == {LEAKED.digest, CONFIG.digest}
    [kept] = done.kept
    assert kept == {
        "digest": LAYER.digest,
        "because": "a manifest needs it",
        "repositories": [NAME],
        "manifests": [other],
    }
    assert pull(registry, "v2") == other
    registry.manifests.delete(NAME, other, actor=ACTOR)
    with pytest.raises(ManifestUnknown):
        purge(registry)
    assert set(purge(registry, LAYER.digest).removed) >= {LAYER.digest, str(other)}
    assert places(world) == []


def test_a_blob_that_a_manifest_needs_is_refused_and_names_it(registry: Registry) -> None:
    digest = leak(registry, "v1")
    with pytest.raises(Unsupported, match=digest):
        purge(registry, LAYER.digest)
    push_manifest(registry, listing := index([LEAKED]), "all")
    with pytest.raises(Unsupported, match=listing.digest):
        purge(registry)
    assert pull(registry, "v1") == digest


def test_a_blob_of_no_manifest_is_purged(world: World, registry: Registry) -> None:
    push_blob(registry, LAYER.data)
    done = purge(registry, LAYER.digest)
    assert (is_whole(done), done.removed, done.manifests) == (True, [LAYER.digest], [])
    assert places(world) == []


@pytest.mark.parametrize("deleted", [False, True])
def test_other_repositories_are_named_and_asked_for(world: World, registry: Registry, *, deleted: bool) -> None:
    digest = leak(registry, "v1")
    leak(registry, "v1", name=OTHER)
    if deleted:
        registry.manifests.delete(OTHER, digest, actor=ACTOR)
    registry.fold_waiting()
    done = purge(registry)
    assert (done.removed, done.manifests) == ([], [digest])
    assert {each["digest"] for each in done.kept} == ALL
    assert all(each["repositories"] == [OTHER] for each in done.kept)
    assert not is_there(registry, LEAKED)
    leak(registry, "v1")
    done = purge(registry, everywhere=True)
    assert (is_whole(done), set(done.removed), done.manifests) == (True, ALL, [digest, digest])
    assert places(world) == []


def test_everywhere_it_stays_where_an_index_lists_it(world: World, registry: Registry) -> None:
    leak(registry, "v1")
    leak(registry, name=OTHER)
    push_manifest(registry, listing := index([LEAKED]), "all", name=OTHER)
    done = purge(registry, everywhere=True)
    assert done.removed == []
    assert any(listing.digest in each["because"] and each["repositories"] == [OTHER] for each in done.kept)
    assert is_there(registry, LEAKED, OTHER)
    assert not is_there(registry, LEAKED)


def test_a_live_claim_protects_and_the_same_again_goes_on(world: World) -> None:
    registry = world.registry(claim=2.0)
    leak(registry, "v1")
    registry.fold_waiting()
    key = registry.backends.layout.blob(NAME, Digest.parse(LAYER.digest))
    with registry.backends.database.transaction() as connection:
        row = blob_locations.find(connection, registry.backends.driver.name, key).get()
        assert row is not None
        assert registry.blob_deletion.claim(connection, row.blob_id, key)
    done = purge(registry)
    assert LAYER.digest not in done.removed
    assert any(LAYER.digest in each for each in done.unfinished)
    world.clock.now += 2.5
    if not registry.backends.database.is_sqlite:
        time.sleep(2.5)  # by the clock of the server
    done = purge(registry)
    assert is_whole(done)
    assert places(world) == []


@pytest.mark.parametrize("moment", [When.BEFORE, When.AFTER])
@pytest.mark.parametrize("step", [pytest.param(7, id="sample"), pytest.param(1, id="every", marks=pytest.mark.stores)])
@pytest.mark.parametrize("kind", ["local", "memory"])
def test_broken_off_at_any_call_to_storage_the_same_again_goes_on(
    kind: str, moment: When, step: int, tmp_path: Path
) -> None:
    for count in itertools.count(1, step):
        (tmp_path / f"{count}").mkdir()
        world = World(tmp_path / f"{count}", kind)
        first = world.registry()
        leak(first, "v1")
        first.fold_waiting()
        driver = FaultyDriver(world.driver(), [Fault(first=count, moment=moment)])
        finished = False
        with contextlib.suppress(StorageError, RegistryError):
            finished = is_whole(purge(world.registry(driver=driver)))
        world.clock.now += first.backends.policy.unclear + first.backends.policy.claim + 1
        again = world.registry()
        again.fold_waiting()
        if not finished:
            try:
                done = purge(again)
                assert not done.unfinished
            except ManifestUnknown:
                assert oldest(again) == []
        again.blob_deletion.finish_abandoned()
        again.fold_waiting()
        assert places(world) == [], count
        assert not is_there(again, LEAKED)
        world.close()
        if not sum(driver.struck.values()):
            assert count > 5
            return


@pytest.mark.parametrize("kind", ["local"])
def test_names_that_are_not_the_registrys_are_told(kind: str, tmp_path: Path) -> None:
    world = World(tmp_path, kind)
    registry = world.registry()
    leak(registry, "v1")
    registry.fold_waiting()
    path = world.root / NAME / "blobs/sha256" / Digest.parse(LAYER.digest).encoded
    os.link(path, tmp_path / "backup")
    done = purge(registry)
    assert [each.partition(" more")[0] for each in done.unreachable] == [f"{LAYER.digest}: its file has 1"]
    assert places(world) == []
    world.close()


def test_what_is_purged_can_be_pushed_again_and_deleted_into_the_trash(registry: Registry) -> None:
    digest = leak(registry, "v1")
    purge(registry)
    leak(registry, "v1")
    assert pull(registry, "v1") == digest
    registry.manifests.delete(NAME, digest, actor=ACTOR)
    registry.fold_waiting()
    registry.restoration.last(NAME, actor=ACTOR)
    assert pull(registry, "v1") == digest


def test_the_journal_says_that_it_was_purged(registry: Registry) -> None:
    digest = leak(registry, "v1")
    purge(registry)
    records = registry.change_history.page(NAME, None, before=None, count=2).records
    assert [(each.operation, each.digest, each.purged, each.actor) for each in records] == [
        ("delete", digest, True, ACTOR),
        ("delete", digest, False, ACTOR),
    ]
    assert json.loads(records[0].to_line())["purged"] is True


@pytest.mark.parametrize("held", [Restoration, ManifestPublication], ids=["before it writes", "before it commits"])
@pytest.mark.parametrize("wanted", ["last", "tag", "a tag of what is there"])
def test_a_restore_that_has_read_it_before_does_not_bring_it_back(
    world: World, monkeypatch: pytest.MonkeyPatch, held: type, wanted: str
) -> None:
    """Its blobs stay, for another manifest names them: only the secret in the manifest goes."""
    registry, other = world.registry(), world.registry()
    digest = leak(registry, "v1")
    push_manifest(registry, image(CONFIG, [LAYER]), "kept")
    if wanted == "a tag of what is there":
        push_manifest(registry, LEAKED, "v2")
        registry.manifests.untag(NAME, "v1", actor=ACTOR)
    else:
        registry.manifests.delete(NAME, digest, actor=ACTOR)
    name = "_put" if held is Restoration else "publish"
    put = getattr(held, name)

    def purge_first(*given: Any, **more: Any) -> Any:
        monkeypatch.setattr(held, name, put)
        purge(other)
        return put(*given, **more)

    monkeypatch.setattr(held, name, purge_first)
    reference = ChangeReference.parse(NAME if wanted == "last" else f"{NAME}:v1")
    with pytest.raises(ManifestUnknown, match=f"does not hold {digest}"):
        registry.restoration.restore(reference, actor=ACTOR)
    assert tags(registry) == ["kept"]
    with pytest.raises(ManifestUnknown):
        registry.manifests.find(NAME, digest)
    if held is Restoration:
        assert not [place for place in places(world) if digest.encoded in place]

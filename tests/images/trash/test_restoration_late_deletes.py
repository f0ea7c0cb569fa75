"""A store that carries a delete out late takes nothing that a restore has said is back."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from registry.database.statement import Statement
from registry.images.publication import blob_publication
from registry.images.registry import Registry
from registry.images.trash.restoration import Restoration
from registry.images.trash.trash_expiry import TrashExpiry
from registry.maintenance.collection.budget import Budget
from registry.maintenance.collection.run import CollectionRun, Wanted
from registry.oci.errors import ManifestUnknown, RegistryError, Unavailable
from registry.storage.errors import StorageError
from registry.storage.s3.driver import S3Driver
from tests.images.trash.test_purge import purge
from tests.storage.drivers import s3_server, s3_settings
from tests.support.collecting import end_leases
from tests.support.collection import Report
from tests.support.collection import run as collect
from tests.support.fault_proxy import FaultProxy
from tests.support.registry_world import (
    ACTOR,
    NAME,
    REPLICAS_KIND,
    Pushed,
    World,
    is_there,
    open_world,
    pull,
    push_blob,
    push_image,
    push_manifest,
)

_SENT = Statement("SELECT key FROM blob_location WHERE state = 'deleting' AND claim_sent = 1 ORDER BY key")
WINDOW = 1000.0


@pytest.fixture(params=[REPLICAS_KIND])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    made = open_world(request, tmp_path, request.param)
    yield made
    made.close()


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blob_publication, "ATTEMPTS", 3)


class LateStore:
    """A store, a way to it on which deletes go wrong, and what it has not carried out yet."""

    def __init__(self, world: World, proxy: FaultProxy) -> None:
        settings, root = s3_settings(), f"late-{uuid.uuid4().hex}"
        self.driver = world._s3 = S3Driver(settings, root)
        changed = {"endpoint_url": proxy.url, "read_timeout": 1.0, "attempts": 2, "timeout": 3.0}
        self.behind = S3Driver(settings.model_copy(update=changed), root)
        self._due: list[str] = []

    def wait_with_deletes(self, registry: Registry) -> int:
        """Note which were sent, and answered by nothing that says what became of them; their number."""
        with registry.backends.database.autocommit() as connection:
            self._due = connection.execute(_SENT, {}).all_as(str).get()
        return len(self._due)

    def carry_out(self) -> None:
        """Do what it was sent, and answered with an error."""
        self.driver.delete(self._due)


@pytest.fixture
def proxy() -> Iterator[FaultProxy]:
    server = s3_server()
    with FaultProxy(server.port, secret=server.secret) as between:
        yield between


@pytest.fixture
def store(world: World, proxy: FaultProxy) -> LateStore:
    return LateStore(world, proxy)


def is_restored(registry: Registry, image: Pushed) -> bool:
    try:
        registry.restoration.manifest(NAME, image.digest, actor=ACTOR)
    except (Unavailable, ManifestUnknown):
        return False
    return True


def check_it_ends_well(world: World, image: Pushed) -> None:
    """Once what is unclear has been decided, a restore tells the truth, and a push heals."""
    world.clock.now += world.policy.unclear + world.policy.claim + 1
    registry = world.registry(undelete_window=10 * WINDOW)
    registry.blob_deletion.finish_abandoned()
    if is_restored(registry, image):
        assert pull(registry, image.digest) == image.digest
    push_blob(registry, image.config.data)
    push_blob(registry, image.layer.data)
    push_manifest(registry, image.manifest, "v1")
    assert pull(world.registry(), "v1") == image.digest


@pytest.mark.parametrize("way", ["500", "503", "hang"])
@pytest.mark.parametrize("skip", [0, 1, 2])
def test_what_a_purge_could_not_delete_is_restored_only_when_no_delete_can_come(
    world: World, proxy: FaultProxy, store: LateStore, skip: int, way: str
) -> None:
    registry = world.registry()
    image = push_image(registry, "image", "v1")
    registry.fold_waiting()
    if way == "hang":
        proxy.hang("DeleteObject", path_contains="blobs/", times=None, skip=skip)
    else:
        proxy.fail("DeleteObject", path_contains="blobs/", status=int(way), times=None, skip=skip)
    done = purge(world.registry(driver=store.behind), image.digest)
    assert done.unfinished
    assert store.wait_with_deletes(registry) == 3 - skip
    restored = is_restored(registry, image)
    store.carry_out()
    assert restored == is_there(world.registry(), image.manifest)
    if restored:
        assert pull(world.registry(), image.digest) == image.digest
    check_it_ends_well(world, image)


def purge_meanwhile(registry: Registry, image: Pushed) -> None:
    purge(registry, image.digest)


def empty_meanwhile(registry: Registry, _image: Pushed) -> None:
    """As ``registry gc --empty-trash`` does, once no lease keeps anything."""
    end_leases(registry)
    CollectionRun(registry, Wanted(emptied=NAME), Report().ledger, Budget(None, require_mine=lambda: None), {}).finish()


def expire_meanwhile(registry: Registry, _image: Pushed) -> None:
    """Everything of it goes as it does where a restore takes longer than the window has left."""
    end_leases(registry)
    TrashExpiry(registry.backends).run()
    for _ in range(4):
        CollectionRun(registry, Wanted(), Report().ledger, Budget(None, require_mine=lambda: None), {}).finish()


@pytest.mark.parametrize("step", ["_require_whole", "_parts", "_kept", "_join"])
@pytest.mark.parametrize("meanwhile", [purge_meanwhile, empty_meanwhile, expire_meanwhile])
def test_deletes_that_begin_during_a_restore_and_come_late_take_nothing_of_it(
    world: World, proxy: FaultProxy, store: LateStore, monkeypatch: pytest.MonkeyPatch, step: str, meanwhile: Any
) -> None:
    """Each deleter finds it in the trash, or out of use, after a step of the restore."""
    registry = world.registry(undelete_window=WINDOW, grace=0)
    image = push_image(registry, "image", "v1")
    registry.manifests.delete(NAME, image.digest, actor=ACTOR)
    registry.fold_waiting()
    if step == "_join":  # what is a member still need not join
        end_leases(registry)
        collect(world.registry(undelete_window=WINDOW, grace=0, lease=0))
        collect(world.registry(undelete_window=WINDOW, grace=0, lease=0))
    window = 0.0 if meanwhile is expire_meanwhile else WINDOW
    deleter = world.registry(driver=store.behind, undelete_window=window, grace=0, lease=0)
    for kind in ("DeleteObject", "DeleteObjects"):
        proxy.fail(kind, status=500, times=None)
    taken, done = getattr(Restoration, step), list[int]()

    def take(restoration: Restoration, *values: Any, **more: Any) -> Any:
        result = taken(restoration, *values, **more)
        if not done:
            done.append(0)
            with contextlib.suppress(RegistryError, StorageError):
                meanwhile(deleter, image)
            done[0] = store.wait_with_deletes(registry)
        return result

    monkeypatch.setattr(Restoration, step, take)
    restored = is_restored(registry, image)
    store.carry_out()
    assert done
    assert restored == is_there(world.registry(), image.manifest)
    if restored:
        assert pull(world.registry(), image.digest) == image.digest
    check_it_ends_well(world, image)

"""What is found on storage joins with a lease, and never while its bytes are being deleted (lifecycle 4.12)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from registry.database import blob_locations, blobs
from registry.database.blobs import BlobRow
from registry.database.statement import Statement
from registry.images.records.blob_discovery import BlobDiscovery
from registry.images.registry import Registry
from registry.maintenance.rebuild import rebuild_registry
from registry.oci.digest import Digest
from registry.oci.errors import BlobUnknown
from tests.support.registry_world import (
    NAME,
    PROMPT,
    Pushed,
    World,
    at,
    leased_until,
    pull,
    pull_blob,
    push_blob,
    push_image,
)

shared = pytest.mark.parametrize("kind", ["memory", PROMPT])
COPY = "team/copy"


def layer_of(made: Pushed) -> Digest:
    return Digest.parse(made.layer.digest)


def row_of(registry: Registry, digest: Digest) -> BlobRow:
    with registry.backends.database.snapshot() as connection:
        row = blobs.find(connection, digest).get()
    assert row is not None
    return row


def claim(registry: Registry, digest: Digest, *, deletes: bool) -> None:
    """What a collector does with a blob that no repository has."""
    with registry.backends.database.transaction() as connection:
        row = blobs.lock(connection, digest).get()
        assert row is not None
        claimed = registry.blob_deletion.claim(connection, row.id, registry.backends.layout.blob(NAME, digest))
    assert claimed is not None
    assert not deletes or registry.blob_deletion.delete(claimed)


def forget_repository(registry: Registry) -> None:
    """Have its blobs in the database, and the repository on storage alone."""
    registry.fold_waiting()
    with registry.backends.database.transaction() as connection:
        connection.execute(Statement("DELETE FROM repository"), {})


def is_member(registry: Registry, digest: Digest) -> bool:
    try:
        registry.blobs.find(NAME, digest)
    except BlobUnknown:
        return False
    return True


def test_what_is_found_is_leased(world: World, registry: Registry, tmp_path: Path) -> None:
    made = push_image(registry, "1", "v1")
    registry.fold_waiting()
    world.clock.now += 10 * world.policy.lease
    other = world.registry(url=f"sqlite:///{tmp_path / 'fresh.db'}")
    rebuild_registry(other)
    for digest in (layer_of(made), Digest.parse(made.config.digest), made.digest):
        assert leased_until(other, digest) == at(world.clock.now + world.policy.lease)


@shared
def test_what_the_database_knows_already_is_leased_when_it_joins(world: World, registry: Registry) -> None:
    made = push_image(registry, "1", "v1")
    forget_repository(registry)
    world.clock.now += 10 * world.policy.lease
    other = world.registry()
    assert pull(other, "v1") == made.digest
    assert leased_until(other, layer_of(made)) == at(world.clock.now + world.policy.lease)


@shared
@pytest.mark.parametrize("deletes", [False, True])
def test_a_blob_that_is_claimed_does_not_join(world: World, registry: Registry, deletes: bool) -> None:
    made = push_image(registry, "1", "v1")
    forget_repository(registry)
    claim(registry, layer_of(made), deletes=deletes)
    other = world.registry()
    other.manifests.find(NAME, "v1")
    assert not is_member(other, layer_of(made))
    world.clock.now += world.policy.claim + world.policy.unclear + 1
    assert other.blob_deletion.finish_abandoned() == (not deletes)
    assert row_of(other, layer_of(made)).state == blobs.GONE
    push_blob(other, made.layer.data)
    assert pull(other, "v1") == made.digest


@shared
@pytest.mark.parametrize("deletes", [False, True])
def test_a_claim_between_the_look_and_the_rows_is_seen(
    world: World, registry: Registry, monkeypatch: pytest.MonkeyPatch, deletes: bool
) -> None:
    made = push_image(registry, "1", "v1")
    forget_repository(registry)
    look = BlobDiscovery._before

    def interrupted(self: BlobDiscovery, digests: list[Digest]) -> object:
        found = look(self, digests)
        monkeypatch.setattr(BlobDiscovery, "_before", look)
        claim(registry, layer_of(made), deletes=deletes)
        return found

    monkeypatch.setattr(BlobDiscovery, "_before", interrupted)
    other = world.registry()
    other.manifests.find(NAME, "v1")
    assert not is_member(other, layer_of(made))


@shared
def test_an_orphan_that_is_claimed_while_it_is_looked_at_does_not_join(
    world: World, registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = push_image(registry, "1", "v1")
    registry.fold_waiting()
    other = world.registry(url=f"sqlite:///{tmp_path / 'fresh.db'}")
    key = other.backends.layout.blob(NAME, layer_of(made))
    stat: Callable[[BlobDiscovery, str], object] = BlobDiscovery._stat

    def interrupted(self: BlobDiscovery, asked: str) -> object:
        found = stat(self, asked)
        if asked == key:
            assert other.blob_deletion.claim_orphan(key, layer_of(made), other.backends.driver.stat(key)) is not None
        return found

    monkeypatch.setattr(BlobDiscovery, "_stat", interrupted)
    other.manifests.find(NAME, "v1")
    assert not is_member(other, layer_of(made))


@pytest.mark.parametrize("kind", ["local"])
def test_what_another_tool_brings_back_after_it_was_deleted_is_served(world: World, registry: Registry) -> None:
    made = push_image(registry, "1", "v1")
    registry.fold_waiting()
    loose = push_blob(registry, b"loose")
    registry.blobs.delete(NAME, loose)
    assert row_of(registry, loose).state == blobs.GONE
    source, copy = world.root / NAME, world.root / COPY
    copy.mkdir(parents=True)
    for path in sorted(source.rglob("*")):
        target = copy / path.relative_to(source)
        if path.is_dir():
            target.mkdir(exist_ok=True)
        elif ".journal" not in path.parts:
            target.write_bytes(path.read_bytes())
    (copy / "blobs" / loose.algorithm / loose.encoded).write_bytes(b"loose")
    other = world.registry()
    assert pull(other, "v1", COPY) == made.digest
    assert pull_blob(other, loose, COPY) == b"loose"
    row = row_of(other, loose)
    assert (row.state, row.generation) == (blobs.PRESENT, 1)
    with other.backends.database.snapshot() as connection:
        found = blob_locations.find(connection, "local", other.backends.layout.blob(COPY, loose)).get()
    assert found is not None

"""A push may take longer than every lease: what it was told is there stays until its manifest names it (I7)."""

from __future__ import annotations

import pytest

from registry.database.errors import DatabaseUnavailable
from registry.images.registry import Registry
from registry.images.uploads import blob_writer
from registry.oci.digest import Digest
from tests.support.collecting import collect
from tests.support.registry_world import NAME, World, make_image, pull, push_blob, push_manifest

CHUNK = b"slow"


def _unavailable(**_options: object) -> None:
    raise DatabaseUnavailable("it is restarted")


@pytest.fixture(autouse=True)
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer keeps its session alive with each chunk, since the clock of a test leaps."""
    monkeypatch.setattr(blob_writer, "LOOK_SECONDS", -1)
    monkeypatch.setattr(blob_writer, "KEEP_SECONDS", -1)


@pytest.mark.parametrize("requests", ["one", "several"])
def test_what_head_said_of_a_blob_outlives_its_lease_while_another_is_uploaded(
    world: World, registry: Registry, requests: str
) -> None:
    """Check 6: HEAD an old blob, upload another for one and a half leases, put the manifest that names both."""
    made, lease = make_image("long"), world.policy.lease
    push_blob(registry, made.config.data)
    world.clock.now += 10 * lease
    registry.blobs.find(NAME, Digest.parse(made.config.digest))
    world.clock.now += lease * 0.49
    registry.blobs.find(NAME, Digest.parse(made.config.digest))
    upload, layer = registry.uploads.start(NAME), made.layer.data
    addition, start = None, 0
    for start in range(len(layer)):
        addition = addition or registry.uploads.open(NAME, upload, start)
        world.clock.now += lease / 3
        addition.write(layer[start : start + 1])
        if requests == "several":
            addition.commit()
            addition.close()
            addition = None
        assert collect(world.registry(), NAME) == set()
        assert world.registry().uploads.expire() == 0
    addition = addition or registry.uploads.open(NAME, upload, len(layer))
    registry.uploads.finish(addition, Digest.of(layer))
    addition.close()
    assert collect(world.registry(), NAME) == set(), "the session is gone, and the manifest is not here yet"
    world.clock.now += lease * 0.99
    assert collect(world.registry(), NAME) == set()
    push_manifest(registry, made.manifest, "v1")
    world.clock.now += 10 * lease
    assert collect(world.registry(), NAME) == set()
    assert pull(registry, "v1") == made.digest


def test_an_upload_that_its_client_left_protects_for_a_lease(world: World, registry: Registry) -> None:
    old, lease = push_blob(registry, b"old"), world.policy.lease
    world.clock.now += 10 * lease
    with registry.uploads.open(NAME, registry.uploads.start(NAME), 0) as addition:
        addition.write(CHUNK)
    world.clock.now += lease * 0.99
    assert collect(world.registry(), NAME) == set()
    world.clock.now += lease * 0.02
    assert collect(world.registry(), NAME) == {old}


def test_a_short_upload_protects_only_what_it_brought(world: World, registry: Registry) -> None:
    old = push_blob(registry, b"old")
    world.clock.now += 10 * world.policy.lease
    push_blob(registry, b"new")
    assert collect(world.registry(), NAME) == {old}


@pytest.mark.parametrize("kind", ["local", "memory"])
def test_a_session_that_was_noted_on_its_way_is_closed_as_any(world: World, registry: Registry) -> None:
    with registry.uploads.open(NAME, registry.uploads.start(NAME), 0) as addition:
        addition.write(CHUNK)
        assert addition.row.is_noted
        addition.write(CHUNK)
        registry.uploads.finish(addition, Digest.of(CHUNK * 2))
    assert registry.uploads.count() == 0
    assert list(registry.backends.driver.uploads()) == []
    assert registry.blobs.find(NAME, Digest.of(CHUNK * 2)).size == len(CHUNK) * 2


@pytest.mark.parametrize("kind", ["local"])
def test_a_database_that_fails_on_the_way_ends_no_upload_to_a_directory(
    world: World, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    with registry.uploads.open(NAME, registry.uploads.start(NAME), 0) as addition:
        with monkeypatch.context() as patched:
            patched.setattr(registry.backends.database, "transaction", _unavailable)
            addition.write(CHUNK)
        registry.uploads.finish(addition, Digest.of(CHUNK))
    assert registry.blobs.find(NAME, Digest.of(CHUNK)).size == len(CHUNK)

"""The trash is emptied at once: what a dry run said goes, and what a lease or another manifest keeps stays."""

from __future__ import annotations

import pytest

from registry.images.registry import Registry
from registry.maintenance.collection.finding import Kept
from registry.maintenance.collection.steps import emptied_trash
from registry.oci.digest import Digest
from registry.oci.errors import ManifestUnknown
from tests.maintenance.collection.test_run import delete, stored, stored_bytes
from tests.support.collecting import end_leases
from tests.support.collection import Report, run
from tests.support.payloads import image
from tests.support.registry_world import (
    NAME,
    Pushed,
    World,
    make_image,
    pull,
    push_blob,
    push_image,
    push_manifest,
)

OTHER = "other/app"


@pytest.fixture
def registry(world: World) -> Registry:
    """With leases, which a test ends."""
    return world.registry()


def size_of(made: Pushed) -> int:
    return sum(len(each.data) for each in (made.manifest, made.config, made.layer))


def empty(registry: Registry, only: str = "") -> Report:
    """Empty the trash, exactly as a dry run has said, which changes nothing."""
    before = stored(registry)
    dry = run(registry, dry=True, emptied=only)
    assert stored(registry) == before
    had = stored_bytes(registry)
    done = run(registry, emptied=only)
    key = lambda each: (str(each.kind), each.digest, each.repository or "", each.bytes)  # noqa: E731
    assert sorted(map(key, dry.removed)) == sorted(map(key, done.removed))
    assert had - stored_bytes(registry) == sum(each.bytes for each in done.removed) == done.ledger.bytes
    assert (dry.ledger.objects, dry.ledger.bytes) == (done.ledger.objects, done.ledger.bytes)
    return done


@pytest.mark.parametrize("page", [1, 100])
def test_what_only_the_trash_keeps_goes_at_once(
    world: World, registry: Registry, monkeypatch: pytest.MonkeyPatch, page: int
) -> None:
    """Check 24, the part of emptying."""
    monkeypatch.setattr(emptied_trash, "PAGE", page)
    kept = push_image(registry, "kept", "v1")
    gone = [push_image(registry, text, text) for text in ("one", "two", "three")]
    for made in gone:
        delete(registry, made)
    end_leases(registry)
    done = empty(registry)
    assert sum(each.bytes for each in done.removed) == sum(map(size_of, gone))
    assert stored_bytes(registry) == size_of(kept)
    pull(registry, "v1")
    with pytest.raises(ManifestUnknown):
        registry.restoration.last(NAME, actor="tester")
    assert empty(registry).removed == []
    push_image(registry, "one", "again")
    pull(registry, "again")


def test_one_repository_may_be_asked_for(registry: Registry) -> None:
    made = push_image(registry, "one", "v1")
    push_image(registry, "one", "v1", name=OTHER)
    for name in (NAME, OTHER):
        delete(registry, made, name)
    end_leases(registry)
    assert sum(each.bytes for each in empty(registry, NAME).removed) == 0, "the trash of the other one has it"
    assert registry.restoration.last(OTHER, actor="tester")
    pull(registry, str(made.digest), OTHER)
    with pytest.raises(ManifestUnknown):
        registry.restoration.last(NAME, actor="tester")


def test_what_a_client_was_told_of_stays(world: World, registry: Registry) -> None:
    made = push_image(registry, "one", "v1")
    delete(registry, made)
    done = empty(registry)
    assert done.ledger.kept[Kept.LEASED] == 1
    push_manifest(registry, made.manifest, "v1")
    pull(registry, "v1")


def test_what_other_manifests_name_stays(registry: Registry) -> None:
    first, second = make_image("one"), make_image("two")
    manifests = [image(made.config, [first.layer]) for made in (first, second)]
    for blob in (first.config, second.config, first.layer):
        push_blob(registry, blob.data)
    for number, manifest in enumerate(manifests):
        push_manifest(registry, manifest, f"v{number}")
    registry.manifests.delete(NAME, Digest.parse(manifests[0].digest), actor="tester")
    registry.fold_waiting()
    end_leases(registry)
    done = empty(registry)
    assert sum(each.bytes for each in done.removed) == len(manifests[0].data) + len(first.config.data)
    pull(registry, "v1")


def test_of_a_repository_that_is_not_known_in_full_nothing_goes(registry: Registry) -> None:
    made = push_image(registry, "one", "v1")
    delete(registry, made)
    end_leases(registry)
    before = stored(registry)
    done = run(registry, emptied="", unsafe={NAME: "it cannot be read"})
    assert (done.removed, done.ledger.kept[Kept.UNKNOWN], stored(registry)) == ([], 1, before)
    assert registry.restoration.last(NAME, actor="tester")

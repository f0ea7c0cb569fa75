"""Content of mirrors stays by its last pull, and not because it has a tag (A.4 of the notes on mirrors)."""

from __future__ import annotations

from typing import Any

import pytest

from registry.images.registry import Registry
from registry.maintenance.collection.finding import Kept, Kind
from registry.oci.digest import Digest
from tests.support.collection import Report, run, settle
from tests.support.payloads import Manifest, index
from tests.support.registry_world import NAME, World, is_there, make_image, push_image, tags

HERE = "docker.io/library/app"
GRACE = 100.0
DAY = 86400.0
UNUSED = 90 * DAY


@pytest.fixture
def registry(world: World) -> Registry:
    return world.registry(
        lease=0, grace=GRACE, undelete_window=1000, mirrored=frozenset({"docker.io"}), pull_interval=0.0
    )


@pytest.fixture(autouse=True)
def _count_pulls(registry: Registry) -> None:
    registry.pulls.flush()


def bring(registry: Registry, manifest: Manifest, *names: str, name: str = HERE) -> Digest:
    """Have a manifest come from an upstream."""
    digest = Digest.parse(manifest.digest)
    registry.manifests.put_mirrored(name, manifest.data, manifest.media_type, digest=digest, tags=names)
    return digest


def pull(registry: Registry, digest: str) -> None:
    registry.pulls.pulled(HERE, digest)
    registry.pulls.flush()


def collect(registry: Registry, after: float | None = UNUSED, **wanted: Any) -> Report:
    return run(registry, mirrors={"docker.io": after}, untagged_after=DAY, **wanted)


def test_what_was_pulled_by_its_digest_alone_is_no_untagged_garbage(world: World, registry: Registry) -> None:
    ours, theirs = push_image(registry, "ours"), make_image("theirs").manifest
    bring(registry, theirs)
    for _ in range(20):
        report = collect(registry, None)
        assert report.ledger.kept[Kept.MIRRORED] == 1
        world.clock.now += 30 * DAY
    assert is_there(registry, theirs, HERE)
    assert not is_there(registry, ours.manifest, NAME)


def test_it_goes_when_it_was_not_pulled_for_as_long_as_its_mirror_says(world: World, registry: Registry) -> None:
    used, left = make_image("used").manifest, make_image("left").manifest
    for manifest in (used, left):
        bring(registry, manifest)
    for _ in range(4):
        collect(registry)
        world.clock.now += UNUSED / 4 - 1
        pull(registry, used.digest)
    report = collect(registry)
    assert report.removed == []
    assert {each.reason for each in report.waiting if each.kind is Kind.MANIFEST} == {"mirrors.unused_after"}
    world.clock.now += 5
    would = collect(registry, dry=True).removed
    assert [(each.kind, each.digest, each.reason) for each in would] == [(Kind.MANIFEST, left.digest, "unused")]
    assert collect(registry).removed == would
    assert is_there(registry, used, HERE)
    assert not is_there(registry, left, HERE)
    world.clock.now += UNUSED
    settle(registry, mirrors={"docker.io": UNUSED})
    assert not is_there(registry, used, HERE)


def test_a_tag_goes_first_and_its_manifest_and_children_after_grace(world: World, registry: Registry) -> None:
    one, two = make_image("one").manifest, make_image("two").manifest
    both = index([one, two])
    bring(registry, both, "v1", "latest")
    bring(registry, one)
    kept = make_image("kept").manifest
    bring(registry, kept, "kept")
    push_image(registry, "ours", "v1")
    collect(registry)
    world.clock.now += UNUSED - 10
    pull(registry, kept.digest)
    assert collect(registry).removed == []
    world.clock.now += 20
    would = collect(registry, dry=True).removed
    assert {(each.kind, each.key, each.repository) for each in would} == {
        (Kind.TAG, tag, HERE) for tag in ("v1", "latest")
    }
    assert collect(registry).removed == would
    assert (tags(registry, HERE), tags(registry)) == (["kept"], ["v1"])
    assert is_there(registry, both, HERE)
    world.clock.now += GRACE - 1
    assert collect(registry).removed == []
    world.clock.now += 2
    assert {each.digest for each in collect(registry).removed} >= {both.digest, one.digest}
    assert not is_there(registry, both, HERE)
    assert is_there(registry, kept, HERE)
    again = bring(registry, both, "v1")
    assert (tags(registry, HERE), registry.manifests.find(HERE, "v1").digest) == (["kept", "v1"], again)


def test_children_of_what_is_used_stay(world: World, registry: Registry) -> None:
    child = make_image("child").manifest
    both = index([child])
    bring(registry, both, "v1")
    bring(registry, child)
    for _ in range(6):
        pull(registry, both.digest)
        assert collect(registry).removed == []
        world.clock.now += UNUSED / 2
    assert is_there(registry, child, HERE)


@pytest.mark.parametrize("kind", ["local", "memory"])
def test_pulls_that_were_lost_keep_content_as_long_as_they_might(world: World, registry: Registry) -> None:
    tagged, bare = make_image("tagged").manifest, make_image("bare").manifest
    bring(registry, tagged, "v1")
    bring(registry, bare)
    registry.fold_waiting()
    world.clock.now += 2 * UNUSED
    rules: dict[str, Any] = {"lease": 0, "grace": GRACE, "undelete_window": 1000, "pull_interval": 0.0}
    lost = world.registry(url=world.another(), mirrored=frozenset({"docker.io"}), **rules)
    lost.repositories.touch(HERE)
    for _ in range(4):
        lost.pulls.flush()
        assert collect(lost).removed == []
        world.clock.now += UNUSED / 4 - GRACE
    world.clock.now += 5 * GRACE
    assert {each.kind for each in collect(lost).removed} == {Kind.TAG, Kind.MANIFEST}


@pytest.mark.parametrize("kind", ["memory"])
def test_a_pull_may_be_later_than_is_written_down(world: World) -> None:
    counting = world.registry(lease=0, grace=0, mirrored=frozenset({"docker.io"}), pull_interval=3600.0)
    counting.pulls.flush()
    used = make_image("used").manifest
    bring(counting, used)
    collect(counting, 60.0)
    world.clock.now += 3600
    assert collect(counting, 60.0).removed == [], "it may have been pulled a minute ago"
    world.clock.now += 100
    assert collect(counting, 60.0).digests == {used.digest}


def test_without_the_mirror_its_repositories_are_ordinary_ones(world: World, registry: Registry) -> None:
    left = make_image("left").manifest
    bring(registry, left)
    run(registry, untagged_after=DAY)
    world.clock.now += DAY + 1
    assert run(registry, untagged_after=DAY).digests == {left.digest}

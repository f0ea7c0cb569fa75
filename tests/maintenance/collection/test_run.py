"""Whole runs: what is out of use goes when its times have passed, and nothing else does."""

from __future__ import annotations

import hashlib
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import create_engine, inspect, text

from registry.database.collection import trash
from registry.images.layout import TRASH
from registry.images.records.journal import PendingChange
from registry.images.registry import Registry
from registry.images.trash import manifest_deletion
from registry.maintenance.collection.finding import Kind
from registry.maintenance.collection.steps.expired_trash import ABANDONED
from registry.oci.digest import Digest
from registry.oci.errors import BlobUnknown, ManifestUnknown
from tests.support.collection import run, settle
from tests.support.failing_statement import failing
from tests.support.payloads import Manifest, index
from tests.support.registry_world import (
    ACTOR,
    NAME,
    REPLICAS,
    REPLICAS_KIND,
    Pushed,
    World,
    is_there,
    make_image,
    other,
    pull,
    pull_blob,
    push_blob,
    push_image,
    push_manifest,
    tags,
)

GRACE = 100.0
WINDOW = 1000.0


def stored(registry: Registry) -> dict[str, int]:
    """The bytes of every blob on storage, by key."""
    keys = registry.backends.driver.list("")
    return {key: stat.size for key, stat in keys if "blobs/sha256" in key}


def stored_bytes(registry: Registry) -> int:
    """Bytes of all blobs on storage, those with several names once."""
    driver = registry.backends.driver
    local = registry.backends.layout.per_repository
    stats = {key: driver.stat(key) for key in stored(registry)}
    return sum({stat.etag if local else key: stat.size for key, stat in stats.items()}.values())


def upload(registry: Registry) -> None:
    """Begin to upload a blob."""
    started = registry.uploads.start(NAME)
    with registry.uploads.open(NAME, started, 0) as addition:
        addition.write(b"a part")
        addition.commit()


def delete(registry: Registry, image: Pushed, name: str = NAME) -> None:
    registry.manifests.delete(name, image.digest, actor=ACTOR)
    registry.fold_waiting()


def test_what_is_in_use_stays_whatever_the_times(world: World, registry: Registry) -> None:
    push_image(registry, "one", "v1")
    before = stored(registry)
    for _ in range(3):
        assert run(registry, untagged_after=0.0).removed == []
        world.clock.now += WINDOW * 10
    assert stored(registry) == before
    pull(registry, "v1")


def test_a_blob_that_nothing_ever_named_goes_after_grace_and_not_before(world: World, registry: Registry) -> None:
    digest = push_blob(registry, b"never named")
    push_image(registry, "one", "v1")
    assert run(registry).removed == []
    world.clock.now += GRACE - 1
    report = run(registry)
    assert report.removed == []
    assert {each.digest for each in report.waiting} == {digest}
    assert pull_blob(registry, digest) == b"never named"
    world.clock.now += 2
    settle(registry)
    assert not any(digest.encoded in key for key in stored(registry))
    with pytest.raises(BlobUnknown):
        registry.blobs.find(NAME, digest)
    pull(registry, "v1")


def test_a_deleted_image_goes_when_it_can_be_restored_no_longer(world: World, registry: Registry) -> None:
    kept, gone = push_image(registry, "kept", "kept"), push_image(registry, "gone", "gone")
    delete(registry, gone)
    run(registry)
    world.clock.now += GRACE + 1
    settle(registry)
    assert {Digest.parse(blob.digest).encoded for blob in (gone.config, gone.layer)} <= {
        key.rpartition("/")[2] for key in stored(registry)
    }, "it can be restored"
    world.clock.now += WINDOW
    removed = settle(registry)
    names = {key.rpartition("/")[2] for key in stored(registry)}
    assert names == {Digest.parse(digest).encoded for digest in (kept.digest, kept.config.digest, kept.layer.digest)}
    freed = sum(each.bytes for each in removed)
    assert freed == len(gone.manifest.data) + len(gone.config.data) + len(gone.layer.data)
    pull(registry, "kept")


def test_what_was_restored_stays(world: World, registry: Registry) -> None:
    image = push_image(registry, "one", "v1")
    delete(registry, image)
    run(registry)
    world.clock.now += GRACE + 1
    settle(registry)
    registry.restoration.last(NAME, actor=ACTOR)
    registry.fold_waiting()
    world.clock.now += WINDOW * 2
    settle(registry)
    pull(registry, "v1")


def test_a_use_that_began_and_ended_between_two_runs_starts_the_time_anew(world: World, registry: Registry) -> None:
    image = make_image("one")
    for blob in (image.config, image.layer):
        push_blob(registry, blob.data)
    run(registry)
    world.clock.now += GRACE - 1
    push_manifest(registry, image.manifest, "v1")
    registry.manifests.delete(NAME, image.digest, actor=ACTOR)
    registry.fold_waiting()
    world.clock.now += 2
    assert run(registry).removed == []
    registry.blobs.find(NAME, Digest.parse(image.layer.digest))


@pytest.mark.parametrize("untagged_after", [None, 500.0])
def test_untagged_manifests_stay_until_they_are_asked_for(
    world: World, registry: Registry, untagged_after: float | None
) -> None:
    image = push_image(registry, "one", "v1")
    push_image(registry, "two", "v1")
    run(registry, untagged_after=untagged_after)
    world.clock.now += 499
    run(registry, untagged_after=untagged_after)
    assert is_there(registry, image.manifest)
    world.clock.now += 2
    report = run(registry, untagged_after=untagged_after)
    assert is_there(registry, image.manifest) == (untagged_after is None)
    if untagged_after is None:
        assert sum(report.ledger.kept.values()) == 1
    else:
        assert [each.kind for each in report.removed] == [Kind.MANIFEST]
        registry.restoration.manifest(NAME, image.digest, actor=ACTOR)
        assert is_there(registry, image.manifest)
    pull(registry, "v1")


def test_an_index_goes_with_its_children_and_what_is_attached_in_one_batch(world: World, registry: Registry) -> None:
    """Check 8 of lifecycle.md, section 7."""
    children = [push_image(registry, text) for text in ("arm", "intel")]
    shared = push_image(registry, "shared", "shared")
    top = index([*(child.manifest for child in children), shared.manifest])
    signature = push_image(registry, "signature", subject=children[0].manifest)
    world.clock.now += 499
    run(registry, untagged_after=500.0)
    push_manifest(registry, top, "multi")
    world.clock.now += 499
    run(registry, untagged_after=500.0)
    assert all(is_there(registry, each.manifest) for each in (*children, signature))
    registry.manifests.untag(NAME, "multi", actor=ACTOR)
    registry.fold_waiting()
    run(registry, untagged_after=500.0)
    world.clock.now += 501
    dry = run(registry, untagged_after=500.0, dry=True)
    report = run(registry, untagged_after=500.0)
    gone = {top.digest, *(each.manifest.digest for each in (*children, signature))}
    assert report.digests == dry.digests == gone
    assert not any(is_there(registry, each.manifest) for each in (*children, signature))
    assert is_there(registry, shared.manifest)
    registry.fold_waiting()
    registry.restoration.last(NAME, actor=ACTOR)
    assert all(is_there(registry, each.manifest) for each in (*children, signature))


def _out_of_use(world: World, registry: Registry, count: int) -> tuple[Manifest, list[Manifest]]:
    """An image that has lost its tag long ago, and its referrers, of which each second one has a signature."""
    image = push_image(registry, "image", "v1").manifest
    attached = []
    for number in range(count):
        attached.append(push_image(registry, f"sbom {number}", subject=image).manifest)
        if number % 2:
            attached.append(push_image(registry, f"signature {number}", subject=attached[-1]).manifest)
    registry.manifests.untag(NAME, "v1", actor=ACTOR)
    run(registry, untagged_after=500.0)
    world.clock.now += 501
    return image, attached


def test_many_attachments_of_what_is_out_of_use_go_some_at_a_time(
    world: World, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifest_deletion, "AT_ONCE", 3)
    image, attached = _out_of_use(world, registry, 8)
    dry = run(registry, untagged_after=500.0, dry=True)
    report = run(registry, untagged_after=500.0)
    assert report.digests == dry.digests == {image.digest, *(each.digest for each in attached)}
    assert not any(is_there(registry, each) for each in (image, *attached))
    registry.fold_waiting()
    assert len(registry.restoration.last(NAME, actor=ACTOR)) == len(attached) + 1, "one batch"


def _large_index(world: World, registry: Registry, count: int) -> tuple[Manifest, list[Manifest], list[Manifest]]:
    """An index that is out of use, with as many children, in one of which there are two more, and three signatures."""
    children = [push_image(registry, f"child {number}").manifest for number in range(count)]
    inner = index([push_image(registry, f"inner {number}").manifest for number in range(2)])
    push_manifest(registry, inner)
    top = index([inner, *children])
    push_manifest(registry, top)
    signatures = [push_image(registry, f"s {number}", subject=children[number]).manifest for number in range(2)]
    signatures.append(push_image(registry, "s", subject=top).manifest)
    run(registry, untagged_after=500.0)
    world.clock.now += 501
    return top, [inner, *children], signatures


def test_what_a_large_index_lists_goes_after_it_some_at_a_time(
    world: World, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifest_deletion, "AT_ONCE", 3)
    kept = push_image(registry, "kept", "v1")
    top, children, signatures = _large_index(world, registry, 6)
    largest: list[int] = []
    remove_all = manifest_deletion.ManifestDeletion._remove_all

    def counted(self: Any, *values: Any) -> Any:
        allotted = remove_all(self, *values)
        largest.append(len(allotted))
        return allotted

    monkeypatch.setattr(manifest_deletion.ManifestDeletion, "_remove_all", counted)
    dry = run(registry, untagged_after=500.0, dry=True)
    report = run(registry, untagged_after=500.0)
    assert report.digests == dry.digests
    assert {top.digest, *(each.digest for each in (*children, *signatures))} < report.digests
    assert max(largest) <= 3
    assert not any(is_there(registry, each) for each in (top, *children, *signatures))
    assert pull(registry, "v1") == kept.digest
    registry.fold_waiting()
    assert len(registry.restoration.last(NAME, actor=ACTOR)) == len(report.digests), "one batch"
    assert all(is_there(registry, each) for each in (top, *children, *signatures))


def run_until_killed(registry: Registry, monkeypatch: pytest.MonkeyPatch, *, records: int) -> None:
    """A run that takes untagged manifests, and dies once it has written so many records."""
    publication = registry.manifests.deletion._publication
    record, recorded = publication.record, list[PendingChange]()

    def die(change: PendingChange) -> None:
        record(change)
        recorded.append(change)
        if len(recorded) == records:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(publication, "record", die)
        with pytest.raises(KeyboardInterrupt):
            run(registry, untagged_after=500.0)


@pytest.mark.parametrize("killed_after", [3, 6])
def test_killed_while_what_is_attached_goes_the_next_run_goes_on_with_the_batch(
    world: World, registry: Registry, monkeypatch: pytest.MonkeyPatch, killed_after: int
) -> None:
    """A restore of the image left in the trash what the first run had deleted."""
    monkeypatch.setattr(manifest_deletion, "AT_ONCE", 3)
    image = push_image(registry, "image")
    attached = [push_image(registry, f"s {number}", subject=image.manifest) for number in range(8)]
    run(registry, untagged_after=500.0)
    world.clock.now += 501
    run_until_killed(other(registry), monkeypatch, records=killed_after)
    again = other(registry)
    assert is_there(again, image.manifest)
    run(again, untagged_after=500.0)
    assert not any(is_there(again, each.manifest) for each in (image, *attached))
    again.restoration.manifest(NAME, image.digest, actor=ACTOR)
    assert all(is_there(again, each.manifest) for each in (image, *attached))


@pytest.mark.parametrize(("most", "killed_after", "purged"), [(3, 9, 1), (6, 7, 0)], ids=["child", "index"])
def test_a_purge_after_a_killed_collection_takes_nothing_else_of_the_closure(
    world: World, registry: Registry, monkeypatch: pytest.MonkeyPatch, most: int, killed_after: int, purged: int
) -> None:
    """The batch that it goes on with had the index, and signatures of another image, which went for good."""
    monkeypatch.setattr(manifest_deletion, "AT_ONCE", most)
    children = [push_image(registry, f"child {number}").manifest for number in range(4)]
    top = index(children)
    push_manifest(registry, top)
    signatures = [
        [push_image(registry, f"s {number} of {child}", subject=children[child]).manifest for number in range(5)]
        for child in range(4)
    ]
    run(registry, untagged_after=500.0)
    world.clock.now += 501
    run_until_killed(other(registry), monkeypatch, records=killed_after)
    again = other(registry)
    everything = [top, *children, *(each for several in signatures for each in several)]
    there = [each for each in everything if is_there(again, each)]
    with again.backends.database.autocommit() as connection:
        row = again.repositories.require(NAME)
        begun = [each for each in there if trash.begun(connection, row.id, each.digest).get() is not None]
    assert begun, [everything.index(each) for each in there]
    assert (begun[0] is top) is not bool(purged)
    gone = [each for each in everything if each not in there and each is not top]  # that names what is purged
    previewed = again.purge.preview(NAME, Digest(begun[0].digest), unknown=lambda: None)
    done = again.purge.run(NAME, Digest(begun[0].digest), actor=ACTOR, unknown=lambda: None)
    assert sorted(previewed.manifests) == sorted(done.manifests)
    assert not {each.digest for each in gone} & set(done.manifests)
    again.restoration.manifest(NAME, Digest(gone[0].digest), actor=ACTOR)
    assert is_there(again, gone[0])


@pytest.mark.parametrize("killed_after", [1, 3, 6])
def test_killed_while_what_a_large_index_lists_goes_later_runs_take_the_rest(
    world: World, registry: Registry, monkeypatch: pytest.MonkeyPatch, killed_after: int
) -> None:
    monkeypatch.setattr(manifest_deletion, "AT_ONCE", 3)
    top, children, signatures = _large_index(world, registry, 6)
    dying = other(registry)
    publication = dying.manifests.deletion._publication
    record, recorded = publication.record, list[PendingChange]()

    def die(change: PendingChange) -> None:
        record(change)
        recorded.append(change)
        if len(recorded) == killed_after:
            raise KeyboardInterrupt

    monkeypatch.setattr(publication, "record", die)
    with pytest.raises(KeyboardInterrupt):
        run(dying, untagged_after=500.0)
    again = other(registry)
    left = [each for each in (*children, *signatures) if is_there(again, each)]
    assert left
    if is_there(again, top):
        assert all(is_there(again, each) for each in children), "no index lists what is gone"
    for _ in range(2):
        run(again, untagged_after=500.0)
        world.clock.now += 501
    run(again, untagged_after=500.0)
    assert not any(is_there(again, each) for each in (top, *children, *signatures))


def test_what_is_used_again_while_a_large_index_goes_stays(
    world: World, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifest_deletion, "AT_ONCE", 3)
    top, children, _ = _large_index(world, registry, 6)
    publication = other(registry).manifests.deletion._publication
    record = publication.record

    def use_two(change: PendingChange) -> None:
        record(change)
        if f'"{top.digest}"'.encode() in change.line:
            monkeypatch.setattr(publication, "record", record)
            push_manifest(registry, children[-1], "again")
            push_manifest(registry, index([children[-2]]), "all")

    monkeypatch.setattr(publication, "record", use_two)
    report = run(registry, untagged_after=500.0)
    assert top.digest in report.digests
    assert [is_there(registry, each) for each in children] == [False] * 5 + [True, True]
    assert pull(registry, "again") == children[-1].digest


def test_an_attachment_that_is_pulled_while_others_go_stays_with_its_image(
    world: World, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifest_deletion, "AT_ONCE", 3)
    image, attached = _out_of_use(world, registry, 8)
    publication = other(registry).manifests.deletion._publication
    record = publication.record

    def pull_all(change: PendingChange) -> None:
        record(change)
        for each in attached:
            registry.pulls.note(registry.pulls.pulled(NAME, each.digest))
        registry.pulls.flush()

    monkeypatch.setattr(publication, "record", pull_all)
    report = run(registry, untagged_after=500.0)
    assert len(report.digests) == 3
    assert is_there(registry, image)
    assert sum(is_there(registry, each) for each in attached) == len(attached) - 3


def test_what_is_used_again_while_its_attachments_go_stays(
    world: World, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifest_deletion, "AT_ONCE", 3)
    image, attached = _out_of_use(world, registry, 8)
    publication = other(registry).manifests.deletion._publication
    record = publication.record

    def tag_it(change: PendingChange) -> None:
        record(change)
        monkeypatch.setattr(publication, "record", record)
        push_manifest(registry, image, "again")

    monkeypatch.setattr(publication, "record", tag_it)
    report = run(registry, untagged_after=500.0)
    assert is_there(registry, image)
    assert len(report.digests) == 3
    assert sum(is_there(registry, each) for each in attached) == len(attached) - 3
    assert len(registry.restoration.last(NAME, actor=ACTOR)) == 3


def _statements_of_a_closure(registry: Registry, count: int) -> int:
    """How many it takes to find what goes with an index: lists within lists, beside children that another keeps."""
    kept = [push_image(registry, f"kept {number} of {count}").manifest for number in range(count)]
    push_manifest(registry, index(kept), f"kept-{count}")
    made = [push_image(registry, f"last of {count}").manifest]
    for number in range(count):
        made.append(index(made[-1:], annotations={"number": str(number)}))
        push_manifest(registry, made[-1])
    top = push_manifest(registry, index([*kept, made[-1]]))
    repository = registry.repositories.require(NAME)
    with failing(0) as statements, registry.backends.database.snapshot() as connection:
        found = registry.manifests.deletion.closure(connection, repository, top, lambda _row: True)
    assert {each.digest for each in found} == {top, *(each.digest for each in made)}
    return statements[0]


def test_the_work_of_a_collection_grows_as_what_goes_and_no_faster(registry: Registry) -> None:
    assert _statements_of_a_closure(registry, 24) < 4 * _statements_of_a_closure(registry, 8)


def test_what_stays_is_looked_at_once(world: World, registry: Registry) -> None:
    """Referrers with tags of their own; the second look is one under a lock, for which each push waits."""
    found = []
    for count in (5, 25):
        image = push_image(registry, f"image {count}").manifest
        kept = [push_image(registry, f"{n} of {count}", f"mine-{count}-{n}", subject=image) for n in range(count)]
        run(registry, untagged_after=500.0)
        world.clock.now += 501
        with failing(0) as statements:
            removed = run(registry, untagged_after=500.0).removed
        assert [each.digest for each in removed if each.kind is Kind.MANIFEST] == [image.digest]
        assert all(is_there(registry, each.manifest) for each in kept)
        found.append(statements[0])
    assert found[1] - found[0] < 20 * 9


def test_what_others_need_goes_with_the_last_of_them(world: World, registry: Registry) -> None:
    """A child is listed by an index and by an index of that; a referrer is listed before its subject goes."""
    child = push_image(registry, "child").manifest
    inner = index([child])
    push_manifest(registry, inner)
    listed = push_image(registry, "listed", subject=inner).manifest
    top = index([child, listed, inner])
    push_manifest(registry, top, "v1")
    registry.manifests.untag(NAME, "v1", actor=ACTOR)
    registry.fold_waiting()
    run(registry, untagged_after=500.0)
    world.clock.now += 501
    assert run(registry, untagged_after=500.0).digests == {each.digest for each in (child, inner, listed, top)}


def test_a_dry_run_changes_nothing_and_the_run_does_what_it_said(world: World, registry: Registry) -> None:
    """Check 11 of lifecycle.md, section 7."""
    images = [push_image(registry, f"image {number}", f"v{number}") for number in range(4)]
    push_image(registry, "image 0", "other", name="team/other")
    push_blob(registry, b"unnamed")
    push_image(registry, "replaced", "v9")
    push_image(registry, "replacing", "v9")
    upload(registry)
    for image in images[:3]:
        delete(registry, image)
        world.clock.now += WINDOW * 0.4
        for _ in range(3):
            before, dry = _hash(world, registry), run(registry, dry=True, untagged_after=50.0)
            assert _hash(world, registry) == before
            bytes_before = stored_bytes(registry)
            real = run(registry, untagged_after=50.0)
            assert dry.removed == real.removed
            other(registry).fold_waiting()
            assert bytes_before - stored_bytes(registry) == sum(each.bytes for each in real.removed)
            world.clock.now += GRACE + 1


def _hash(world: World, registry: Registry) -> str:
    """Of all that is on storage and in the database."""
    found = hashlib.sha256()
    for key, stat in registry.backends.driver.list(""):
        found.update(f"{key} {stat.etag}".encode())
    engine = create_engine(world.url)
    with engine.connect() as connection:
        for table in sorted(inspect(connection).get_table_names("public" if world.kind == REPLICAS else None)):
            rows = connection.execute(text(f'SELECT * FROM "{table}"'))  # noqa: S608 - a name of ours
            for row in sorted(map(repr, rows)):
                found.update(row.encode())
    engine.dispose()
    return found.hexdigest()


@pytest.mark.parametrize(
    "protect",
    [
        lambda registry, digest: registry.blobs.find(NAME, digest),
        lambda registry, _digest: upload(registry),
    ],
    ids=["HEAD", "upload"],
)
def test_what_a_client_may_build_upon_stays(
    world: World, registry: Registry, protect: Callable[[Registry, Digest], object]
) -> None:
    """Check 6 of lifecycle.md, section 7, for one collection."""
    digest = push_blob(registry, b"a layer")
    run(registry)
    world.clock.now += GRACE * 2
    pushing = world.registry(lease=50, grace=100, undelete_window=1000)
    protect(pushing, digest)
    world.clock.now += 40
    run(pushing)
    run(pushing)
    assert pull_blob(pushing, digest) == b"a layer"


def test_a_blob_of_two_repositories_goes_with_the_last(world: World, registry: Registry) -> None:
    """Check 15 of lifecycle.md, section 7."""
    first = push_image(registry, "shared", "v1")
    push_image(registry, "shared", "v1", name="team/other")
    digest = Digest.parse(first.layer.digest)
    delete(registry, first)
    run(registry)
    world.clock.now += WINDOW + GRACE
    settle(registry)
    with pytest.raises(BlobUnknown):
        registry.blobs.find(NAME, digest)
    pull(registry, "v1", "team/other")
    delete(registry, first, "team/other")
    run(registry, redirect_expiry=200.0)
    world.clock.now += GRACE + 1
    run(registry, redirect_expiry=200.0)
    assert any(digest.encoded in key for key in stored(registry)), "it can be restored"
    world.clock.now += WINDOW
    settle(registry, redirect_expiry=200.0)
    assert not any(digest.encoded in key for key in stored(registry))


@pytest.mark.parametrize("kind", [REPLICAS_KIND])
def test_an_address_that_a_client_was_given_is_good_until_it_expires(world: World, registry: Registry) -> None:
    """Check 15 of lifecycle.md, section 7, for redirects."""
    driver, digest = registry.backends.driver, push_blob(registry, b"read elsewhere")
    run(registry)
    world.clock.now += GRACE + 1
    key = registry.blobs.open(NAME, digest).key
    address = driver.presign(key, seconds=60)
    for _ in range(3):  # the membership goes at once
        run(registry, redirect_expiry=60.0)
    with pytest.raises(BlobUnknown):
        registry.blobs.find(NAME, digest)
    with urllib.request.urlopen(address) as answer:  # noqa: S310 - of a server of ours
        assert answer.read() == b"read elsewhere"
    world.clock.now += 59
    assert run(registry, redirect_expiry=60.0).removed == []
    world.clock.now += 2
    assert [each.digest for each in run(registry, redirect_expiry=60.0).removed] == [digest]
    with pytest.raises(urllib.error.HTTPError):
        urllib.request.urlopen(address)  # noqa: S310 - as above


def test_a_repository_that_is_not_known_in_full_keeps_what_it_might_name(world: World, registry: Registry) -> None:
    """Check 14 of lifecycle.md, section 7, as far as a run goes."""
    for name in (NAME, "team/other"):
        push_blob(registry, f"of {name}".encode(), name)
    run(registry)
    world.clock.now += GRACE + 1
    unsafe = {NAME: "it cannot be read"}
    report = run(registry, unsafe=unsafe)
    assert [each.repository for each in report.removed] == ["team/other"]
    world.clock.now += GRACE + 1
    for _ in range(2):
        report = run(registry, unsafe=unsafe)
    registry.blobs.find(NAME, Digest.of(f"of {NAME}".encode(), "sha256"))
    if not registry.backends.layout.per_repository:
        assert len(stored(registry)) == 2, "no bytes that are shared go"
    settle(registry)
    assert stored(registry) == {}


def test_a_pinned_digest_that_is_pulled_stays(world: World, registry: Registry) -> None:
    """Check 10 of lifecycle.md, section 7."""
    image = push_image(registry, "one", "v1")
    push_image(registry, "two", "v1")
    run(registry, untagged_after=500.0)
    for _ in range(4):
        world.clock.now += 400
        registry.pulls.note(registry.pulls.pulled(NAME, image.digest))
        registry.pulls.flush()
        run(registry, untagged_after=500.0)
        assert is_there(registry, image.manifest)
    world.clock.now += 499
    run(registry, untagged_after=500.0)
    assert is_there(registry, image.manifest)
    world.clock.now += 2
    run(registry, untagged_after=500.0)
    with pytest.raises(ManifestUnknown):
        registry.manifests.find(NAME, image.digest)


def test_pages_are_gone_through_to_the_end(world: World, registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("unheld_blobs", "unused_members", "sightings"):
        monkeypatch.setattr(f"registry.maintenance.collection.steps.{module}.PAGE", 2)
    monkeypatch.setattr("registry.maintenance.collection.steps.sightings.SCANNED", 3)
    for name in ("team/one", "team/three", "team/two"):
        push_image(registry, name, "kept", name=name)
        for number in range(5):
            push_blob(registry, f"{name} {number}".encode(), name)
    run(registry)
    world.clock.now += GRACE + 1
    removed = settle(registry)
    assert sum(each.bytes > 0 for each in removed) == 15
    for name in ("team/one", "team/three", "team/two"):
        pull(registry, "kept", name)


def test_a_manifest_waits_for_what_is_attached_to_it(world: World, registry: Registry) -> None:
    """A signature that was pushed or pulled later would keep its tag for good once its subject is gone."""
    image = push_image(registry, "image")
    tag = f"{image.digest.replace(':', '-')}.sig"
    signature = push_image(registry, "signature", tag)
    run(registry, untagged_after=GRACE)
    world.clock.now += GRACE + 1
    push_manifest(registry, signature.manifest, tag)
    assert run(registry, untagged_after=GRACE, dry=True).digests == set()
    assert run(registry, untagged_after=GRACE).digests == set()
    assert pull(registry, tag) == signature.digest
    world.clock.now += GRACE + 1
    expected = {str(image.digest), str(signature.digest)}
    assert run(registry, untagged_after=GRACE, dry=True).digests == expected
    assert run(registry, untagged_after=GRACE).digests == expected
    assert tags(registry) == []


@pytest.mark.parametrize("kind", ["local"])
def test_files_of_the_trash_without_rows_go(world: World, registry: Registry) -> None:
    """A process was killed between row and file, or the database was lost after the window; nothing else finds them."""
    image, second = push_image(registry, "one", "v1"), push_image(registry, "other", "v2")
    for each in (image, second):
        delete(registry, each)
    run(registry)
    world.clock.now += GRACE + 1
    settle(registry)
    trashed = [key for key in stored(registry) if key.startswith(TRASH)]
    assert len(trashed) == 6
    driver, layout = registry.backends.driver, registry.backends.layout
    kept = layout.trash(NAME, second.digest)
    driver.link(kept, layout.leaving_trash(NAME, second.digest))
    driver.delete([kept])
    driver.write(f"{TRASH}/notes.txt", b"an operator's")
    with registry.backends.database.transaction() as connection:
        row = trash.find(connection, registry.repositories.require(NAME).id, image.digest, after=0.0).get()
        assert row is not None
        assert trash.remove(connection, registry.repositories.require(NAME).id, row.blob_id, before=world.clock.now)
    before = stored_bytes(registry)
    said = run(registry, dry=True)
    report = run(registry)
    assert sorted(report.removed) == sorted(said.removed)
    assert {each.reason for each in report.removed if each.kind is Kind.TRASH} == {ABANDONED}
    assert sum(each.bytes for each in report.removed) == before - stored_bytes(registry) > 0
    assert {key for key in stored(registry) if key.startswith(TRASH)} == {
        layout.trash(NAME, Digest.parse(digest))
        for digest in (second.digest, second.config.digest, second.layer.digest)
    }
    assert driver.stat(f"{TRASH}/notes.txt")
    registry.restoration.last(NAME, actor=ACTOR)
    assert pull(registry, "v2") == second.digest

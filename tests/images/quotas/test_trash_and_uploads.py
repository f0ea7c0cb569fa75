"""Check 24: what a full quota has in its trash and in open uploads counts, and the oldest trash makes room."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from registry.database import repositories
from registry.database.collection import emptying, trash
from registry.database.transaction import Transaction
from registry.images.quotas import usage
from registry.images.registry import Registry
from registry.oci.digest import Digest
from registry.oci.errors import ManifestUnknown, QuotaExceeded
from registry.oci.quotas import Group
from registry.storage.middleware.faults import Fault, FaultyDriver
from tests.images.quotas.test_usage import ONE, OUT, TWO, bytes_of, has, known, quotas, used
from tests.maintenance.usage.conftest import SERVER, WORLDS
from tests.maintenance.usage.listings import on_storage
from tests.support.collecting import end_leases
from tests.support.payloads import Blob, image
from tests.support.registry_world import ACTOR, World, open_world, pull, push_blob, push_manifest, tags

LIMIT = 10_000


@pytest.fixture(params=WORLDS)
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    kind, database = request.param
    made = open_world(request, tmp_path, kind, postgresql=database == SERVER)
    yield made
    made.close()


@pytest.fixture
def registry(world: World) -> Registry:
    return world.registry(quotas=quotas(("team/**", LIMIT)))


def push(registry: Registry, size: int, tag: str, name: str = ONE) -> tuple[Digest, Digest]:
    """Push an image of so many bytes with its manifest: the digests of its manifest and of its layer."""
    config = Blob(os.urandom(10))
    layer = Blob(os.urandom(size - len(image(config, [Blob(os.urandom(1000))]).data) - len(config.data)))
    for blob in (config, layer):
        push_blob(registry, blob.data, name)
    digest = push_manifest(registry, image(config, [layer]), tag, name=name)
    return digest, Digest.parse(layer.digest)


def push_again(registry: Registry, data: bytes, name: str) -> None:
    """Push a blob as a client does that says at once what it will be."""
    upload = registry.uploads.start(name, digest=Digest.of(data))
    with registry.uploads.open(name, upload, 0, Digest.of(data), at_once=True) as writer:
        writer.write(data)
        registry.uploads.finish(writer, Digest.of(data))


def delete(registry: Registry, digest: Digest, name: str = ONE) -> None:
    registry.manifests.delete(name, digest, actor=ACTOR)
    registry.fold_waiting()


def fails(registry: Registry, size: int, name: str = ONE) -> bool:
    try:
        push_blob(registry, bytes_of(size), name)
    except QuotaExceeded:
        return True
    return False


def test_a_full_quota_serves_takes_what_is_there_and_lets_delete(world: World, registry: Registry) -> None:
    first, layer = push(registry, LIMIT - 10, "v1")
    push_blob(registry, bytes_of(LIMIT - used(registry)), TWO)
    assert used(registry) == LIMIT
    with pytest.raises(QuotaExceeded, match=rf"\({LIMIT} bytes\) of .*\({LIMIT} bytes\) are used"):
        registry.uploads.start(ONE)
    assert has(registry, ONE, layer)
    assert pull(registry, "v1", ONE) == first
    found = registry.manifests.find(ONE, first)
    registry.manifests.put(ONE, registry.manifests.read(found), found.media_type, digest=None, tags=["v2"], actor=ACTOR)
    assert tags(registry, ONE) == ["v1", "v2"]
    with registry.blobs.read(registry.blobs.open(ONE, layer)) as reader:
        push_again(registry, reader.read(LIMIT), TWO)
    registry.manifests.untag(ONE, "v2", actor=ACTOR)
    delete(registry, first)


def test_what_is_deleted_counts_until_it_is_needed_and_no_lease_keeps_it(world: World, registry: Registry) -> None:
    first, layer = push(registry, 8000, "v1")
    delete(registry, first)
    assert used(registry) == known(registry) == 8000
    assert fails(registry, 2010), "a push may be about to name it"
    assert used(registry) == 8000
    end_leases(registry)
    push_blob(registry, bytes_of(2010), TWO)
    assert used(registry) == known(registry) == 2010
    assert not has(registry, ONE, layer)
    with pytest.raises(ManifestUnknown):
        registry.restoration.manifest(ONE, first, actor=ACTOR)
    if world.kind == "local":
        assert on_storage(world, ONE, TWO) == 2010


def test_the_oldest_goes_first_and_no_more_than_is_needed(world: World, registry: Registry) -> None:
    made = []
    for number in range(4):
        made.append(push(registry, 2400, f"v{number}")[0])
        world.clock.now += 1
    for digest in (made[2], made[0], made[1]):
        delete(registry, digest)
        world.clock.now += 1
    end_leases(registry)
    push_blob(registry, bytes_of(2500), TWO)
    with pytest.raises(ManifestUnknown):
        registry.restoration.manifest(ONE, made[2], actor=ACTOR)
    for digest in made[:2]:
        assert registry.restoration.manifest(ONE, digest, actor=ACTOR)
    assert pull(registry, "v3", ONE) == made[3]


def test_room_for_much_is_made_page_by_page_after_one_look_at_all_of_the_trash(
    world: World, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usage, "OLDEST", 2)
    looks: list[int] = []
    evictable = emptying.evictable

    def looking(connection: Transaction, group: Group) -> int:
        looks.append(evictable(connection, group))
        return looks[-1]

    monkeypatch.setattr(emptying, "evictable", looking)
    made = [push(registry, 1200, f"v{number}", (ONE, TWO)[number % 2])[0] for number in range(8)]
    for number, digest in enumerate(made):
        delete(registry, digest, (ONE, TWO)[number % 2])
        world.clock.now += 1
    end_leases(registry)
    push_blob(registry, bytes_of(6000), TWO)
    assert len(looks) == 1
    assert LIMIT - 1200 < used(registry) <= LIMIT
    for number in (5, 6, 7):
        with registry.backends.database.autocommit() as connection:
            row = repositories.find(connection, (ONE, TWO)[number % 2]).get()
            assert row is not None
            assert trash.find(connection, row.id, made[number], after=0).get(), "the youngest stay"


def test_nothing_goes_where_all_of_it_would_not_make_enough_room(registry: Registry) -> None:
    first, _ = push(registry, 4000, "v1")
    push(registry, 5000, "v2")
    delete(registry, first)
    end_leases(registry)
    assert fails(registry, 6000)
    assert registry.restoration.manifest(ONE, first, actor=ACTOR)
    assert pull(registry, str(first), ONE) == first


def test_the_trash_of_another_quota_stays(registry: Registry) -> None:
    outside, _ = push(registry, 8000, "v1", OUT)
    delete(registry, outside, OUT)
    push(registry, 9000, "v1")
    end_leases(registry)
    assert fails(registry, 2000)
    assert registry.restoration.manifest(OUT, outside, actor=ACTOR)


def test_a_stream_goes_on_while_the_trash_makes_room(registry: Registry) -> None:
    first, _ = push(registry, 8000, "v1")
    delete(registry, first)
    end_leases(registry)
    upload = registry.uploads.start(TWO)
    with registry.uploads.open(TWO, upload, 0) as writer:
        for _ in range(10):
            writer.write(bytes_of(1000))
        registry.uploads.finish(writer, writer.digest("sha256"))
    assert used(registry) == LIMIT


def test_what_is_in_the_trash_is_pushed_again_without_room(registry: Registry) -> None:
    config, layer = Blob(b"{}"), Blob(os.urandom(6000))
    for blob in (config, layer):
        push_blob(registry, blob.data, ONE)
    manifest = image(config, [layer])
    push_manifest(registry, manifest, "v1", name=ONE)
    delete(registry, Digest.parse(manifest.digest))
    push_blob(registry, bytes_of(LIMIT - used(registry)), TWO)
    for blob in (config, layer):
        push_again(registry, blob.data, TWO)
    push_manifest(registry, manifest, "again", name=ONE)
    assert pull(registry, "again", ONE)
    assert used(registry) == known(registry) == LIMIT


def test_what_open_uploads_have_received_counts_but_for_each_itself(registry: Registry) -> None:
    uploads = [registry.uploads.start(ONE), registry.uploads.start(TWO)]
    for upload, name in zip(uploads, (ONE, TWO), strict=True):
        with registry.uploads.open(name, upload, 0) as writer:
            writer.write(bytes_of(4000))
            writer.commit()
    with pytest.raises(
        QuotaExceeded, match=r"\(8000 bytes\) of .* are used, .*\(8000 bytes\) by open uploads"
    ) as refused:
        push_blob(registry, bytes_of(2010), ONE)
    assert "'uploads': 8000" in str(refused.value.detail)
    with registry.uploads.open(ONE, uploads[0], 4000) as writer:
        writer.write(bytes_of(2000))
        with pytest.raises(QuotaExceeded, match=r"\(4000 bytes\) of .* are used"):
            writer.write(b"1")
        registry.uploads.finish(writer, writer.digest("sha256"))
    assert used(registry) == 6000
    registry.uploads.cancel(TWO, uploads[1])
    push_blob(registry, bytes_of(4000), TWO)


def test_uploads_outside_of_a_quota_do_not_count(registry: Registry) -> None:
    upload = registry.uploads.start(OUT)
    with registry.uploads.open(OUT, upload, 0) as writer:
        writer.write(bytes_of(50000))
        writer.commit()
    push_blob(registry, bytes_of(LIMIT), ONE)


def test_eight_uploads_at_once_overshoot_by_at_most_eight_blobs(world: World) -> None:
    processes = [world.registry(quotas=quotas(("team/**", LIMIT))) for _ in range(2)]
    size, start = 1500, Barrier(8)
    push_blob(processes[0], bytes_of(5000), ONE)

    def attempt(number: int) -> bool:
        start.wait()
        return fails(processes[number % 2], size, f"team/app{number}")

    with ThreadPoolExecutor(8) as pool:
        refused = list(pool.map(attempt, range(8)))
    assert used(processes[0]) <= LIMIT + 8 * size
    assert used(processes[0]) == 5000 + size * refused.count(False)
    assert refused.count(False) >= 3
    assert fails(processes[0], LIMIT)


def test_it_does_not_take_longer_than_a_push_may(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    first, _ = push(registry, 8000, "v1")
    delete(registry, first)
    end_leases(registry)
    monkeypatch.setattr(usage, "EVICTION_SECONDS", -1.0)
    assert fails(registry, 3000)
    assert registry.restoration.manifest(ONE, first, actor=ACTOR)


@pytest.mark.parametrize("operation", ["delete", "delete_once"])
def test_a_push_goes_on_where_files_of_the_trash_cannot_be_removed_yet(world: World, operation: str) -> None:
    driver = FaultyDriver(world.driver(), [Fault(operation, times=None)])
    registry = world.registry(quotas=quotas(("team/**", LIMIT)), driver=driver)
    first, layer = push(registry, 8000, "v1")
    registry.manifests.delete(ONE, first, actor=ACTOR)
    end_leases(registry)
    push_blob(registry, bytes_of(4000), TWO)
    assert used(registry) == 4000
    assert not has(registry, ONE, layer)


def test_two_processes_that_need_room_remove_no_more_than_both_need(world: World) -> None:
    processes = [world.registry(quotas=quotas(("team/**", LIMIT))) for _ in range(2)]
    made = [push(processes[0], 1200, f"v{number}")[0] for number in range(8)]
    for digest in made:
        delete(processes[0], digest)
        world.clock.now += 1
    end_leases(processes[0])
    start = Barrier(2)

    def attempt(number: int) -> bool:
        start.wait()
        return fails(processes[number], 1500, f"team/app{number}")

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(attempt, range(2))) == [False, False]
    assert used(processes[0]) <= LIMIT
    for digest in made[6:]:
        assert processes[0].restoration.manifest(ONE, digest, actor=ACTOR), "the youngest stay"

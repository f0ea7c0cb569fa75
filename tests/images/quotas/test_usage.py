"""Quotas: what does not fit is refused wherever it comes in, what is there passes, and two never fill one room."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import NoReturn

import pytest

from registry.config.access_sections import QuotaSettings
from registry.database.errors import DatabaseUnavailable
from registry.database.quotas import groups
from registry.database.quotas import usage as rows
from registry.images.publication.blob_placement import BlobPlacement
from registry.images.quotas import usage
from registry.images.quotas.usage import QuotaUsage
from registry.images.registry import Registry
from registry.oci.digest import Digest
from registry.oci.errors import BlobUnknown, BlobUploadUnknown, NameUnknown, QuotaExceeded
from registry.oci.quotas import Quotas
from tests.support.registry_world import ACTOR, World, make_image, push_blob, push_manifest

ONE, TWO, OUT = "team/one", "team/two", "other/one"
LIMIT = 1000


def quotas(*limits: tuple[str, int]) -> Quotas:
    return Quotas(QuotaSettings(repositories=(pattern,), bytes=limit) for pattern, limit in limits)


def bytes_of(size: int) -> bytes:
    """Bytes that no other call gives."""
    return os.urandom(size)


def used(registry: Registry, name: str = ONE) -> int:
    """What a new count finds."""
    (quota,) = registry.backends.policy.quotas.of(name)
    with registry.backends.database.snapshot() as connection:
        return groups.count(connection, quota.group).used


def known(registry: Registry, name: str = ONE) -> int:
    """What the row says."""
    (quota,) = registry.backends.policy.quotas.of(name)
    with registry.backends.database.autocommit() as connection:
        row = rows.find(connection, quota.key).get()
    assert row is not None
    return row.used


def has(registry: Registry, name: str, digest: Digest) -> bool:
    try:
        registry.blobs.find(name, digest)
    except (BlobUnknown, NameUnknown):
        return False
    return True


@pytest.fixture
def registry(world: World) -> Registry:
    return world.registry(quotas=quotas(("team/**", LIMIT)))


def test_blobs_of_all_repositories_of_a_quota_count_together(registry: Registry) -> None:
    push_blob(registry, bytes_of(600), ONE)
    push_blob(registry, bytes_of(5000), OUT)
    with pytest.raises(QuotaExceeded, match=r"quota of team/\*\* is nearly full: 600 bytes of 1000 bytes .* 401 bytes"):
        push_blob(registry, bytes_of(401), TWO)
    push_blob(registry, bytes_of(400), TWO)
    assert used(registry) == known(registry) == LIMIT


def test_what_is_refused_leaves_no_session_no_bytes_and_no_repository(world: World, registry: Registry) -> None:
    data = bytes_of(LIMIT + 1)
    digest = Digest.of(data)
    upload = registry.uploads.start(ONE)
    with registry.uploads.open(ONE, upload, 0, digest, at_once=True) as writer:
        writer.write(data)
        with pytest.raises(QuotaExceeded):
            registry.uploads.finish(writer, digest)
    with pytest.raises(BlobUploadUnknown):
        registry.uploads.find(ONE, upload)
    assert registry.uploads.count() == 0
    assert list(registry.backends.driver.uploads()) == []
    assert not has(registry, ONE, digest)
    assert registry.repositories.touch(ONE) is None
    if world.kind == "local":
        assert list(world.root.rglob(digest.partition(":")[2])) == []


def test_an_upload_to_a_full_quota_is_refused_before_it_begins(registry: Registry) -> None:
    data = bytes_of(LIMIT)
    push_blob(registry, data, ONE)
    with pytest.raises(QuotaExceeded, match="is full: 1000 bytes of 1000 bytes are used; delete"):
        registry.uploads.start(TWO)
    with pytest.raises(QuotaExceeded):
        registry.uploads.start(TWO, digest=Digest.of(b"another"))
    assert registry.uploads.count() == 0
    registry.uploads.cancel(TWO, registry.uploads.start(TWO, digest=Digest.of(data)))
    registry.uploads.cancel(OUT, registry.uploads.start(OUT))


def test_a_full_quota_takes_what_its_repositories_have(registry: Registry) -> None:
    made = make_image("a")
    for blob in (made.config, made.layer):
        push_blob(registry, blob.data, ONE)
    upload = registry.uploads.start(ONE)
    push_blob(registry, bytes_of(LIMIT - used(registry)), TWO)
    push_manifest(registry, made.manifest, "v1", "v2", name=ONE)
    with registry.uploads.open(ONE, upload, 0, Digest.parse(made.layer.digest)) as writer:
        writer.write(made.layer.data)
        registry.uploads.finish(writer, Digest.parse(made.layer.digest))
    for blob in (made.config, made.layer):
        assert registry.blobs.mount(TWO, Digest.parse(blob.digest), ONE)
    push_manifest(registry, made.manifest, "v1", name=TWO)
    assert used(registry) == known(registry) == LIMIT + len(made.manifest.data)
    assert registry.manifests.untag(TWO, "v1", actor=ACTOR)
    assert registry.manifests.delete(TWO, made.digest, actor=ACTOR)
    with pytest.raises(QuotaExceeded):
        registry.uploads.start(ONE)


def test_a_mount_from_outside_of_the_quota_counts_as_a_push(registry: Registry) -> None:
    fits, large = (push_blob(registry, bytes_of(size), OUT) for size in (LIMIT, LIMIT + 1))
    with pytest.raises(QuotaExceeded):
        registry.blobs.mount(ONE, large, OUT)
    assert registry.repositories.touch(ONE) is None
    assert registry.blobs.mount(ONE, fits, OUT)
    assert registry.blobs.mount(TWO, fits, OUT)
    assert used(registry) == known(registry) == LIMIT


def test_a_blob_that_is_pushed_again_counts_once(registry: Registry) -> None:
    data = bytes_of(700)
    for name in (ONE, ONE, TWO):
        push_blob(registry, data, name)
    assert used(registry) == known(registry) == 700


def test_what_is_deleted_makes_room_at_once(registry: Registry) -> None:
    data = bytes_of(LIMIT)
    digest = push_blob(registry, data, ONE)
    assert registry.blobs.mount(TWO, digest, ONE)
    registry.blobs.delete(ONE, digest)
    with pytest.raises(QuotaExceeded):
        registry.uploads.start(ONE)
    registry.blobs.delete(TWO, digest)
    push_blob(registry, bytes_of(LIMIT), ONE)


@pytest.mark.parametrize("name", [ONE, TWO])
def test_each_of_several_quotas_holds(world: World, name: str) -> None:
    registry = world.registry(quotas=quotas(("team/**", 1000), ("**/one", 500), ("**", 2000)))
    push_blob(registry, bytes_of(1200), "other/app")
    limit = {ONE: 500, TWO: 800}[name]
    with pytest.raises(QuotaExceeded):
        push_blob(registry, bytes_of(limit + 1), name)
    push_blob(registry, bytes_of(limit), name)


def test_of_pushes_by_two_processes_as_many_pass_as_fit(world: World) -> None:
    processes = [world.registry(quotas=quotas(("team/**", LIMIT), ("**", 5 * LIMIT))) for _ in range(2)]
    start = Barrier(6)

    def attempt(number: int) -> bool:
        process, name = processes[number % 2], f"team/app{number % 3}"
        start.wait()
        try:
            push_blob(process, bytes_of(LIMIT // 2), name)
        except QuotaExceeded:
            return False
        return True

    with ThreadPoolExecutor(6) as pool:
        passed = list(pool.map(attempt, range(6)))
    assert passed.count(True) == 2
    assert used_of(processes[0], "team/**") == LIMIT


def used_of(registry: Registry, pattern: str) -> int:
    (quota,) = (each for each in registry.backends.policy.quotas.of(ONE) if each.patterns == (pattern,))
    with registry.backends.database.snapshot() as connection:
        return groups.count(connection, quota.group).used


def test_of_a_blob_that_another_was_faster_than_no_bytes_stay_in_the_repository(
    world: World, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    other, data = world.registry(quotas=registry.backends.policy.quotas), bytes_of(600)
    place = BlobPlacement.put

    def slow(self: BlobPlacement, *given: object) -> object:
        placed = place(self, *given)  # type: ignore[arg-type]
        if self is registry.blob_publication._placement:
            push_blob(other, bytes_of(600), TWO)
        return placed

    monkeypatch.setattr(BlobPlacement, "put", slow)
    with pytest.raises(QuotaExceeded):
        push_blob(registry, data, ONE)
    digest = Digest.of(data)
    assert not has(registry, ONE, digest)
    assert registry.uploads.count() == 0
    if world.kind == "local":
        assert list(world.root.rglob(digest.partition(":")[2])) == []
    push_blob(other, data, OUT)
    assert has(other, OUT, digest)
    assert used(registry) == 600


def test_a_blob_that_was_refused_late_is_taken_once_there_is_room(
    world: World, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = bytes_of(600)
    first = push_blob(registry, bytes_of(600), TWO)
    with monkeypatch.context() as patched:
        asked: list[object] = []

        def once(self: QuotaUsage, *given: object, session: str = "") -> None:
            asked.append(given)
            if len(asked) > 2:  # when it began, and before it was placed
                require(self, *given, session=session)  # type: ignore[arg-type]

        require = QuotaUsage.require
        patched.setattr(QuotaUsage, "require", once)
        with pytest.raises(QuotaExceeded):
            push_blob(registry, data, ONE)
    registry.blobs.delete(TWO, first)
    digest = push_blob(registry, data, ONE)
    assert world.registry().blobs.find(ONE, digest).size == 600


def test_a_stream_stops_where_there_is_no_more_room(registry: Registry) -> None:
    for _ in range(2):
        push_blob(registry, bytes_of(300), TWO)
    upload = registry.uploads.start(ONE)
    with registry.uploads.open(ONE, upload, 0) as writer:
        writer.write(bytes_of(300))
        writer.write(bytes_of(100))
        with pytest.raises(QuotaExceeded, match="401 bytes more do not fit"):
            writer.write(b"1")
        writer.commit()
    assert registry.uploads.find(ONE, upload).offset == 400
    registry.uploads.cancel(ONE, upload)


def test_a_stream_goes_on_where_room_was_made_meanwhile(registry: Registry) -> None:
    first = push_blob(registry, bytes_of(900), TWO)
    upload = registry.uploads.start(ONE)
    with registry.uploads.open(ONE, upload, 0) as writer:
        registry.blobs.delete(TWO, first)
        writer.write(bytes_of(1000))
        registry.uploads.finish(writer, writer.digest("sha256"))
    assert used(registry) == LIMIT


@pytest.mark.parametrize("kind", ["local"])
def test_what_another_tool_placed_is_served_and_counts_later(world: World, registry: Registry) -> None:
    push_blob(registry, bytes_of(LIMIT), TWO)
    push_blob(world.registry(), b"makes the repository", ONE)
    data = bytes_of(50)
    digest = Digest.of(data)
    (world.root / ONE / "blobs/sha256" / digest.partition(":")[2]).write_bytes(data)
    assert has(registry, ONE, digest)
    assert known(registry) == LIMIT + 50


def test_what_came_by_no_push_is_counted_once_in_a_while(world: World, registry: Registry) -> None:
    push_blob(registry, bytes_of(100), ONE)
    push_blob(world.registry(), bytes_of(850), TWO)
    push_blob(registry, bytes_of(1), ONE)
    assert (known(registry), used(registry)) == (101, 951)
    world.clock.now += usage.COUNT_SECONDS * 1000
    push_blob(registry, bytes_of(1), ONE)
    assert known(registry) == used(registry) == 952
    with pytest.raises(QuotaExceeded):
        push_blob(registry, bytes_of(49), ONE)


@pytest.mark.parametrize("kind", ["memory"])
def test_a_count_that_fails_refuses_nothing_for_which_there_is_room(
    world: World, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> NoReturn:
        raise DatabaseUnavailable("it takes too long")

    push_blob(registry, bytes_of(100), ONE)
    monkeypatch.setattr(groups, "count", fail)
    world.clock.now += usage.COUNT_SECONDS * 1000
    push_blob(registry, bytes_of(100), ONE)
    with pytest.raises(DatabaseUnavailable):
        push_blob(registry, bytes_of(LIMIT), ONE)


def test_a_quota_below_what_is_there_takes_nothing_away(world: World) -> None:
    before = world.registry()
    digest = push_blob(before, bytes_of(LIMIT), ONE)
    registry = world.registry(quotas=quotas(("team/**", 10)))
    assert has(registry, ONE, digest)
    assert registry.blobs.mount(TWO, digest, ONE)
    with pytest.raises(QuotaExceeded, match="1000 bytes of 10 bytes"):
        registry.uploads.start(ONE)


@pytest.mark.parametrize("kind", ["memory"])
@pytest.mark.parametrize("limits", [[], [("other/**", 1)]])
def test_a_push_under_no_quota_asks_for_none(
    world: World, monkeypatch: pytest.MonkeyPatch, limits: list[tuple[str, int]]
) -> None:
    registry = world.registry(quotas=quotas(*limits))
    for module, names in ((rows, ("find", "add", "note", "take_turn")), (groups, ("is_held", "count"))):
        for name in names:
            monkeypatch.setattr(module, name, None)
    made = make_image("b")
    for blob in (made.config, made.layer):
        digest = push_blob(registry, blob.data, ONE)
        assert registry.blobs.mount(TWO, digest, ONE)
    push_manifest(registry, made.manifest, "v1", name=ONE)


@pytest.mark.parametrize("kind", ["memory"])
def test_pushes_that_wait_for_a_count_share_the_next_one(
    world: World, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    push_blob(registry, bytes_of(LIMIT), ONE)
    counted, count, start = [], groups.count, Barrier(8)

    def slow(*given: object) -> groups.Counted:
        counted.append(given)
        world.clock.now += 1
        return count(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(groups, "count", slow)

    def attempt(_: int) -> None:
        start.wait()
        with pytest.raises(QuotaExceeded):
            registry.uploads.start(ONE)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(attempt, range(8)))
    assert 1 <= len(counted) <= 8

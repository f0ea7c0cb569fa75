"""The deletion protocol (proposal 0011): an acknowledged push stays, whatever clocks, stores and deleters do."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from registry.database import blob_locations, blobs
from registry.database.statement import Statement
from registry.database.transaction import Later, Transaction
from registry.images.blob_deletion import Claim
from registry.images.publication import blob_publication
from registry.images.publication.blob_publication import BlobPublication
from registry.images.registry import Registry
from registry.oci.digest import Digest
from registry.oci.errors import BlobUnknown, Unavailable
from registry.storage.driver import StorageDriver
from registry.storage.errors import (
    NotSent,
    PathNotFound,
    PreconditionFailed,
    StorageError,
    StorageUnavailable,
    StoreMisconfigured,
    Throttled,
)
from registry.storage.middleware.faults import Fault, FaultyDriver, When
from tests.support.postgresql import Cluster
from tests.support.registry_world import NAME, PROMPT, REPLICAS_KIND, World, pull_blob, push_blob

DATA = b"contested"
DIGEST = Digest.of(DATA)
OTHER = "other/app"
PUSHED, REFUSED = "201", "503"

shared = pytest.mark.parametrize("kind", ["memory", PROMPT])
late = pytest.mark.parametrize("kind", ["memory"])
on_one_machine = pytest.mark.parametrize("kind", ["memory", PROMPT, "local"])
with_all = pytest.mark.parametrize("kind", ["memory", PROMPT, "local", REPLICAS_KIND])


class Killed(BaseException):
    """The process ends."""


def die() -> None:
    raise Killed


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A publisher that has to wait gives up soon: time stands still here."""
    monkeypatch.setattr(blob_publication, "ATTEMPTS", 3)
    monkeypatch.setattr(blob_publication, "POLL", 0.0)


def faulty(
    world: World, operation: str, effect: StorageError | Callable[[], None], moment: When = When.BEFORE
) -> Registry:
    """A process for which something happens at its first operation of a kind."""
    fault = Fault(operation=operation, moment=moment, effect=effect)
    return world.registry(driver=FaultyDriver(world.driver(), [fault]))


def key_of(registry: Registry) -> str:
    return registry.backends.layout.blob(NAME, DIGEST)


def leave(registry: Registry) -> None:
    """Push the blob, and end its membership as a collector does, which is to delete the bytes."""
    push_blob(registry, DATA)
    with registry.backends.database.transaction() as connection:
        connection.execute(Statement("DELETE FROM membership"), {})


def claimed(registry: Registry) -> Claim:
    with registry.backends.database.transaction() as connection:
        row = blobs.lock(connection, DIGEST).get()
        assert row is not None
        claim = registry.blob_deletion.claim(connection, row.id, key_of(registry))
    assert claim is not None
    return claim


def collect(registry: Registry) -> bool:
    return registry.blob_deletion.delete(claimed(registry))


def push(world: World) -> str:
    """Push the blob through another process, as a client sees it."""
    try:
        push_blob(world.registry(), DATA)
    except Unavailable:
        return REFUSED
    return PUSHED


def is_there(driver: StorageDriver, key: str) -> bool:
    try:
        driver.stat(key)
    except PathNotFound:
        return False
    return True


def readable(world: World) -> bool:
    registry = world.registry()
    return is_there(registry.backends.driver, key_of(registry)) and pull_blob(registry, DIGEST) == DATA


def row_of(registry: Registry) -> blobs.BlobRow | None:
    with registry.backends.database.snapshot() as connection:
        return blobs.find(connection, DIGEST).get()


# ---- clocks


@with_all
@pytest.mark.parametrize("skew", [0, -20, -45, -70, -90, 90])
def test_a_push_during_a_delete_is_refused_whatever_the_clocks_say(world: World, skew: int) -> None:
    """Check 1. By 70 seconds and more the deleter's claim would have been over for the publisher."""
    leave(world.registry())
    seen: list[str] = []

    def push_now() -> None:
        seen.append(push(world))

    driver = FaultyDriver(world.driver(), [Fault(operation="delete_once", effect=push_now)])
    assert collect(world.registry(driver=driver, clocks=world.clocks(skew=skew)))
    assert seen == [REFUSED]
    assert push(world) == PUSHED
    assert readable(world)


@with_all
@pytest.mark.parametrize("stall", [10, 29, 31, 59, 61, 1000])
def test_a_deleter_that_was_stopped_after_its_claim_takes_nothing_that_came_since(world: World, stall: int) -> None:
    """Check 3."""
    registry = world.registry()
    leave(registry)
    claim = claimed(registry)
    world.clock.now += stall
    said = push(world)
    assert said == (PUSHED if stall > world.policy.claim else REFUSED)
    assert registry.blob_deletion.delete(claim) is (stall < world.policy.claim / 2)
    assert said == REFUSED or readable(world)
    world.clock.now += world.policy.claim + 1
    registry.blob_deletion.finish_abandoned()
    assert push(world) == PUSHED
    assert readable(world)


@with_all
def test_a_deleter_that_was_stopped_before_it_could_say_that_it_sends_does_not(world: World) -> None:
    """Check 3. Its clock is read again, and where a delete may be late its row as well."""
    leave(world.registry())
    seen: list[str] = []

    def stop() -> None:
        world.clock.now += world.policy.claim + 1
        seen.append(push(world))

    registry = world.registry()
    claim = claimed(registry)
    deletion = registry.blob_deletion
    say = deletion._say_sent

    def slow(claim: Claim) -> bool:
        stop()
        return say(claim)

    deletion._say_sent = slow  # type: ignore[method-assign]
    if not registry.backends.driver.capabilities.late_deletes:
        stop()
    assert not deletion.delete(claim)
    assert seen == [PUSHED]
    assert readable(world)


# ---- one delete


@with_all
def test_a_delete_is_sent_once_and_leaves_a_tombstone(world: World) -> None:
    leave(world.registry())
    driver = FaultyDriver(world.driver())
    registry = world.registry(driver=driver)
    assert collect(registry)
    assert driver.calls["delete_once"] == 1
    assert not is_there(driver, key_of(registry))
    row = row_of(registry)
    assert row is not None
    assert (row.state, row.generation) == (blobs.GONE, 1)
    assert push(world) == PUSHED
    row = row_of(registry)
    assert row is not None
    assert (row.state, row.generation) == (blobs.PRESENT, 1)
    assert readable(world)


UNCLEAR = [StorageUnavailable("k", "500"), Throttled("k", "503")]


@late
@pytest.mark.parametrize("error", UNCLEAR, ids=["500", "503"])
def test_a_digest_whose_delete_is_unclear_is_refused_until_it_can_come_no_more(
    world: World, error: StorageError
) -> None:
    """Check 2. The store holds the delete, answers with an error, and carries it out later."""
    leave(world.registry())
    deleter = faulty(world, "delete_once", error)
    with pytest.raises(type(error)):
        collect(deleter)
    assert push(world) == REFUSED
    registry = world.registry()
    assert registry.blob_deletion.finish_abandoned() == 0
    with pytest.raises(BlobUnknown):
        registry.blobs.find(NAME, DIGEST)
    assert not registry.blobs.mount(OTHER, DIGEST, NAME)
    with pytest.raises(Unavailable) as refusal:
        push_blob(registry, DATA)
    assert refusal.value.headers["Retry-After"] == str(blob_publication.UNCLEAR_RETRY)
    world.clock.now += world.policy.unclear - 1
    assert push(world) == REFUSED
    world.driver().delete([key_of(registry)])  # now it comes
    assert push(world) == PUSHED
    assert readable(world)


@late
def test_a_delete_that_came_is_seen_by_the_deleter_itself(world: World) -> None:
    leave(world.registry())
    deleter = faulty(world, "delete_once", StorageUnavailable("k", "cut"), When.AFTER)
    assert collect(deleter)
    assert push(world) == PUSHED


@late
@pytest.mark.parametrize("moment", list(When), ids=[moment.value for moment in When])
def test_a_sender_that_was_killed_leaves_an_unclear_claim(world: World, moment: When) -> None:
    """Check 2b. SIGKILL before or after the store has carried the delete out."""
    leave(world.registry())
    deleter = faulty(world, "delete_once", die, moment)
    with pytest.raises(Killed):
        collect(deleter)
    assert push(world) == REFUSED
    world.clock.now += world.policy.claim + 1
    registry = world.registry()
    if moment is When.AFTER:
        assert registry.blob_deletion.finish_abandoned() == 1
        assert push(world) == PUSHED
    else:
        assert registry.blob_deletion.finish_abandoned() == 0
        assert push(world) == REFUSED
        world.clock.now += world.policy.unclear
        assert push(world) == PUSHED
    assert readable(world)
    assert registry.blob_deletion.finish_abandoned() == 0


@late
def test_what_stays_after_an_unclear_delete_is_deleted_when_its_time_is_over(world: World) -> None:
    leave(world.registry())
    with pytest.raises(StorageUnavailable):
        collect(faulty(world, "delete_once", StorageUnavailable("k", "500")))
    world.clock.now += world.policy.unclear + 1
    registry = world.registry()
    assert registry.blob_deletion.finish_abandoned() == 1
    assert not is_there(world.driver(), key_of(registry))


@late
def test_after_an_unclear_delete_no_object_that_is_there_is_taken_for_the_pushed_one(world: World) -> None:
    leave(world.registry())
    with pytest.raises(StorageUnavailable):
        collect(faulty(world, "delete_once", StorageUnavailable("k", "500")))
    world.clock.now += world.policy.unclear + 1
    before = world.driver().stat(key_of(world.registry()))
    assert push(world) == PUSHED
    assert not world.driver().stat(key_of(world.registry())).is_same(before)


@with_all
@pytest.mark.parametrize("error", [StoreMisconfigured("k", "403"), NotSent("k", "silent")], ids=["403", "not-sent"])
def test_a_delete_that_was_refused_or_not_sent_ends_the_claim_at_once(world: World, error: StorageError) -> None:
    leave(world.registry())
    with pytest.raises(type(error)):
        collect(faulty(world, "delete_once", error))
    assert push(world) == PUSHED
    assert readable(world)


@shared
def test_another_version_of_the_object_stays_and_is_meant_by_the_next_claim(world: World) -> None:
    registry = world.registry()
    leave(registry)
    driver, key = world.driver(), key_of(registry)
    replaced = driver.write(key, DATA)
    assert not collect(faulty(world, "delete_once", PreconditionFailed("k")))
    assert driver.stat(key).is_same(replaced)
    claim = claimed(registry)
    assert claim.etag == replaced.etag
    driver.delete([key])
    assert not faulty(world, "delete_once", PreconditionFailed("k")).blob_deletion.delete(claim)
    row = row_of(registry)
    assert row is not None
    assert row.state == blobs.GONE


@with_all
def test_of_two_deleters_one_claims(world: World) -> None:
    registry, other = world.registry(), world.registry()
    leave(registry)
    claim = claimed(registry)
    with other.backends.database.transaction() as connection:
        assert other.blob_deletion.claim(connection, claim.blob_id, claim.key) is None
    assert registry.blob_deletion.delete(claim)


@with_all
def test_an_error_of_one_deletion_stops_no_other(world: World) -> None:
    registry = world.registry()
    for data in (b"one", b"two"):
        digest = push_blob(registry, data)
        with registry.backends.database.transaction() as connection:
            connection.execute(Statement("DELETE FROM membership"), {})
            row = blobs.lock(connection, digest).get()
            assert row is not None
            key = registry.backends.layout.blob(NAME, digest)
            assert registry.blob_deletion.claim(connection, row.id, key) is not None
    world.clock.now += world.policy.claim + 1
    assert faulty(world, "delete_once", StorageUnavailable("k", "500")).blob_deletion.finish_abandoned() == 1
    world.clock.now += world.policy.unclear + 1
    assert world.registry().blob_deletion.finish_abandoned() == 1


# ---- a collection that passes between a publisher's look and its rows


def interrupted(monkeypatch: pytest.MonkeyPatch, effect: Callable[[], None]) -> None:
    """Do something once, when a publisher has its bytes in place and is about to write its rows."""
    commit = BlobPublication._commit
    done: list[int] = []

    def late_commit(self: BlobPublication, *arguments: object) -> object:
        if not done:
            done.append(1)
            effect()
        return commit(self, *arguments)  # type: ignore[arg-type] # as they were given

    monkeypatch.setattr(BlobPublication, "_commit", late_commit)


@with_all
@pytest.mark.parametrize("forgotten_after", [None, 1.0, 86400.0])
def test_a_whole_collection_between_look_and_rows_makes_the_publisher_begin_again(
    world: World, monkeypatch: pytest.MonkeyPatch, forgotten_after: float | None
) -> None:
    """Check 4. Also where the row of the blob is gone by then, which comes a day later, or in a release that errs."""
    registry = world.registry()
    leave(registry)

    def pass_by() -> None:
        assert collect(registry)
        if forgotten_after is not None:
            world.clock.now += forgotten_after + 1
            assert world.registry(tombstone=forgotten_after).blob_deletion.prune() == 1
            assert row_of(registry) is None

    interrupted(monkeypatch, pass_by)
    assert push(world) == PUSHED
    assert readable(world)


@with_all
def test_a_blob_that_came_and_went_since_an_old_look_is_put_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Check 4. There was no row at the look, and there is none at the commit."""
    registry = world.registry()

    def pass_by() -> None:
        monkeypatch.undo()
        leave(registry)
        assert collect(registry)
        world.clock.now += world.policy.tombstone + 1
        assert registry.blob_deletion.prune() == 1

    interrupted(monkeypatch, pass_by)
    push_blob(world.registry(), DATA)
    assert readable(world)


@on_one_machine
def test_a_tombstone_stays_for_its_time_and_goes_with_the_start_of_the_machine_that_made_it(world: World) -> None:
    registry = world.registry()
    leave(registry)
    assert collect(registry)
    world.clock.now += world.policy.tombstone - 1
    assert registry.blob_deletion.prune() == 0
    world.reboot()
    assert world.registry().blob_deletion.prune() == 1
    assert row_of(registry) is None
    assert push(world) == PUSHED


@with_all
def test_a_blob_that_is_there_again_is_not_pruned(world: World) -> None:
    registry = world.registry()
    leave(registry)
    assert collect(registry)
    assert push(world) == PUSHED
    world.clock.now += world.policy.tombstone + 1
    assert registry.blob_deletion.prune() == 0
    assert readable(world)


# ---- orphans


def place_orphan(world: World) -> Registry:
    registry = world.registry()
    registry.backends.driver.write(key_of(registry), DATA)
    return registry


def claim_orphan(registry: Registry) -> Claim | None:
    key = key_of(registry)
    return registry.blob_deletion.claim_orphan(key, DIGEST, registry.backends.driver.stat(key))


@with_all
def test_an_orphan_is_claimed_and_deleted_once(world: World) -> None:
    registry = place_orphan(world)
    claim = claim_orphan(registry)
    assert claim is not None
    assert claim_orphan(world.registry()) is None
    assert push(world) == REFUSED
    assert registry.blob_deletion.delete(claim)
    assert not is_there(registry.backends.driver, key_of(registry))
    row = row_of(registry)
    assert row is not None
    assert (row.state, row.generation) == (blobs.GONE, 1)
    assert push(world) == PUSHED
    assert readable(world)


@with_all
def test_what_a_row_knows_is_no_orphan(world: World) -> None:
    registry = world.registry()
    push_blob(registry, DATA)
    assert claim_orphan(registry) is None
    with registry.backends.database.transaction() as connection:
        connection.execute(Statement("DELETE FROM blob"), {})
        other = blobs.adopt(connection, Digest.of(b"other"), size=1)
        blob_locations.adopt(
            connection, other.id, store=registry.backends.driver.name, key=key_of(registry), size=1, etag="e"
        )
    assert claim_orphan(registry) is None
    assert row_of(registry) is None


@with_all
@pytest.mark.parametrize("step", ["claim", "delete", "prune"])
def test_a_sweep_between_look_and_rows_makes_the_publisher_begin_again(
    world: World, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """Check 5. The publisher met the orphan, and took it for its own bytes."""
    registry = place_orphan(world)

    def sweep() -> None:
        claim = claim_orphan(registry)
        assert claim is not None
        if step != "claim":
            assert registry.blob_deletion.delete(claim)
        if step == "prune":
            world.clock.now += world.policy.tombstone + 1
            assert registry.blob_deletion.prune() == 1

    interrupted(monkeypatch, sweep)
    said = push(world)
    assert said == (REFUSED if step == "claim" else PUSHED)
    assert said == REFUSED or readable(world)


@with_all
def test_a_sweeper_that_was_killed_leaves_what_another_finishes_or_a_push_takes_over(world: World) -> None:
    registry = place_orphan(world)
    assert claim_orphan(registry) is not None
    world.clock.now += world.policy.claim + 1
    assert push(world) == PUSHED
    assert registry.blob_deletion.finish_abandoned() == 0
    assert readable(world)


@with_all
def test_a_push_before_the_sweep_keeps_its_bytes(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Check 5. The sweeper listed the object, and a push came before its claim."""
    registry = place_orphan(world)
    stat = registry.backends.driver.stat(key_of(registry))
    assert push(world) == PUSHED
    assert registry.blob_deletion.claim_orphan(key_of(registry), DIGEST, stat) is None
    assert readable(world)


def test_an_orphan_that_is_claimed_while_a_publisher_writes_its_rows_is_seen(
    tmp_path: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Check 5. There was no row that the publisher could lock, and its own meets the one that the sweeper made."""
    world = World(tmp_path, "memory", cluster.create_current())
    registry, put = place_orphan(world), blobs.put
    claims: list[Claim | None] = []

    def late(connection: Transaction, digest: str, *, size: int, lease: float) -> Later[blobs.PutBlob]:
        monkeypatch.setattr(blobs, "put", put)
        connection.settle()
        claims.append(claim_orphan(registry))
        return put(connection, digest, size=size, lease=lease)

    monkeypatch.setattr(blobs, "put", late)
    assert push(world) == REFUSED
    (claim,) = claims
    assert claim is not None
    assert registry.blob_deletion.delete(claim)
    assert push(world) == PUSHED
    assert readable(world)
    world.close()


def test_tombstones_that_others_have_in_hand_are_passed_over(cluster: Cluster, tmp_path: Path) -> None:
    """Two that wait for each other would fail one."""
    with closing(World(tmp_path, "memory", cluster.create_current())) as world:
        registry = world.registry()
        digests = [push_blob(registry, bytes([number])) for number in range(3)]
        for digest in digests:
            registry.blobs.delete(NAME, digest)
        with registry.backends.database.transaction() as connection:
            connection.execute(Statement("DELETE FROM blob_location"), {})
            connection.execute(Statement("UPDATE blob SET state = 'gone', gone_clock = 'x', gone_at = 0"), {})
        with ThreadPoolExecutor(1) as pool, registry.backends.database.transaction() as connection:
            assert blobs.lock(connection, str(digests[1])).get() is not None
            assert pool.submit(world.registry(tombstone=0).blob_deletion.prune).result(60) == 2
            assert blobs.lock(connection, str(digests[0])).get() is None
        assert registry.blob_deletion.prune() == 1

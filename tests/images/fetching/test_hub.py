"""One fetch for all clients, read while it comes (I15; checks 3, 4, 5, 6, 7, 8, 9, 10 and 11 of mirrors)."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import pytest

from registry.database import stores
from registry.database.errors import DatabaseUnavailable
from registry.database.mirrors import fetches
from registry.database.stores import READ_ONLY, StoreRow
from registry.images.fetching.content import ContentReplaced, FetchFailed, Reason
from registry.images.fetching.expiry import expire
from registry.images.fetching.hub import FetchHub
from registry.images.registry import Registry
from registry.observability.metrics.fetch_metrics import FetchMetrics
from registry.observability.metrics.instruments import Instruments
from registry.oci.digest import Digest
from registry.oci.errors import BlobUnknown, NameUnknown
from registry.storage.driver import StorageDriver
from registry.storage.errors import StorageFull, StorageUnavailable
from registry.storage.middleware.faults import Fault, FaultyDriver, When
from tests.images.fetching.scripted import (
    PIECE,
    REPOSITORY,
    WAIT,
    Cut,
    Gate,
    ScriptedUpstream,
    await_head,
    await_ready,
    hub_of,
    in_threads,
    join,
    read_all,
    read_until_nothing_comes,
    read_up_to,
)
from tests.support.registry_world import World

DATA = random.Random(17).randbytes(40 * PIECE + 123)
OTHER = random.Random(18).randbytes(len(DATA))
HALF = 20 * PIECE
NEVER = 1e9
"""Seconds."""


@pytest.fixture
def upstream() -> ScriptedUpstream:
    return ScriptedUpstream(DATA)


class Worlds:
    """Processes of one world, each with a hub."""

    def __init__(self, world: World, stack: ExitStack) -> None:
        self.world = world
        self._stack = stack

    def process(self, driver: StorageDriver | None = None, **policy: Any) -> tuple[Registry, FetchHub]:
        registry = self.world.registry(driver=driver)
        return registry, self._stack.enter_context(hub_of(registry, **policy))

    def hub(self, driver: StorageDriver | None = None, **policy: Any) -> FetchHub:
        return self.process(driver, **policy)[1]

    def let_lease_end(self) -> None:
        self.world.clock.now += 16


@pytest.fixture
def worlds(world: World) -> Any:
    with ExitStack() as stack:
        yield Worlds(world, stack)


def content_of(registry: Registry, digest: Digest, repository: str = REPOSITORY) -> bytes:
    """The blob, as any client pulls it."""
    with registry.blobs.read(registry.blobs.open(repository, digest)) as reader:
        return b"".join(iter(lambda: reader.read(1 << 20), b""))


def is_absent(registry: Registry, digest: Digest, repository: str = REPOSITORY) -> bool:
    try:
        registry.blobs.find(repository, digest)
    except (BlobUnknown, NameUnknown):
        return True
    return False


def wait_until(condition: Callable[[], bool]) -> None:
    event = threading.Event()
    for _ in range(int(WAIT / 0.01)):
        if condition():
            return
        event.wait(0.01)
    pytest.fail("it never came true")


def fails_with(reason: Reason) -> Any:
    return pytest.raises(FetchFailed, check=lambda error: error.reason is reason)


def cut_with(reason: Reason) -> Any:
    return pytest.raises(Cut, check=lambda cut: cut.failure.reason is reason)


def test_a_client_has_the_bytes_and_they_are_published(worlds: Worlds, upstream: ScriptedUpstream) -> None:
    registry, hub = worlds.process()
    reader = join(hub, upstream)
    assert await_head(reader) == (len(DATA), "application/octet-stream")
    assert read_all(reader) == DATA
    assert content_of(registry, upstream.digest) == DATA
    assert (upstream.requests, upstream.sent, upstream.closed) == ([0], len(DATA), 1)
    wait_until(lambda: not list(registry.backends.driver.uploads()))
    assert hub.count() == 0


def test_clients_of_many_repositories_and_processes_have_it_from_one_request(
    worlds: Worlds, upstream: ScriptedUpstream
) -> None:
    gate = Gate(HALF)
    upstream.on_piece = gate
    (registry, first), (_, second) = worlds.process(), worlds.process()
    names = [f"hub/team/app{number}" for number in range(5)]
    readers = [join(hub, upstream, name) for name in names for hub in (first, second) for _ in range(2)]
    assert gate.reached.wait(WAIT)
    late = [join(hub, upstream, names[0]) for hub in (first, second)]
    gate.opened.set()
    assert in_threads([*readers, *late]) == [DATA] * 22
    assert (upstream.requests, upstream.sent) == ([0], len(DATA))
    for name in names:
        assert content_of(registry, upstream.digest, name) == DATA


def test_a_follower_elsewhere_reads_what_is_kept_while_more_comes(worlds: Worlds, upstream: ScriptedUpstream) -> None:
    upstream.on_piece = gate = Gate(HALF)
    first, second = worlds.hub(flush=0.0), worlds.hub()
    with join(first, upstream), ExitStack() as stack:
        assert gate.reached.wait(WAIT)
        reader = stack.enter_context(join(second, upstream))
        assert await_head(reader)[0] == len(DATA)
        assert read_up_to(reader, HALF - 1) == DATA[: HALF - 1]
        gate.opened.set()
        assert read_up_to(reader, len(DATA)) == DATA[HALF - 1 :]


def test_the_last_byte_waits_for_the_publication_in_the_repository_of_the_client(
    worlds: Worlds, upstream: ScriptedUpstream
) -> None:
    publishing, go_on = threading.Event(), threading.Event()

    def wait() -> None:
        publishing.set()
        assert go_on.wait(WAIT)

    slow = FaultyDriver(worlds.world.driver(), [Fault("writer.publish", effect=wait)])
    hub, other = worlds.hub(slow), worlds.hub()
    with join(hub, upstream) as first, join(hub, upstream) as ranged, ExitStack() as stack:
        ranged.want(10, 20)
        assert publishing.wait(WAIT)
        second = stack.enter_context(join(other, upstream))
        for reader in (first, second):
            assert read_up_to(reader, len(DATA) - 1) == DATA[:-1]
            assert not await_ready(reader, 0.2)
        assert read_up_to(ranged, 9) == DATA[10:19]
        assert not await_ready(ranged, 0.2)
        go_on.set()
        assert read_up_to(first, 1) == read_up_to(second, 1) == DATA[-1:]
        assert read_up_to(ranged, 1) == DATA[19:20]
        assert first.is_done
        assert ranged.is_done


def test_wrong_bytes_never_arrive_whole_and_are_not_asked_for_again_at_once(worlds: Worlds) -> None:
    upstream = ScriptedUpstream(OTHER)
    digest = Digest.of(DATA)
    registry, hub = worlds.process()
    other = worlds.hub()
    for outcome in in_threads([join(each, upstream, digest=digest) for each in (hub, other) for _ in range(2)]):
        assert isinstance(outcome, Cut)
        assert outcome.failure.reason is Reason.WRONG
        assert len(outcome.data) < len(OTHER)
    assert is_absent(registry, digest)
    assert list(registry.backends.driver.uploads()) == []
    for each in (hub, other):
        with join(each, upstream, digest=digest) as reader, fails_with(Reason.WRONG):
            await_head(reader)
    assert upstream.requests == [0]
    worlds.world.clock.now += 61
    upstream.data = DATA
    assert read_all(join(hub, upstream, digest=digest)) == DATA


def test_an_upstream_that_is_gone_cuts_and_the_next_fetch_goes_on_where_it_was(
    worlds: Worlds, upstream: ScriptedUpstream
) -> None:
    def break_off(offset: int) -> None:
        if offset >= HALF:
            raise FetchFailed(Reason.UNAVAILABLE, "it does not answer")

    upstream.on_piece = break_off
    hub, other = worlds.hub(), worlds.hub(flush=0.0)
    (outcome,) = in_threads([join(hub, upstream)])
    assert isinstance(outcome, Cut)
    assert DATA.startswith(outcome.data)
    with join(other, upstream) as reader, fails_with(Reason.UNAVAILABLE) as failed:
        await_head(reader)
    assert failed.value.seconds == pytest.approx(10, abs=5)
    assert len(upstream.requests) == 1
    worlds.world.clock.now += 11
    upstream.on_piece = lambda _offset: None
    assert read_all(join(other, upstream)) == DATA
    assert len(upstream.requests) == 2
    assert upstream.sent - len(DATA) == HALF - upstream.requests[1], "what was kept is not asked for again"


@pytest.mark.parametrize(
    ("reason", "seconds", "paused"),
    [
        (Reason.ABSENT, None, 60),
        (Reason.DENIED, None, None),
        (Reason.THROTTLED, 120.0, 120),
        (Reason.THROTTLED, None, 60),
        (Reason.UNAVAILABLE, None, 10),
    ],
)
def test_an_upstream_that_refuses_is_an_error_before_any_byte(
    worlds: Worlds, upstream: ScriptedUpstream, reason: Reason, seconds: float | None, paused: float | None
) -> None:
    def refuse(_number: int) -> None:
        raise FetchFailed(reason, "no", seconds)

    upstream.on_open = refuse
    registry, hub = worlds.process()
    other = worlds.hub()
    for each in (hub, other):
        with join(each, upstream) as reader, fails_with(reason) as failed:
            await_head(reader)
        assert failed.value.seconds == (paused if paused is None else pytest.approx(paused, abs=5))
    assert len(upstream.requests) == (2 if paused is None else 1)
    assert is_absent(registry, upstream.digest)


def test_pauses_grow_while_nothing_comes(worlds: Worlds, upstream: ScriptedUpstream) -> None:
    def refuse(_number: int) -> None:
        raise FetchFailed(Reason.UNAVAILABLE, "no")

    upstream.on_open = refuse
    hub, pauses = worlds.hub(), []
    for _ in range(7):
        with join(hub, upstream) as reader, fails_with(Reason.UNAVAILABLE) as failed:
            await_head(reader)
        pauses.append(failed.value.seconds)
        worlds.world.clock.now += 301
    assert pauses == [10, 20, 40, 80, 160, 300, 300]


def test_content_that_changes_is_fetched_anew_and_only_clients_with_bytes_are_cut(worlds: Worlds) -> None:
    upstream = ScriptedUpstream(OTHER)
    digest, changed = Digest.of(DATA), threading.Event()
    gate = Gate(HALF)

    def change(offset: int) -> None:
        gate(offset)
        if offset >= HALF and not changed.is_set():
            changed.set()
            upstream.data = DATA
            raise ContentReplaced("another ETag")

    upstream.on_piece = change
    registry, hub = worlds.process()
    other = worlds.hub()
    with join(hub, upstream, digest=digest) as early, join(other, upstream, digest=digest) as follower:
        assert read_up_to(early, 1000) == OTHER[:1000]
        assert read_up_to(follower, 1000) == OTHER[:1000]
        clients = [join(each, upstream, digest=digest) for each in (hub, other)]
        for client in clients:
            await_head(client)
        gate.opened.set()
        wait_until(lambda: all(client.fetch.edition > 1 for client in clients))
        assert in_threads(clients) == [DATA, DATA]
        for reader in (early, follower):
            with cut_with(Reason.CUT):
                read_up_to(reader, len(DATA))
    assert content_of(registry, digest) == DATA
    assert upstream.requests == [0, 0]


def test_content_that_changes_all_the_time_is_given_up(worlds: Worlds, upstream: ScriptedUpstream) -> None:
    def change(offset: int) -> None:
        if offset >= HALF:
            raise ContentReplaced("another ETag")

    upstream.on_piece = change
    (outcome,) = in_threads([join(worlds.hub(), upstream)])
    assert isinstance(outcome, Cut)
    assert outcome.failure.reason in {Reason.INVALID, Reason.CUT}
    wait_until(lambda: len(upstream.requests) == 2)


def test_a_size_that_the_manifest_does_not_say_is_refused(worlds: Worlds, upstream: ScriptedUpstream) -> None:
    with join(worlds.hub(), upstream, size=len(DATA) + 1) as reader, fails_with(Reason.INVALID):
        await_head(reader)
    assert upstream.sent == 0


def test_an_upstream_that_says_no_size_is_read_to_its_end(worlds: Worlds) -> None:
    upstream = ScriptedUpstream(DATA, tells_size=False)
    reader = join(worlds.hub(), upstream)
    assert await_head(reader)[0] == len(DATA)
    assert read_all(reader) == DATA


def test_a_blob_without_a_byte_is_fetched_as_any(worlds: Worlds) -> None:
    upstream = ScriptedUpstream(b"")
    registry, hub = worlds.process()
    reader = join(hub, upstream)
    assert await_head(reader)[0] == 0
    assert read_all(reader) == b""
    wait_until(lambda: not is_absent(registry, upstream.digest))


def test_a_leader_that_is_frozen_is_succeeded_and_changes_nothing_when_it_wakes(
    worlds: Worlds, upstream: ScriptedUpstream
) -> None:
    frozen = ScriptedUpstream(DATA)
    frozen.on_piece = gate = Gate(HALF)
    registry, hub = worlds.process(flush=0.0, renewal=NEVER)
    other = worlds.hub(flush=0.0)
    with join(hub, frozen) as client:
        assert gate.reached.wait(WAIT)
        follower = join(other, upstream)
        assert read_up_to(follower, HALF - 1) == DATA[: HALF - 1]
        got = read_up_to(client, HALF - 1)
        worlds.let_lease_end()
        assert read_all(follower) == DATA[HALF - 1 :]
        assert upstream.requests == [HALF], "what was kept is not asked for again"
        gate.opened.set()
        assert got + read_up_to(client, len(DATA)) == DATA
    assert content_of(registry, upstream.digest) == DATA
    assert upstream.sent + frozen.sent <= len(DATA) + PIECE
    wait_until(lambda: not list(registry.backends.driver.uploads()) or worlds.world.kind == "s3-postgresql")


def test_a_client_of_a_frozen_leader_with_bytes_that_were_not_kept_is_cut(
    worlds: Worlds, upstream: ScriptedUpstream
) -> None:
    frozen = ScriptedUpstream(OTHER)
    frozen.on_piece = gate = Gate(HALF)
    hub, other = worlds.hub(flush=NEVER, renewal=NEVER), worlds.hub()
    with join(hub, frozen, digest=upstream.digest) as client:
        assert gate.reached.wait(WAIT)
        assert read_up_to(client, HALF - 1) == OTHER[: HALF - 1]
        worlds.let_lease_end()
        in_threads([join(other, upstream)])  # it has a piece of the wrong ones, or none
        gate.opened.set()
        with cut_with(Reason.CUT):
            read_up_to(client, len(DATA))
    # The first piece was kept at once: the successor finds out, and begins anew.
    wait_until(lambda: other.count() == 0)
    assert read_all(join(other, upstream)) == DATA
    assert upstream.requests == [PIECE, 0]


def test_kept_bytes_that_were_lost_or_damaged_are_fetched_anew(worlds: Worlds, upstream: ScriptedUpstream) -> None:
    upstream.on_piece = gate = Gate(HALF)
    registry, hub = worlds.process(flush=0.0)
    with join(hub, upstream):
        assert gate.reached.wait(WAIT)
        hub._stopping.set()
        gate.opened.set()
        hub.close()
    driver = registry.backends.driver
    with registry.backends.database.autocommit() as connection:
        row = fetches.find(connection, "mirror", upstream.digest).get()
    assert row is not None
    assert row.upload_id is not None
    assert row.offset > HALF
    driver.discard_upload(row.upload_id)
    worlds.let_lease_end()
    assert read_all(join(worlds.hub(), upstream)) == DATA
    assert upstream.requests == [0, 0]


def test_the_fetch_goes_on_when_its_clients_have_left(worlds: Worlds, upstream: ScriptedUpstream) -> None:
    upstream.on_piece = gate = Gate(HALF)
    registry, hub = worlds.process()
    with join(hub, upstream) as reader:
        read_up_to(reader, 1000)
    gate.opened.set()
    wait_until(lambda: not is_absent(registry, upstream.digest))
    assert upstream.requests == [0]


def test_it_may_be_told_to_stop_when_no_client_waits_and_goes_on_for_the_next(
    worlds: Worlds, upstream: ScriptedUpstream
) -> None:
    upstream.on_piece = gate = Gate(HALF)
    registry, hub = worlds.process(fills=False)
    with join(hub, upstream) as reader:
        assert gate.reached.wait(WAIT)
        read_up_to(reader, 1000)
    gate.opened.set()
    wait_until(lambda: upstream.closed == 1)
    wait_until(lambda: hub.count() == 0)
    assert is_absent(registry, upstream.digest)
    sent = upstream.sent
    assert sent <= HALF + PIECE
    assert read_all(join(hub, upstream)) == DATA
    assert upstream.requests == [0, sent]


def test_a_process_that_ends_keeps_what_has_come(worlds: Worlds, upstream: ScriptedUpstream) -> None:
    upstream.on_piece = gate = Gate(HALF)
    hub, other = worlds.hub(), worlds.hub()
    with join(hub, upstream) as reader, ExitStack() as stack:
        assert gate.reached.wait(WAIT)
        follower = stack.enter_context(join(other, upstream))
        hub._stopping.set()
        gate.opened.set()
        hub.close()
        with cut_with(Reason.STOPPED):
            read_up_to(reader, len(DATA))
        assert read_up_to(follower, len(DATA)) == DATA
    assert upstream.sent == len(DATA)
    with join(hub, upstream, digest=Digest.of(b"another")) as reader, fails_with(Reason.STOPPED):
        await_head(reader)


def test_a_slow_client_holds_no_memory_and_no_fast_one_back(worlds: Worlds) -> None:
    upstream = ScriptedUpstream(random.Random(19).randbytes(8 << 20))
    registry, hub = worlds.process(ring=1 << 20)
    largest = 0

    def measure(_offset: int) -> None:
        nonlocal largest
        ring = slow.fetch.ring
        if ring is not None:
            largest = max(largest, sum(map(len, ring._pieces)))

    def wait(_number: int) -> None:
        assert joined.wait(WAIT)

    upstream.on_open = wait
    upstream.on_piece = measure
    joined = threading.Event()
    with join(hub, upstream) as slow:
        fast = join(hub, upstream)
        joined.set()
        assert read_up_to(slow, 1000) == upstream.data[:1000]
        assert read_all(fast) == upstream.data
        assert largest <= (1 << 20)
        assert content_of(registry, upstream.digest) == upstream.data
        ring = slow.fetch.ring
        assert ring is not None
        assert sum(map(len, ring._pieces)) <= PIECE
        assert read_up_to(slow, 1 << 30) == upstream.data[1000:]


def test_no_thread_is_held_by_clients_that_wait(worlds: Worlds, upstream: ScriptedUpstream) -> None:
    upstream.on_piece = gate = Gate(HALF)
    hub, other = worlds.hub(), worlds.hub()
    with ExitStack() as stack:
        stack.enter_context(join(hub, upstream))
        stack.enter_context(join(other, upstream))
        assert gate.reached.wait(WAIT)
        readers = [stack.enter_context(join(each, upstream)) for each in (hub, other) for _ in range(100)]
        woken = threading.Semaphore(0)
        for reader in readers:
            read_until_nothing_comes(reader, 0.0 if reader is not readers[-1] else 0.1)
        before = threading.active_count()
        watches = [reader.watch(woken.release) for reader in readers]
        assert threading.active_count() <= before
        assert sum(watch is not None for watch in watches) >= 100
        gate.opened.set()
        for watch in watches:
            assert watch is None or woken.acquire(timeout=WAIT)


def test_a_store_that_is_full_cuts_and_keeps_the_fetch_for_later(worlds: Worlds, upstream: ScriptedUpstream) -> None:
    full = FaultyDriver(worlds.world.driver(), [Fault("writer.write", first=10, effect=StorageFull)])
    (outcome,) = in_threads([join(worlds.hub(full, flush=0.0), upstream)])
    assert isinstance(outcome, Cut)
    assert outcome.failure.reason is Reason.STORAGE
    worlds.world.clock.now += 3
    assert read_all(join(worlds.hub(), upstream)) == DATA
    assert len(upstream.requests) == 2
    assert upstream.requests[1] > 0


@pytest.mark.parametrize("operation", ["start_upload", "writer.flush", "writer.publish", "discard_upload"])
def test_a_store_that_fails_once_makes_no_wrong_answer(
    worlds: Worlds, upstream: ScriptedUpstream, operation: str
) -> None:
    failing = FaultyDriver(worlds.world.driver(), [Fault(operation, effect=StorageUnavailable)])
    (outcome,) = in_threads([join(worlds.hub(failing), upstream)])
    assert outcome == DATA or isinstance(outcome, Cut)
    worlds.world.clock.now += 16
    registry, hub = worlds.process()
    assert read_all(join(hub, upstream)) == DATA
    assert content_of(registry, upstream.digest) == DATA
    assert upstream.sent <= 2 * len(DATA)


@pytest.mark.parametrize("is_done", [False, True], ids=["not done", "done, and not answered"])
def test_a_database_that_is_away_for_a_moment_stops_no_fetch(
    worlds: Worlds, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch, is_done: bool
) -> None:
    advance, calls = fetches.advance, iter(range(1000))

    def fail_sometimes(*given: Any, **named: Any) -> bool:
        is_away = next(calls) in {1, 3, 4}
        done = advance(*given, **named) if is_done or not is_away else True
        if is_away:
            if is_done:
                given[0].commit()
                given[0].run("BEGIN")
            raise DatabaseUnavailable("it is away")
        return done

    monkeypatch.setattr(fetches, "advance", fail_sometimes)
    registry, hub = worlds.process(flush=0.0)
    assert read_all(join(hub, upstream)) == DATA
    assert upstream.requests == [0]
    assert content_of(registry, upstream.digest) == DATA


def test_a_blob_that_was_deleted_since_is_fetched_again(worlds: Worlds, upstream: ScriptedUpstream) -> None:
    registry, hub = worlds.process()
    assert read_all(join(hub, upstream)) == DATA
    wait_until(lambda: hub.count() == 0)
    registry.blobs.delete(REPOSITORY, upstream.digest)
    assert is_absent(registry, upstream.digest)
    assert read_all(join(worlds.hub(), upstream)) == DATA
    assert upstream.requests == [0, 0]


@pytest.mark.parametrize("kind", ["memory"])
def test_where_no_change_may_commit_nothing_is_asked_of_the_upstream(
    worlds: Worlds, upstream: ScriptedUpstream
) -> None:
    registry, hub = worlds.process()
    with registry.backends.database.exclusive() as connection:
        stores.put(connection, StoreRow("memory", None, 1, READ_ONLY, "given back", (), 0.0))
    with join(hub, upstream) as reader, fails_with(Reason.STORAGE):
        await_head(reader)
    assert upstream.requests == []


def test_more_fetches_than_threads_wait_for_one(worlds: Worlds) -> None:
    upstreams = [ScriptedUpstream(os.urandom(3 * PIECE)) for _ in range(5)]
    hub = worlds.hub(fetches=1)
    assert in_threads([join(hub, upstream) for upstream in upstreams]) == [upstream.data for upstream in upstreams]


def test_an_upstream_that_is_slow_holds_back_no_fetch_of_another(worlds: Worlds, upstream: ScriptedUpstream) -> None:
    gate = Gate(0)
    upstream.on_open = gate
    hub, other = worlds.hub(fetches=1), ScriptedUpstream(OTHER)
    with join(hub, upstream) as slow:
        assert gate.reached.wait(WAIT)
        with hub.join("other", REPOSITORY, other.digest, other) as reader:
            assert read_all(reader) == OTHER
        gate.opened.set()
        assert read_all(slow) == DATA


def test_what_no_process_goes_on_with_expires_with_its_bytes(worlds: Worlds, upstream: ScriptedUpstream) -> None:
    def break_off(offset: int) -> None:
        if offset >= HALF:
            raise FetchFailed(Reason.UNAVAILABLE, "it does not answer")

    upstream.on_piece = break_off
    registry, hub = worlds.process()
    assert isinstance(in_threads([join(hub, upstream)])[0], Cut)
    assert expire(registry.backends, seconds=3600) == 0
    assert list(registry.backends.driver.uploads())
    worlds.world.clock.now += 3601
    assert expire(registry.backends, seconds=3600) == 1
    assert list(registry.backends.driver.uploads()) == []
    upstream.on_piece = lambda _offset: None
    assert read_all(join(hub, upstream)) == DATA
    assert upstream.requests == [0, 0]


@pytest.mark.parametrize("kind", ["memory"])
def test_where_uploads_cannot_be_read_clients_that_fall_behind_wait_for_the_end(
    worlds: Worlds, upstream: ScriptedUpstream
) -> None:
    driver = worlds.world.driver()
    driver.capabilities = replace(driver.capabilities, readable_uploads=False)
    upstream.on_piece = first = Gate(2 * PIECE)
    (registry, hub), other = worlds.process(ring=4 * PIECE), worlds.hub()
    with join(hub, upstream) as early, join(other, upstream) as follower:
        assert read_up_to(early, 1000) == DATA[:1000]
        upstream.on_piece = gate = Gate(HALF)
        first.opened.set()
        assert gate.reached.wait(WAIT)
        with join(hub, upstream) as late:
            for waiting in (early, late, follower):
                assert not await_ready(waiting, 0.1)
            gate.opened.set()
            assert read_up_to(early, len(DATA)) == DATA[1000:]
            assert read_up_to(late, len(DATA)) == DATA
        assert read_up_to(follower, len(DATA)) == DATA
    assert upstream.requests == [0]
    assert content_of(registry, upstream.digest) == DATA


@pytest.mark.parametrize("kind", ["memory"])
def test_where_uploads_cannot_be_read_a_successor_begins_anew(worlds: Worlds, upstream: ScriptedUpstream) -> None:
    driver = worlds.world.driver()
    driver.capabilities = replace(driver.capabilities, readable_uploads=False)
    frozen = ScriptedUpstream(DATA)
    frozen.on_piece = gate = Gate(HALF)
    hub, other = worlds.hub(renewal=NEVER), worlds.hub()
    with join(hub, frozen):
        assert gate.reached.wait(WAIT)
        worlds.let_lease_end()
        assert read_all(join(other, upstream)) == DATA
        gate.opened.set()
    assert upstream.requests == [0]


def test_a_leader_that_is_frozen_between_the_object_and_its_rows_commits_nothing(
    worlds: Worlds, upstream: ScriptedUpstream
) -> None:
    publishing, go_on = threading.Event(), threading.Event()

    def wait() -> None:
        publishing.set()
        assert go_on.wait(WAIT)

    slow = FaultyDriver(worlds.world.driver(), [Fault("writer.publish", moment=When.AFTER, effect=wait)])
    frozen, (registry, hub) = worlds.hub(slow, renewal=NEVER), worlds.process()
    with join(frozen, upstream) as client:
        assert publishing.wait(WAIT)
        worlds.let_lease_end()
        assert read_all(join(hub, upstream)) == DATA
        registry.blobs.delete(REPOSITORY, upstream.digest)
        go_on.set()
        wait_until(lambda: client.fetch.edition > 1)
        assert in_threads([client]) == [DATA]
    # Its commit did not make the blob a member again: the blob was fetched once more.
    assert upstream.requests == [0, 0]


def test_followers_are_cut_when_the_database_is_silent_for_too_long(
    worlds: Worlds, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    upstream.on_piece = gate = Gate(HALF)
    hub, other = worlds.hub(), worlds.hub()

    def be_away(*_given: Any, **_named: Any) -> Any:
        raise DatabaseUnavailable("it is away")

    with join(hub, upstream), ExitStack() as stack:
        assert gate.reached.wait(WAIT)
        follower = stack.enter_context(join(other, upstream))
        await_head(follower)
        monkeypatch.setattr(fetches, "find_many", be_away)
        monkeypatch.setattr(fetches, "renew", be_away)
        read_until_nothing_comes(follower)
        assert not await_ready(follower, 0.1)
        worlds.world.clock.now += 31
        with cut_with(Reason.STORAGE):
            read_up_to(follower, len(DATA))
        monkeypatch.setattr(fetches, "claim", be_away)
        with join(other, upstream) as reader, fails_with(Reason.STORAGE):
            await_head(reader)
        gate.opened.set()


def test_an_answer_without_a_byte_that_is_not_the_blob_is_an_error(worlds: Worlds) -> None:
    upstream = ScriptedUpstream(b"")
    upstream.digest = Digest.of(DATA)
    with join(worlds.hub(), upstream) as reader, pytest.raises(FetchFailed):
        await_head(reader)


def test_a_row_of_a_later_release_stops_no_fetch(worlds: Worlds, upstream: ScriptedUpstream) -> None:
    """The thread that looks at all rows ended with the first that it did not understand."""
    registry, hub = worlds.process()
    other = ScriptedUpstream(OTHER)
    with registry.backends.database.transaction() as connection:
        wanted = fetches.Wanted("mirror", fetches.BLOB, str(other.digest), REPOSITORY)
        row = fetches.claim(connection, wanted, holder="later", seconds=60)
        assert row is not None
        assert fetches.fail(connection, row.id, epoch=row.epoch, error="embargoed", pause=60)
    with join(hub, other) as reader, pytest.raises(FetchFailed):
        await_head(reader)
    assert read_all(join(hub, upstream)) == DATA


def test_an_error_of_ours_in_a_look_at_rows_leaves_no_client_waiting(
    worlds: Worlds, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(HALF)
    upstream.on_piece = gate
    leading, following = worlds.hub(), worlds.hub()

    def fail(_entries: object) -> None:
        raise ZeroDivisionError

    with join(leading, upstream) as first:
        await_head(first)
        second = join(following, upstream)
        await_head(second)
        with monkeypatch.context() as patch, second:
            patch.setattr(following, "_look", fail)
            with fails_with(Reason.STORAGE):
                while not second.is_done:
                    assert await_ready(second)
                    second.read(1 << 20)
        gate.opened.set()
        assert read_all(first) == DATA
    assert read_all(join(following, upstream)) == DATA


def test_the_part_of_each_process_is_counted(worlds: Worlds, upstream: ScriptedUpstream) -> None:
    make = Instruments()
    metrics = FetchMetrics(make)
    other, gate = ScriptedUpstream(OTHER), Gate(HALF)
    upstream.on_piece = gate
    hub, follower = worlds.hub(listener=metrics, flush=0.0), worlds.hub(listener=metrics)
    with join(hub, upstream) as reader, ExitStack() as stack:
        assert gate.reached.wait(WAIT)
        elsewhere = stack.enter_context(join(follower, upstream))
        read_up_to(elsewhere, HALF - 1)
        assert 'registry_mirror_fetches_in_flight{mirror="mirror"} 1.0' in make.render().decode()
        hub._stopping.set()
        gate.opened.set()
        hub.close()
        with cut_with(Reason.STOPPED):
            read_up_to(reader, len(DATA))
        read_up_to(elsewhere, len(DATA))
    other.digest = Digest.of(b"something else")
    with join(follower, other) as reader, pytest.raises(Cut):
        read_up_to(reader, len(OTHER))
    wait_until(lambda: follower.count() == 0)
    text = make.render().decode()
    for part, count in {"led": 2, "followed": 1, "took_over": 1}.items():
        assert f'registry_mirror_fetches_total{{mirror="mirror",part="{part}"}} {count}.0' in text
    assert 'registry_mirror_fetch_failures_total{mirror="mirror",reason="wrong"} 1.0' in text
    assert 'registry_mirror_fetches_in_flight{mirror="mirror"} 0.0' in text

"""Clients that a fetch is too slow for have their bytes from the upstream beside it, without storing them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace

import pytest

from registry.images.fetching import passing
from registry.images.fetching.content import FetchFailed, Reason
from registry.observability.metrics.fetch_metrics import FetchMetrics
from registry.observability.metrics.instruments import Instruments
from registry.storage.driver import StorageDriver
from tests.images.fetching.scripted import (
    PIECE,
    WAIT,
    Cut,
    Gate,
    ScriptedUpstream,
    await_head,
    await_ready,
    join,
    read_all,
    read_up_to,
)
from tests.images.fetching.test_hub import DATA, HALF, OTHER, Worlds, is_absent, wait_until
from tests.support.registry_world import World

pytestmark = pytest.mark.parametrize("kind", ["memory"])
PATIENCE = 5.0
"""Seconds of the clock that a client waits for the fetch of another process; a lease lasts longer."""


@pytest.fixture
def worlds(world: World) -> Iterator[Worlds]:
    with ExitStack() as stack:
        yield Worlds(world, stack)


@pytest.fixture
def upstream() -> ScriptedUpstream:
    return ScriptedUpstream(DATA)


@pytest.fixture
def blind(worlds: Worlds) -> StorageDriver:
    """A store whose uploads cannot be read."""
    driver = worlds.world.driver()
    driver.capabilities = replace(driver.capabilities, readable_uploads=False)
    return driver


def wait_for_long(worlds: Worlds) -> None:
    """Let the time go by that a client waits for another process."""
    worlds.world.clock.now += PATIENCE + 1


@pytest.fixture
def stalled(worlds: Worlds, blind: StorageDriver) -> Iterator[ScriptedUpstream]:
    """What another process fetches, which comes to no end before the test."""
    assert not blind.capabilities.readable_uploads
    slow = ScriptedUpstream(DATA)
    slow.on_piece = gate = Gate(HALF)
    with join(worlds.hub(renewal=0.01), slow):
        assert gate.reached.wait(WAIT)
        yield slow
        gate.opened.set()


def test_a_client_that_waits_for_long_has_the_blob_from_the_upstream(
    worlds: Worlds, stalled: ScriptedUpstream, upstream: ScriptedUpstream
) -> None:
    make = Instruments()
    registry, hub = worlds.process(listener=FetchMetrics(make), follow_timeout=PATIENCE)
    with join(hub, upstream) as reader:
        assert not await_ready(reader, 0.2)
        wait_for_long(worlds)
        assert await_head(reader) == (len(DATA), "application/octet-stream")
        assert not reader.needs_proof
        assert read_up_to(reader, len(DATA)) == DATA
        assert reader.is_done
    assert upstream.requests == [0]
    assert is_absent(registry, upstream.digest), "nothing of it is stored"
    assert 'part="passed_late"} 1.0' in make.render().decode()
    wait_until(lambda: upstream.closed == 1)
    assert len(stalled.requests) == 1


@pytest.mark.parametrize(("begin", "stop"), [(0, 1000), (HALF, HALF + 3 * PIECE), (len(DATA) - 1, None)])
def test_a_range_of_such_a_client_is_asked_for_alone(
    worlds: Worlds, stalled: ScriptedUpstream, upstream: ScriptedUpstream, begin: int, stop: int | None
) -> None:
    assert stalled.digest == upstream.digest
    with join(worlds.hub(follow_timeout=PATIENCE), upstream) as reader:
        wait_for_long(worlds)
        await_head(reader)
        reader.want(begin, stop)
        assert read_up_to(reader, len(DATA)) == DATA[begin:stop]
        assert reader.is_done
    assert upstream.requests == [0, begin]


def test_of_wrong_bytes_a_byte_is_missing(worlds: Worlds, stalled: ScriptedUpstream) -> None:
    wrong = ScriptedUpstream(OTHER)
    with join(worlds.hub(follow_timeout=PATIENCE), wrong, digest=stalled.digest) as reader:
        wait_for_long(worlds)
        await_head(reader)
        with pytest.raises(Cut) as cut:
            read_up_to(reader, len(OTHER))
        assert cut.value.failure.reason is Reason.WRONG
        assert cut.value.data == OTHER[:-1]
    assert wrong.misses == 1


def test_an_upstream_that_does_not_answer_leaves_the_client_with_the_fetch(
    worlds: Worlds, blind: StorageDriver, upstream: ScriptedUpstream
) -> None:
    assert not blind.capabilities.readable_uploads

    def refuse(_number: int) -> None:
        raise FetchFailed(Reason.UNAVAILABLE, "no")

    slow = ScriptedUpstream(DATA)
    slow.on_piece = gate = Gate(HALF)
    upstream.on_open = refuse
    with join(worlds.hub(renewal=0.01), slow), join(worlds.hub(follow_timeout=PATIENCE), upstream) as reader:
        assert gate.reached.wait(WAIT)
        wait_for_long(worlds)
        wait_until(lambda: len(upstream.requests) == 1)
        gate.opened.set()
        assert read_up_to(reader, len(DATA)) == DATA


def test_a_slow_client_takes_little_memory_and_no_thread(
    worlds: Worlds, stalled: ScriptedUpstream, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passing, "MOST", 4 * PIECE)
    assert stalled.digest == upstream.digest
    hub = worlds.hub(follow_timeout=PATIENCE)
    with ExitStack() as stack:
        slow = [stack.enter_context(join(hub, upstream)) for _ in range(6)]
        wait_for_long(worlds)
        for reader in slow:
            await_head(reader)
            assert read_up_to(reader, 10) == DATA[:10]
        wait_until(lambda: not any(reader.client.passing._is_running for reader in slow if reader.client.passing))
        assert upstream.sent <= 6 * 6 * PIECE
        for reader in slow:
            assert read_up_to(reader, len(DATA)) == DATA[10:]


def test_no_more_clients_than_said_are_passed_on_at_a_time(
    worlds: Worlds, stalled: ScriptedUpstream, upstream: ScriptedUpstream
) -> None:
    assert stalled.digest == upstream.digest
    hub = worlds.hub(passings=2, follow_timeout=PATIENCE)
    with ExitStack() as stack:
        readers = [stack.enter_context(join(hub, upstream)) for _ in range(5)]
        wait_for_long(worlds)
        for _ in range(5):
            wait_until(lambda: any(reader.client.passing for reader in readers))
            assert sum(reader.client.passing is not None for reader in readers) <= 2
            ready = next(reader for reader in readers if reader.client.passing)
            readers.remove(ready)
            assert read_all(ready) == DATA


def test_a_process_that_ends_cuts_them(worlds: Worlds, stalled: ScriptedUpstream, upstream: ScriptedUpstream) -> None:
    assert stalled.digest == upstream.digest
    upstream.on_piece = gate = Gate(4 * PIECE)
    hub = worlds.hub(follow_timeout=PATIENCE)
    with join(hub, upstream) as reader:
        wait_for_long(worlds)
        await_head(reader)
        read_up_to(reader, 10)
        assert gate.reached.wait(WAIT)
        hub.close()
        with pytest.raises(Cut) as cut:
            read_up_to(reader, len(DATA))
        assert cut.value.failure.reason is Reason.STOPPED
        gate.opened.set()


def test_a_range_far_ahead_is_not_waited_for(worlds: Worlds, upstream: ScriptedUpstream) -> None:
    gate, ahead = Gate(PIECE), ScriptedUpstream(DATA)
    upstream.on_piece = gate
    hub = worlds.hub(ahead=HALF)
    with join(hub, upstream) as first, hub.join("mirror", "hub/team/other", ahead.digest, ahead) as reader:
        assert gate.reached.wait(WAIT)
        await_head(reader)
        reader.want(HALF + 2 * PIECE, HALF + 4 * PIECE)
        assert read_up_to(reader, len(DATA)) == DATA[HALF + 2 * PIECE : HALF + 4 * PIECE]
        assert ahead.requests == [HALF + 2 * PIECE]
        with join(hub, upstream) as near:
            await_head(near)
            near.want(HALF, None)
            assert not await_ready(near, 0.2), "it is waited for"
            gate.opened.set()
            assert read_up_to(near, len(DATA)) == DATA[HALF:]
        assert read_up_to(first, len(DATA)) == DATA
    assert upstream.requests == [0]

"""Bytes of one repository are shown to no other one whose upstream has them not (I12; check 20 of mirrors)."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from registry.images.fetching.content import FetchFailed, ProofNeeded, Reason
from registry.images.fetching.hub import FetchHub
from registry.images.fetching.reader import FetchReader
from registry.images.registry import Registry
from registry.oci.digest import Digest
from registry.oci.errors import BlobUnknown, NameUnknown
from tests.images.fetching.scripted import (
    PIECE,
    WAIT,
    Cut,
    Gate,
    ScriptedUpstream,
    await_head,
    await_ready,
    in_threads,
    read_all,
    read_up_to,
)
from tests.images.fetching.test_hub import DATA, HALF, Worlds, content_of, wait_until
from tests.support.registry_world import World

OURS, FOREIGN = "hub/team/ours", "hub/team/foreign"


@pytest.fixture
def worlds(world: World) -> Iterator[Worlds]:
    with ExitStack() as stack:
        yield Worlds(world, stack)


@pytest.fixture
def ours() -> ScriptedUpstream:
    """The path of the repository that has the blob."""
    return ScriptedUpstream(DATA)


@pytest.fixture
def foreign() -> ScriptedUpstream:
    """The path of one that does not."""

    def refuse(_number: int) -> None:
        raise FetchFailed(Reason.ABSENT, "it is not here")

    upstream = ScriptedUpstream(DATA)
    upstream.on_open = refuse
    return upstream


def unproven(hub: FetchHub, upstream: ScriptedUpstream, repository: str) -> FetchReader:
    return hub.join("mirror", repository, upstream.digest, upstream, is_proven=False)


def await_news(reader: FetchReader) -> None:
    """Wait until it is known how the answer begins, or what it needs."""
    ready = threading.Event()
    if reader.watch_head(ready.set) is not None:
        assert ready.wait(WAIT), "nothing came of it"


def gets_nothing(reader: FetchReader) -> None:
    """It is told that it needs a proof, and has no byte without one."""
    await_news(reader)
    assert reader.needs_proof
    for get in (reader.head, lambda: reader.read(1)):
        with pytest.raises(ProofNeeded):
            get()
    assert not reader.is_done


def is_member(registry: Registry, upstream: ScriptedUpstream, repository: str) -> bool:
    try:
        registry.blobs.find(repository, upstream.digest)
    except (BlobUnknown, NameUnknown):
        return False
    return True


def test_the_only_client_needs_no_proof(worlds: Worlds, ours: ScriptedUpstream) -> None:
    registry, hub = worlds.process()
    with unproven(hub, ours, OURS) as reader:
        assert await_head(reader)[0] == len(DATA)
        assert not reader.needs_proof
        assert read_up_to(reader, len(DATA)) == DATA
    assert content_of(registry, ours.digest, OURS) == DATA
    assert ours.requests == [0]


@pytest.mark.parametrize("is_elsewhere", [False, True], ids=["one process", "two processes"])
def test_a_fetch_in_flight_gives_nothing_without_a_proof(
    worlds: Worlds, ours: ScriptedUpstream, foreign: ScriptedUpstream, is_elsewhere: bool
) -> None:
    ours.on_piece = gate = Gate(HALF)
    registry, hub = worlds.process(flush=0.0)
    other = worlds.hub() if is_elsewhere else hub
    with unproven(hub, ours, OURS) as reader, ExitStack() as stack:
        assert gate.reached.wait(WAIT)
        without, proven = (stack.enter_context(unproven(other, foreign, name)) for name in (FOREIGN, "hub/team/third"))
        for each in (without, proven):
            gets_nothing(each)
        proven.prove()
        assert await_head(proven)[0] == len(DATA)
        assert read_up_to(proven, HALF - 1) == DATA[: HALF - 1]
        gate.opened.set()
        assert read_up_to(reader, len(DATA)) == DATA
        assert read_up_to(proven, len(DATA)) == DATA[HALF - 1 :]
        gets_nothing(without)
        late = stack.enter_context(unproven(other, foreign, FOREIGN))
        gets_nothing(late)
        assert not is_member(registry, ours, FOREIGN)
        late.prove()
        for each in (without, late):
            assert read_up_to(each, len(DATA)) == DATA
        assert is_member(registry, ours, FOREIGN)
    assert (ours.requests, foreign.requests) == ([0], [])
    wait_until(lambda: other.count() == hub.count() == 0)


@pytest.mark.parametrize("is_elsewhere", [False, True], ids=["one process", "two processes"])
def test_a_fetch_whose_clients_have_left_for_want_of_a_proof_is_forgotten(
    worlds: Worlds, ours: ScriptedUpstream, foreign: ScriptedUpstream, is_elsewhere: bool
) -> None:
    registry, hub = worlds.process()
    assert read_all(unproven(hub, ours, OURS)) == DATA
    other = worlds.hub() if is_elsewhere else hub
    with unproven(other, foreign, FOREIGN) as reader:
        gets_nothing(reader)
        with unproven(other, ours, OURS) as member:
            assert read_up_to(member, len(DATA)) == DATA
        assert other.count() == 1
    wait_until(lambda: other.count() == 0)
    assert not is_member(registry, ours, FOREIGN)
    assert foreign.requests == []


def test_clients_of_one_repository_in_two_processes_need_no_proof(worlds: Worlds, ours: ScriptedUpstream) -> None:
    ours.on_piece = gate = Gate(HALF)
    hub, other = worlds.hub(flush=0.0), worlds.hub()
    with unproven(hub, ours, OURS) as reader:
        assert gate.reached.wait(WAIT)
        with unproven(other, ours, OURS) as follower:
            assert await_head(follower)[0] == len(DATA)
            assert not follower.needs_proof
            gate.opened.set()
            assert read_up_to(reader, len(DATA)) == read_up_to(follower, len(DATA)) == DATA


@pytest.mark.parametrize("kept", [HALF, len(DATA)], ids=["some", "all"])
def test_what_an_earlier_leader_kept_for_another_repository_needs_a_proof(
    worlds: Worlds, ours: ScriptedUpstream, foreign: ScriptedUpstream, kept: int
) -> None:
    stop = threading.Event()

    def end(offset: int) -> None:
        if offset >= HALF and not stop.is_set():
            stop.set()
            raise FetchFailed(Reason.UNAVAILABLE, "it does not answer")

    ours.on_piece = end
    if kept == HALF:
        in_threads([unproven(worlds.hub(flush=0.0), ours, OURS)])
        worlds.world.clock.now += 11
    else:
        keep_all(worlds, ours)
    registry, other = worlds.process()
    with unproven(other, foreign, FOREIGN) as reader:
        gets_nothing(reader)
        assert not await_ready_without_proof(reader)
        assert foreign.requests == []
        reader.prove()
        foreign.on_open = lambda _number: None
        assert read_up_to(reader, len(DATA)) == DATA
    assert foreign.requests == ([HALF] if kept == HALF else [])
    assert is_member(registry, ours, FOREIGN)


def await_ready_without_proof(reader: FetchReader) -> bool:
    """Whether it comes to bytes."""
    return await_ready(reader, 0.3) and not reader.needs_proof


def keep_all(worlds: Worlds, ours: ScriptedUpstream) -> None:
    """Let a leader end between the last byte and the publication."""
    hub = worlds.hub(flush=0.0)
    ours.on_piece = gate = Gate(len(DATA) - 123)
    with unproven(hub, ours, OURS):
        assert gate.reached.wait(WAIT)
        hub._stopping.set()
        gate.opened.set()
        hub.close()


def test_a_repository_that_is_refused_takes_nothing_from_another_one(
    worlds: Worlds, ours: ScriptedUpstream, foreign: ScriptedUpstream
) -> None:
    gate = Gate(0)
    refuse = foreign.on_open

    def wait(number: int) -> None:
        gate(number)
        refuse(number)

    foreign.on_open = wait
    registry, hub = worlds.process()
    with unproven(hub, foreign, FOREIGN) as reader, unproven(hub, ours, OURS) as client:
        assert gate.reached.wait(WAIT)
        gets_nothing(client)
        client.prove()
        gate.opened.set()
        with pytest.raises(FetchFailed) as failed:
            await_head(reader)
        assert failed.value.reason is Reason.ABSENT
        assert read_up_to(client, len(DATA)) == DATA
    assert foreign.misses == 1
    assert (foreign.requests, ours.requests) == ([0], [0])
    assert not is_member(registry, ours, FOREIGN)


@pytest.mark.parametrize("reason", [Reason.ABSENT, Reason.DENIED, Reason.INVALID, Reason.WRONG])
def test_what_the_upstream_says_of_one_repository_keeps_no_other_one_waiting(
    worlds: Worlds, ours: ScriptedUpstream, foreign: ScriptedUpstream, reason: Reason
) -> None:
    def refuse(_number: int) -> None:
        raise FetchFailed(reason, "no")

    foreign.on_open = refuse
    hub, other = worlds.hub(), worlds.hub()
    for _ in range(2):
        with unproven(hub, foreign, FOREIGN) as reader, pytest.raises(FetchFailed) as failed:
            await_head(reader)
        assert failed.value.reason is reason
    assert len(foreign.requests) == (2 if reason is Reason.DENIED else 1)
    assert read_all(unproven(other, ours, OURS)) == DATA


def pull(hub: FetchHub, upstream: ScriptedUpstream, name: str, *, has_proof: bool) -> bytes | Reason | None:
    """What a client has that shows a proof when it is asked for one, if it has one; None where it has not."""
    with unproven(hub, upstream, name) as reader:
        try:
            await_news(reader)
            if reader.needs_proof and has_proof:
                reader.prove()
            return read_up_to(reader, len(DATA))
        except ProofNeeded:
            return None
        except Cut as cut:
            return cut.failure.reason


def test_two_processes_at_once_of_which_one_has_no_right(
    worlds: Worlds, ours: ScriptedUpstream, foreign: ScriptedUpstream
) -> None:
    registry, hub = worlds.process()
    other = worlds.hub()
    chosen = random.Random(5)
    for number in range(12):
        ours.data = foreign.data = DATA[: PIECE * 3 + number]
        ours.digest = foreign.digest = Digest.of(ours.data)
        hubs = [hub, other]
        chosen.shuffle(hubs)
        with ThreadPoolExecutor(2) as pool:
            without = pool.submit(pull, hubs[0], foreign, FOREIGN, has_proof=False)
            assert pool.submit(pull, hubs[1], ours, OURS, has_proof=True).result(WAIT) == ours.data
            assert without.result(WAIT) in (None, Reason.ABSENT)
        assert not is_member(registry, ours, FOREIGN)


def test_a_wrong_size_in_a_manifest_is_the_matter_of_its_clients_alone(worlds: Worlds, ours: ScriptedUpstream) -> None:
    ours.on_open = gate = Gate(0)
    hub, other = worlds.hub(), worlds.hub()
    with hub.join("mirror", FOREIGN, ours.digest, ours, size=7) as misled:
        assert gate.reached.wait(WAIT)
        with hub.join("mirror", OURS, ours.digest, ours, size=len(DATA)) as client:
            gate.opened.set()
            with pytest.raises(FetchFailed) as failed:
                await_head(misled)
            assert failed.value.reason is Reason.INVALID
            assert read_up_to(client, len(DATA)) == DATA
    with other.join("mirror", FOREIGN, ours.digest, ours, size=7) as reader, pytest.raises(FetchFailed):
        await_head(reader)

"""A silent upstream holds back no process that ends, and no connection is left unwanted (check 9 of mirrors)."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from registry.database.mirrors import fetches
from registry.images.fetching.content import Reason
from registry.images.registry import Registry
from registry.mirror.remote_blob import RemoteBlob
from registry.oci.digest import Digest
from registry.storage.middleware.faults import Fault, FaultyDriver
from tests.images.fetching.scripted import WAIT, Cut, hub_of, in_threads, read_all, read_up_to
from tests.mirror.served_blob import ServedBlob
from tests.support.registry_world import KINDS, REPLICAS_KIND, World, open_world
from tests.upstream.hostile import HostileServer, Silence, hostile_server, upstream_of

DATA = random.Random(27).randbytes(3_000_000)
DIGEST = Digest.of(DATA)
PATH = f"/v2/team/app/blobs/{DIGEST}"
REPOSITORY = "hub/team/app"
HALF = 1_500_000
HANGS = 300
"""Seconds that the upstream may be silent."""
SOON = 30
"""Seconds, for what takes one on a machine that has nothing else to do."""


@pytest.fixture(params=[*KINDS, REPLICAS_KIND])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    made = open_world(request, tmp_path, request.param)
    yield made
    made.close()


@pytest.fixture
def server() -> Iterator[HostileServer]:
    with hostile_server() as server:
        yield server


def silent_body(server: HostileServer) -> Silence:
    """The blob, whose second half never comes."""
    head = f'HTTP/1.1 200 OK\r\nContent-Length: {len(DATA)}\r\nETag: "one"\r\n\r\n'
    silence = server.replies[PATH] = Silence(head.encode() + DATA[:HALF])
    return silence


def silent_head(server: HostileServer) -> Silence:
    silence = server.replies[PATH] = Silence()
    return silence


def join(hub: Any, blob: RemoteBlob) -> Any:
    return hub.join("hub", REPOSITORY, DIGEST, blob)


def is_free(registry: Registry) -> bool:
    """Whether another process may lead at once."""
    with registry.backends.database.autocommit() as connection:
        row = fetches.find(connection, "hub", str(DIGEST)).get()
    return row is not None and bool(row.is_free)


@pytest.mark.parametrize("fall_silent", [silent_head, silent_body])
def test_a_process_ends_at_once_and_another_one_goes_on_where_it_was(
    world: World, server: HostileServer, fall_silent: Callable[[HostileServer], Silence]
) -> None:
    silence, registry = fall_silent(server), world.registry()
    other = world.registry()
    with upstream_of(server.url(), read_timeout=HANGS) as upstream, hub_of(other) as successor:
        blob = RemoteBlob(upstream, PATH, "")
        with hub_of(registry) as hub:
            reader = join(hub, blob)
            assert silence.reached.wait(WAIT)
            got = read_up_to(reader, HALF - 1) if silence.begin else b""
            follower = join(successor, blob)
            served = ServedBlob(server, DATA, path=PATH)
            begun = time.monotonic()
        assert time.monotonic() - begun < SOON
        assert silence.is_cut.wait(WAIT)
        (outcome,) = in_threads([reader])
        assert isinstance(outcome, Cut)
        assert outcome.failure.reason is Reason.STOPPED
        assert DATA.startswith(got + outcome.data)
        assert read_all(follower) == DATA
    assert served.starts == [HALF if silence.begin else 0], "what came is kept"


@pytest.mark.parametrize("fall_silent", [silent_head, silent_body])
def test_a_connection_that_no_client_wants_is_closed(
    world: World, server: HostileServer, fall_silent: Callable[[HostileServer], Silence]
) -> None:
    silence, registry = fall_silent(server), world.registry()
    with upstream_of(server.url(), read_timeout=HANGS) as upstream, hub_of(registry, fills=False) as hub:
        blob = RemoteBlob(upstream, PATH, "")
        with join(hub, blob):
            assert silence.reached.wait(WAIT)
            assert not silence.is_cut.wait(0.3), "it goes on while a client waits"
        assert silence.is_cut.wait(SOON)
        served = ServedBlob(server, DATA, path=PATH)
        assert read_all(join(hub, blob)) == DATA
    assert served.starts == [HALF if silence.begin else 0]


@pytest.mark.parametrize("world", ["memory"], indirect=True)
def test_a_connection_of_a_leader_whose_lease_has_ended_is_closed(world: World, server: HostileServer) -> None:
    silence = silent_body(server)
    with (
        upstream_of(server.url(), read_timeout=HANGS) as upstream,
        hub_of(world.registry(), renewal=1e9) as hub,
        hub_of(world.registry()) as other,
    ):
        blob = RemoteBlob(upstream, PATH, "")
        client = join(hub, blob)
        assert silence.reached.wait(WAIT)
        ServedBlob(server, DATA, path=PATH)
        world.clock.now += 16
        assert silence.is_cut.wait(SOON)
        assert read_all(join(other, blob)) == DATA
        assert in_threads([client])[0] == DATA or client.client.is_cut


@pytest.mark.parametrize("world", ["memory", "local"], indirect=True)
def test_a_leader_that_is_at_a_store_which_hangs_is_left_behind(world: World, server: HostileServer) -> None:
    hangs, go_on = threading.Event(), threading.Event()

    def wait() -> None:
        hangs.set()
        assert go_on.wait(WAIT)

    slow = FaultyDriver(world.driver(), [Fault("writer.write", first=3, effect=wait)])
    registry, other = world.registry(driver=slow), world.registry()
    ServedBlob(server, DATA, path=PATH)
    with upstream_of(server.url()) as upstream, hub_of(other) as successor:
        blob = RemoteBlob(upstream, PATH, "")
        with hub_of(registry, ending=0.2, flush=0.0) as hub:
            client = join(hub, blob)
            assert hangs.wait(WAIT)
        assert is_free(other)
        assert isinstance(in_threads([client])[0], Cut)
        assert read_all(join(successor, blob)) == DATA
        go_on.set()
        assert read_all(join(successor, blob)) == DATA

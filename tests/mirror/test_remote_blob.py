"""One fetch from a server of another organisation, whatever that does in the middle of it (checks 3 to 7)."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from registry.images.fetching.content import FetchFailed, Reason
from registry.images.fetching.hub import FetchHub
from registry.images.fetching.passing import Passing
from registry.mirror.remote_blob import RemoteBlob
from registry.oci.digest import Digest
from tests.images.fetching.scripted import Cut, await_head, hub_of, in_threads, read_all
from tests.mirror.served_blob import ServedBlob
from tests.support.registry_world import World
from tests.upstream.hostile import Handler, HostileServer, hostile_server, upstream_of, whole

DATA = random.Random(21).randbytes(3_000_000)
OTHER = random.Random(22).randbytes(3_000_000)
REPOSITORY = "hub/team/app"
PATH = "/v2/team/app/blobs/x"


@pytest.fixture
def server() -> Iterator[HostileServer]:
    with hostile_server() as server:
        yield server


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path, "local")
    yield made
    made.close()


@pytest.fixture
def hub(world: World) -> Iterator[FetchHub]:
    with hub_of(world.registry()) as hub:
        yield hub


def join(hub: FetchHub, blob: RemoteBlob, digest: Digest) -> Any:
    return hub.join("hub", REPOSITORY, digest, blob)


def test_a_blob_arrives_whole_whatever_breaks_off(server: HostileServer, hub: FetchHub) -> None:
    served = ServedBlob(server, DATA, path=PATH)
    served.cuts = {500_000, 1_500_000, 2_000_000}
    with upstream_of(server.url()) as upstream:
        reader = join(hub, RemoteBlob(upstream, PATH, "repository:team/app:pull"), served.digest)
        assert await_head(reader) == (len(DATA), "application/octet-stream")
        assert read_all(reader) == DATA
    assert len(served.starts) == 4
    assert served.sent == len(DATA)


def test_twenty_clients_are_one_request(server: HostileServer, hub: FetchHub, world: World) -> None:
    served = ServedBlob(server, DATA, path=PATH)
    with upstream_of(server.url()) as upstream, hub_of(world.registry()) as other:
        blob = RemoteBlob(upstream, PATH, "")
        readers = [join(each, blob, served.digest) for each in (hub, other) for _ in range(10)]
        assert in_threads(readers) == [DATA] * 20
    assert (served.starts, served.sent) == ([0], len(DATA))


def test_content_that_changes_where_it_breaks_off_is_read_anew(server: HostileServer, hub: FetchHub) -> None:
    served = ServedBlob(server, OTHER, path=PATH)
    served.cuts = {1_000_000}

    def change() -> None:
        served.data, served.etag = DATA, '"two"'

    served.on_cut = change
    with upstream_of(server.url()) as upstream:
        blob = RemoteBlob(upstream, PATH, "")
        (outcome,) = in_threads([join(hub, blob, Digest.of(DATA))])
        assert outcome == DATA or (isinstance(outcome, Cut) and outcome.failure.reason is Reason.CUT)
        assert read_all(join(hub, blob, Digest.of(DATA))) == DATA


def test_wrong_bytes_are_cut(server: HostileServer, hub: FetchHub) -> None:
    ServedBlob(server, OTHER, path=PATH)
    with upstream_of(server.url()) as upstream:
        (outcome,) = in_threads([join(hub, RemoteBlob(upstream, PATH, ""), Digest.of(DATA))])
    assert isinstance(outcome, Cut)
    assert outcome.failure.reason is Reason.WRONG
    assert len(outcome.data) < len(OTHER)


@pytest.mark.parametrize(
    ("status", "headers", "reason", "seconds"),
    [
        (404, {}, Reason.ABSENT, 60),
        (410, {}, Reason.ABSENT, 60),
        (403, {}, Reason.DENIED, None),
        (429, {"Retry_After": "120"}, Reason.THROTTLED, 120),
        (429, {}, Reason.THROTTLED, 60),
        (503, {"Retry_After": "7"}, Reason.THROTTLED, 7),
        (500, {}, Reason.UNAVAILABLE, 10),
        (302, {}, Reason.INVALID, 60),
        (418, {}, Reason.INVALID, 60),
    ],
)
def test_an_answer_that_is_none_is_an_error_before_any_byte(
    server: HostileServer, hub: FetchHub, status: int, headers: dict[str, str], reason: Reason, seconds: float | None
) -> None:
    server.replies[PATH] = whole(status, b"no", **headers)
    with (
        upstream_of(server.url()) as upstream,
        join(hub, RemoteBlob(upstream, PATH, ""), Digest.of(DATA)) as reader,
        pytest.raises(FetchFailed) as failed,
    ):
        await_head(reader)
    assert failed.value.reason is reason
    assert failed.value.seconds == (seconds if seconds is None else pytest.approx(seconds, abs=2))


def test_a_silent_upstream_is_an_error_in_time(server: HostileServer, hub: FetchHub) -> None:
    def hang(_handler: Handler) -> None:
        server.ended.wait(60)

    server.replies[PATH] = hang
    with (
        upstream_of(server.url(), read_timeout=0.3) as upstream,
        join(hub, RemoteBlob(upstream, PATH, ""), Digest.of(DATA)) as reader,
        pytest.raises(FetchFailed) as failed,
    ):
        await_head(reader)
    assert failed.value.reason is Reason.UNAVAILABLE


@pytest.mark.parametrize("ignores_ranges", [False, True])
@pytest.mark.parametrize(("begin", "stop"), [(0, None), (0, 70_000), (1_000_000, 1_000_001), (900_000, None)])
def test_parts_that_are_passed_on_come_whatever_breaks_off(
    server: HostileServer, ignores_ranges: bool, begin: int, stop: int | None
) -> None:
    served = ServedBlob(server, DATA)
    served.ignores_ranges = ignores_ranges
    served.cuts = {begin + 100_000, 1_500_000}
    with upstream_of(server.url()) as upstream:
        passing = Passing(
            RemoteBlob(upstream, served.path, ""), Digest.of(DATA), lambda work: work(), lambda _passing: None
        )
        passing.open(begin, stop)
        assert passing.size == len(DATA)
        got = b""
        while not passing.is_done:
            got += passing.read(300_000)
        passing.close()
    assert got == DATA[begin:stop]

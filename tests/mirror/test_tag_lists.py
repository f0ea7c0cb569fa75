"""What is listed of a mirrored repository, whatever its upstream does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from registry.oci.errors import BadGateway, NameUnknown, RegistryError, Unavailable
from tests.mirror.hostile_mirror import APP, HERE, HostileMirror, give, mirror_of
from tests.support.registry_world import World, make_image
from tests.upstream.hostile import HostileServer, Reply, hostile_server, whole

PATH = f"/v2/{APP}/tags/list"
ONE = make_image("one").manifest
STALE = '110 - "Response is Stale"'


@pytest.fixture(params=["memory"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def server() -> Iterator[HostileServer]:
    with hostile_server() as server:
        yield server


@pytest.fixture
def mirror(world: World, server: HostileServer) -> Iterator[HostileMirror]:
    with mirror_of(world.registry(mirrored=frozenset({"docker.io"})), server.url()) as mirror:
        yield mirror


def give_tags(server: HostileServer, *tags: str) -> None:
    server.replies[PATH] = whole(200, json.dumps({"name": APP, "tags": tags}).encode())


def lists(server: HostileServer) -> int:
    """How often the upstream was asked for the list."""
    return sum(path.startswith(PATH) for path in server.paths())


def test_the_upstream_is_asked_once_in_the_time_of_the_mirror(
    world: World, server: HostileServer, mirror: HostileMirror
) -> None:
    give_tags(server, "b", "a", "c")
    listed = mirror.tags()
    assert listed.tags == ["a", "b", "c"]
    assert listed.headers() == {"X-Artifact-Source": "remote", "Age": "0"}
    assert 59 < listed.fresh_for <= 60
    assert mirror.tags(last="a", count=1).tags == ["b"]
    assert mirror.tags(last="c").tags == []
    assert lists(server) == 1
    give_tags(server, "d")
    world.clock.now += 61
    assert mirror.tags().tags == ["d"]
    assert lists(server) == 2


def test_many_clients_are_one_request(server: HostileServer, mirror: HostileMirror) -> None:
    give_tags(server, "a")
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: mirror.tags().tags, range(32)))
    assert found == [["a"]] * 32
    assert lists(server) == 1


FAULTS: dict[str, tuple[Reply, type[RegistryError]]] = {
    "500": (whole(500), BadGateway),
    "no list": (whole(200, b"<html>"), BadGateway),
    "418": (whole(418), BadGateway),
    "denied": (whole(403), NameUnknown),
}
table = pytest.mark.parametrize(("reply", "error"), FAULTS.values(), ids=FAULTS)


@table
def test_where_the_upstream_is_away_what_it_listed_before_is_served_as_stale(
    world: World, server: HostileServer, mirror: HostileMirror, reply: Reply, error: type[RegistryError]
) -> None:
    give(server, ONE, "v1")
    mirror.find("v1")
    give_tags(server, "v1", "v2")
    mirror.tags()
    server.replies[PATH] = reply
    world.clock.now += 100
    for _ in range(5):
        listed = mirror.tags()
        assert listed.tags == ["v1", "v2"]
        assert listed.headers() == {"X-Artifact-Source": "remote", "Age": "100", "Warning": STALE}
    assert lists(server) == 2, "one request, and a pause"
    assert error


@table
def test_where_it_listed_nothing_before_that_is_what_is_here(
    server: HostileServer, mirror: HostileMirror, reply: Reply, error: type[RegistryError]
) -> None:
    server.replies[PATH] = reply
    with pytest.raises(error, match=r"^mirror hub: "):
        mirror.tags()
    give(server, ONE, "v1", "v2")
    mirror.find("v2")
    mirror.find("v1")
    listed = mirror.tags()
    assert listed.tags == ["v1", "v2"]
    assert listed.headers() == {"X-Artifact-Source": "cache", "Warning": STALE}
    assert mirror.tags(last="v2").tags == []


def test_an_absence_is_remembered_by_all_processes_for_its_time(
    world: World, server: HostileServer, mirror: HostileMirror
) -> None:
    with mirror_of(world.registry(mirrored=frozenset({"docker.io"})), server.url()) as second:
        for _ in range(3):
            for each in (mirror, second):
                with pytest.raises(NameUnknown, match="mirror hub: the upstream has no repository library/app"):
                    each.tags()
        assert lists(server) == 1
        give_tags(server, "v1")
        world.clock.now += 61
        assert second.tags().tags == mirror.tags().tags == ["v1"]


def test_what_is_here_is_listed_although_the_upstream_has_the_repository_no_more(
    world: World, server: HostileServer, mirror: HostileMirror
) -> None:
    give(server, ONE, "v1")
    mirror.find("v1")
    assert (mirror.tags().tags, mirror.tags().is_stale) == (["v1"], True)
    assert lists(server) == 1
    assert mirror.tags_here() == ["v1"], "no thread of the mirror is needed for it"
    registry = world.registry(mirrored=frozenset({"docker.io"}))
    with mirror_of(registry, server.url(), on_delete="follow") as follower, pytest.raises(NameUnknown):
        follower.tags()


def test_an_offline_mirror_lists_what_is_here(world: World, server: HostileServer, mirror: HostileMirror) -> None:
    give(server, ONE, "v1")
    give_tags(server, "v1", "v2")
    mirror.find("v1")
    registry = world.registry(mirrored=frozenset({"docker.io"}))
    with mirror_of(registry, server.url(), offline=True) as offline:
        assert (offline.tags().tags, offline.tags().is_stale) == (["v1"], True)
        with pytest.raises(Unavailable, match="mirror hub is offline"):
            offline.tags(repository="docker.io/library/other")
    assert lists(server) == 0


def test_what_is_not_mirrored_is_not_listed(world: World, server: HostileServer) -> None:
    registry = world.registry(mirrored=frozenset({"docker.io"}))
    with (
        mirror_of(registry, server.url(), repositories=["team/**"]) as mirror,
        pytest.raises(NameUnknown, match=r"settings \(repositories\)"),
    ):
        mirror.tags(repository=HERE)
    assert server.seen == []

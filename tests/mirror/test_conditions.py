"""What operators are told of mirrors, by any process of any replica."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from registry.config.mirror_sections import MirrorSettings
from registry.database.mirrors import fetches
from registry.database.mirrors.fetches import Wanted
from registry.images.registry import Registry
from registry.mirror.conditions import Condition, MirrorCondition, conditions
from registry.mirror.patient_upstream import FAILS
from tests.mirror.hostile_mirror import HERE, HostileMirror, give, mirror_of, path_of, reply_all
from tests.support.registry_world import World, make_image, push_blob, push_image
from tests.upstream.hostile import HostileServer, hostile_server, whole

ONE = make_image("one")


@pytest.fixture(params=["memory"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def server() -> Iterator[HostileServer]:
    with hostile_server() as server:
        yield server


@pytest.fixture
def registry(world: World) -> Registry:
    return world.registry(mirrored=frozenset({"docker.io"}))


@pytest.fixture
def mirror(registry: Registry, server: HostileServer) -> Iterator[HostileMirror]:
    with mirror_of(registry, server.url()) as mirror:
        yield mirror


def condition(world: World, settings: MirrorSettings) -> MirrorCondition:
    """As another process tells it."""
    (found,) = conditions(world.registry().backends.database, [settings])
    return found


def ask(mirror: HostileMirror, reference: str = "v1") -> None:
    with pytest.raises(Exception, match="mirror hub"):
        mirror.find(reference)


def test_a_mirror_that_was_never_asked_is_in_order_and_empty(world: World, mirror: HostileMirror) -> None:
    found = condition(world, mirror.settings)
    assert found.document() == {
        "name": "hub",
        "prefix": "docker.io",
        "upstreams": [mirror.settings.url[0].removeprefix("http://")],
        "state": "ok",
        "asked_in": 0.0,
        "remaining": None,
        "error": None,
        "repositories": 0,
        "tags": 0,
        "bytes": 0,
        "fetches": 0,
    }


def test_what_is_here_is_counted_and_what_is_on_its_way(
    world: World, registry: Registry, server: HostileServer, mirror: HostileMirror
) -> None:
    give(server, ONE.manifest, "v1", "v2", RateLimit_Remaining="76;w=21600")
    for tag in ("v1", "v2"):
        mirror.find(tag)
    push_blob(registry, ONE.layer.data, HERE)
    push_image(registry, "ours", "v1")
    push_image(registry, "beside", "v1", name="docker.iox/app")
    with registry.backends.database.transaction() as connection:
        for name, key in (("hub", "sha256:1"), ("hub", "sha256:2"), ("other", "sha256:1")):
            fetches.claim(connection, Wanted(name, fetches.BLOB, key, HERE), holder="a", seconds=60)
        gone = fetches.claim(connection, Wanted("hub", fetches.BLOB, "sha256:3", HERE), holder="a", seconds=60)
        assert gone is not None
        fetches.release(connection, gone.id, epoch=gone.epoch)
    found = condition(world, mirror.settings)
    assert tuple(found.contents) == (1, 2, len(ONE.manifest.data) + len(ONE.layer.data), 2)
    assert (found.condition, found.remaining) == (Condition.OK, 76)


def test_a_pause_is_told_with_its_end_and_stays_as_the_last_error(
    world: World, server: HostileServer, mirror: HostileMirror
) -> None:
    reply_all(server, whole(429, Retry_After="120"), "v1")
    began = world.clock.now
    ask(mirror)
    found = condition(world, mirror.settings)
    assert found.condition is Condition.PAUSED
    assert 100 < found.asked_in <= 120
    assert found.error == "127.0.0.1 wants fewer requests: status 429"
    assert found.failed_at == pytest.approx(began, abs=30)
    world.clock.now += 121
    give(server, ONE.manifest, "v1")
    mirror.find()
    again = condition(world, mirror.settings)
    assert (again.condition, again.asked_in, again.error) == (Condition.OK, 0.0, found.error)


def test_one_that_does_not_answer_is_given_up(world: World, server: HostileServer, mirror: HostileMirror) -> None:
    for number in range(FAILS):
        reply_all(server, whole(500), f"v{number}")
        ask(mirror, f"v{number}")
    found = condition(world, mirror.settings)
    assert found.condition is Condition.GIVEN_UP
    assert 0 < found.asked_in <= 30
    assert found.error == "127.0.0.1 has a problem: status 500"


@pytest.mark.parametrize(
    ("status", "error"), [(401, "127.0.0.1 wants neither a token nor"), (403, "127.0.0.1 denies it: status 403")]
)
def test_a_refusal_is_an_error_of_an_upstream_that_answers(
    world: World, server: HostileServer, mirror: HostileMirror, status: int, error: str
) -> None:
    reply_all(server, whole(status), "v1")
    ask(mirror)
    found = condition(world, mirror.settings)
    assert found.condition is Condition.OK
    assert (found.error or "").startswith(error)
    world.clock.now += 10
    ask(mirror)
    assert condition(world, mirror.settings).failed_at == found.failed_at, "the same error is not written each time"
    world.clock.now += 50
    ask(mirror)
    assert (condition(world, mirror.settings).failed_at or 0) > (found.failed_at or 0)


def test_an_absence_is_no_error(world: World, mirror: HostileMirror) -> None:
    ask(mirror)
    assert condition(world, mirror.settings).error is None


def test_other_settings_begin_anew(world: World, server: HostileServer, mirror: HostileMirror) -> None:
    reply_all(server, whole(429, Retry_After="120"), "v1")
    ask(mirror)
    other = mirror.settings.model_copy(update={"ttl": 5})
    assert condition(world, other)[3:8] == (Condition.OK, 0.0, None, None, None)
    with mirror_of(world.registry(mirrored=frozenset({"docker.io"})), server.url(), ttl=5) as new:
        give(server, ONE.manifest, "v1")
        new.find()
        assert condition(world, new.settings)[3:8] == (Condition.OK, 0.0, None, None, None)


def test_one_that_is_offline_says_so(world: World, server: HostileServer, mirror: HostileMirror) -> None:
    reply_all(server, whole(429, Retry_After="120"), "v1")
    ask(mirror)
    found = condition(world, mirror.settings.model_copy(update={"offline": True}))
    assert (found.condition, found.asked_in) == (Condition.OFFLINE, 0.0)
    assert path_of("v1") in server.paths()

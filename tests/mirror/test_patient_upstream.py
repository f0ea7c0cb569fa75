"""All replicas leave an upstream alone that wants it, and one finds out whether it answers again."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from registry.config.mirror_sections import MirrorSettings
from registry.database.mirrors import mirror_states
from registry.database.mirrors.mirror_states import MirrorStateRow
from registry.mirror.patient_upstream import PatientUpstream, UpstreamGivenUp
from registry.upstream.download import Goal
from registry.upstream.errors import (
    AddressRefused,
    AnswerInvalid,
    TokenUnavailable,
    UpstreamDenied,
    UpstreamError,
    UpstreamSilent,
    UpstreamThrottled,
    UpstreamUnavailable,
)
from registry.upstream.url import parse_url
from tests.mirror.hostile_mirror import path_of, reply_all
from tests.support.registry_world import World
from tests.upstream.hostile import Handler, hostile_server, upstream_of, whole


class Headed:
    """An answer, as far as it is looked at."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        self.headers = headers


class Scripted:
    """An upstream that answers, or fails as a test says."""

    def __init__(self) -> None:
        self.fault: UpstreamError | None = None
        self.headers: dict[str, str] = {}
        self.count = 0

    def request(self, *_arguments: Any, **_keys: Any) -> Any:
        self.count += 1
        if self.fault is not None:
            raise self.fault
        return Headed(self.headers)

    def request_at(self, *_arguments: Any, **_keys: Any) -> Any:
        return self.request()


@pytest.fixture
def upstream() -> Scripted:
    return Scripted()


def patient(world: World, upstream: Scripted, **keys: Any) -> PatientUpstream:
    section = {"name": "hub", "url": ["https://hub.example.org"], "prefix": "docker.io", **keys}
    return PatientUpstream(MirrorSettings.model_validate(section), upstream, world.registry().backends.database)


def state(world: World) -> MirrorStateRow:
    with world.registry().backends.database.autocommit() as connection:
        found = mirror_states.find(connection, "hub").get()
    assert found is not None
    return found


def ask(each: PatientUpstream) -> str:
    """The name of the error; empty for an answer."""
    try:
        each.request("GET", "/v2/")
    except UpstreamError as error:
        return type(error).__name__
    return ""


def test_a_next_page_waits_as_every_request_does(world: World, upstream: Scripted) -> None:
    one, page = patient(world, upstream), parse_url("https://hub.example.org/v2/app/tags/list?last=x")
    upstream.fault = UpstreamThrottled("slower", 120)
    with pytest.raises(UpstreamThrottled):
        one.request_at("GET", page)
    assert (ask(one), upstream.count) == ("UpstreamThrottled", 1)
    with pytest.raises(UpstreamThrottled):
        one.request_at("GET", page)
    assert upstream.count == 1


def test_no_replica_asks_while_a_pause_lasts(world: World, upstream: Scripted) -> None:
    first, second = (patient(world, upstream) for _ in range(2))
    upstream.fault = UpstreamThrottled("hub.example.org wants fewer requests: status 429", 120.0)
    assert ask(first) == "UpstreamThrottled"
    upstream.fault = None
    for _ in range(3):
        with pytest.raises(UpstreamThrottled, match="status 429") as raised:
            second.request("HEAD", "/v2/")
        assert raised.value.seconds == pytest.approx(120, abs=1)
        assert ask(first) == "UpstreamThrottled"
    assert upstream.count == 1
    world.clock.now += 121
    assert ask(second) == ""
    assert upstream.count == 2


def test_an_upstream_that_does_not_say_how_long_is_left_alone_for_longer_each_time(
    world: World, upstream: Scripted
) -> None:
    each = patient(world, upstream)
    upstream.fault = UpstreamThrottled("too many", None)
    pauses = []
    for _ in range(6):
        with pytest.raises(UpstreamThrottled) as raised:
            each.request("GET", "/v2/")
        pauses.append(raised.value.seconds)
        world.clock.now += (raised.value.seconds or 0) + 1
        upstream.fault = UpstreamThrottled("too many", None)
    assert pauses == [60, 120, 240, 480, 900, 900]
    upstream.fault = None
    assert ask(each) == ""
    upstream.fault = UpstreamThrottled("too many", None)
    assert ask(each) == "UpstreamThrottled"
    assert state(world).pause == pytest.approx(60, abs=1)


@pytest.mark.parametrize("fault", [UpstreamUnavailable("away"), UpstreamSilent("silent"), TokenUnavailable("no token")])
def test_an_upstream_that_does_not_answer_is_asked_by_one_replica_each_half_minute(
    world: World, upstream: Scripted, fault: UpstreamError
) -> None:
    first, second = (patient(world, upstream) for _ in range(2))
    upstream.fault = fault
    assert [ask(each) for each in (first, second, first)] == [type(fault).__name__] * 3
    for _ in range(3):
        upstream.count = 0
        with pytest.raises(UpstreamGivenUp, match=str(fault)) as raised:
            first.request("GET", "/v2/")
        assert 0 < raised.value.seconds <= 30
        assert upstream.count == 0
        world.clock.now += 31
        with ThreadPoolExecutor(8) as pool:
            found = sorted(pool.map(ask, (first, second) * 4))
        assert found == sorted([type(fault).__name__] + ["UpstreamGivenUp"] * 7)
        assert upstream.count == 1
    upstream.fault = None
    world.clock.now += 31
    assert [ask(each) for each in (second, first, second)] == ["", "", ""]
    assert (state(world).fails, state(world).error) == (0, None)


@pytest.mark.parametrize("kind", ["memory"])
@pytest.mark.parametrize("fault", [UpstreamDenied("403"), AddressRefused("10.0.0.1"), AnswerInvalid("encoded")])
def test_an_answer_that_is_of_no_use_is_an_answer(world: World, upstream: Scripted, fault: UpstreamError) -> None:
    each = patient(world, upstream)
    for _ in range(5):
        upstream.fault = UpstreamUnavailable("away")
        assert [ask(each), ask(each)] == ["UpstreamUnavailable"] * 2
        upstream.fault = fault
        assert ask(each) == type(fault).__name__


@pytest.mark.parametrize("kind", ["memory"])
def test_a_limit_of_the_realm_is_one_of_the_upstream(world: World, upstream: Scripted) -> None:
    each = patient(world, upstream)
    upstream.fault = TokenUnavailable("the realm wants fewer requests", 30.0)
    assert ask(each) == "TokenUnavailable"
    assert ask(each) == "UpstreamThrottled"


def test_other_settings_ask_at_once(world: World, upstream: Scripted) -> None:
    each = patient(world, upstream)
    upstream.fault = UpstreamThrottled("too many", 600.0)
    assert ask(each) == "UpstreamThrottled"
    upstream.fault = None
    assert ask(patient(world, upstream)) == "UpstreamThrottled"
    assert ask(patient(world, upstream, ttl=61)) == ""
    assert ask(each) == "", "for all replicas"


def test_the_requests_that_are_left_are_noted_as_the_upstream_says_them(world: World, upstream: Scripted) -> None:
    each = patient(world, upstream)
    for said, left in (("76;w=21600", 76), ("75;w=21600", 75), ("", 75)):
        upstream.headers = {"RateLimit-Remaining": said} if said else {}
        assert ask(each) == ""
        assert state(world).remaining == left


@pytest.mark.parametrize("kind", ["memory"])
def test_a_download_waits_as_every_request_does_also_where_it_is_resumed(world: World) -> None:
    data = b"0123456789"

    def half(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data[:5])
        reply_all(server, whole(429, Retry_After="120"), "blob")
        handler.cut()

    with hostile_server() as server, upstream_of(server.url()) as upstream:
        section = {"name": "hub", "url": [server.url()], "prefix": "docker.io"}
        each = PatientUpstream(MirrorSettings.model_validate(section), upstream, world.registry().backends.database)
        reply_all(server, half, "blob")
        goal = Goal(hashlib.sha256())
        with each.download(path_of("blob"), scope="", goal=goal) as download:
            assert download.read(100) == data[:5]
            for _ in range(2):
                with pytest.raises(UpstreamThrottled):
                    download.read(100)
        assert len(server.seen) == 2
        reply_all(server, whole(206, data[5:], Content_Range="bytes 5-9/10"), "blob")
        world.clock.now += 121
        with each.download(path_of("blob"), scope="", goal=goal) as download:
            assert download.read(100) == data[5:]
            assert download.read(100) == b""
    assert goal.hasher.digest() == hashlib.sha256(data).digest()

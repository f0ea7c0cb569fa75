"""The table of failures: fault x cached or not x tag or digest, over real connections.

These are checks 12, 13, 16, 17 and 18 of mirrors.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest

from registry.mirror.patient_upstream import FAILS
from registry.oci import media_types
from registry.oci.errors import RegistryError
from tests.mirror.hostile_mirror import HERE, give, mirror_of, path_of, reply_all
from tests.support.payloads import digest_of
from tests.support.registry_world import World, make_image, tags
from tests.upstream.hostile import Handler, HostileServer, Reply, hostile_server, redirect, whole
from tests.upstream.test_client import closed_port

ONE, TWO = make_image("one").manifest, make_image("two").manifest
SCHEMA1 = json.dumps({"schemaVersion": 1, "name": "app", "tag": "v1", "fsLayers": []}).encode()
SILENCE = 0.3
"""Seconds that a server may be silent in these tests, where it hangs."""


@pytest.fixture(params=["memory"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def server() -> Iterator[HostileServer]:
    with hostile_server() as server:
        yield server


def hang(handler: Handler) -> None:
    handler.hostile.ended.wait(60)


def cut_head(handler: Handler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-")
    handler.cut()


def cut_body(handler: Handler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Type", TWO.media_type)
    handler.send_header("Content-Length", str(len(TWO.data)))
    handler.end_headers()
    if handler.command != "HEAD":
        handler.wfile.write(TWO.data[:-1])
        handler.cut()


class Fault(NamedTuple):
    """What the upstream does, and the status where nothing is here."""

    status: int
    reply: Reply | None = None
    url: str = ""
    """Where the upstream is said to be, if not there."""
    keys: Mapping[str, Any] = MappingProxyType({})
    retry: bool = False
    """The answer says when to come again."""
    asks: int = 1
    """Requests of a revalidation: where HEAD says nothing, GET follows, and a connection that is cut is tried twice."""
    lasts: bool = False
    """It is remembered for seconds that no test can let pass."""


REALM = 'Bearer realm="http://127.0.0.1:{port}/token",service="s"'
FAULTS = {
    "refused connection": Fault(502, url="http://127.0.0.1:{closed}", asks=0),
    "unknown name": Fault(502, url="http://absent.example.org", asks=0),
    "TLS": Fault(502, url="https://127.0.0.1:{port}", asks=0),
    "401": Fault(404, whole(401)),
    "403": Fault(404, whole(403)),
    "408": Fault(502, whole(408)),
    "418": Fault(502, whole(418)),
    "429": Fault(429, whole(429, Retry_After="120"), retry=True),
    "429 without an end": Fault(429, whole(429), retry=True),
    "500": Fault(502, whole(500)),
    "502": Fault(502, whole(502)),
    "503": Fault(502, whole(503)),
    "503 with an end": Fault(429, whole(503, Retry_After="120"), retry=True),
    "hang": Fault(504, hang, keys={"read_timeout": SILENCE, "revalidate_timeout": SILENCE}),
    "cut head": Fault(502, cut_head, asks=2),
    "cut body": Fault(502, cut_body, asks=2),
    "encoded": Fault(502, whole(200, TWO.data, Content_Type=TWO.media_type, Content_Encoding="gzip")),
    "wrong digest": Fault(
        502, whole(200, TWO.data, Content_Type=TWO.media_type, Docker_Content_Digest=digest_of(b"x")), asks=2
    ),
    "schema 1": Fault(502, whole(200, SCHEMA1, Content_Type=media_types.DOCKER_SCHEMA1), asks=2),
    "page of a hotel": Fault(502, whole(200, b"<html>log in</html>", Content_Type="text/html"), asks=2),
    "private redirect": Fault(502, redirect("http://other.example.org:9/")),
    "redirect to nowhere": Fault(502, whole(302)),
    "realm is down": Fault(
        502,
        lambda handler: handler.answer(401, WWW_Authenticate=REALM.format(port=closed_port())),
        keys={"allowed_hosts": ["127.0.0.0/8"]},
        lasts=True,
    ),
}
table = pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)


def url_of(server: HostileServer, fault: Fault) -> str:
    return fault.url.format(port=server.port, closed=closed_port()) or server.url()


def apply(server: HostileServer, fault: Fault) -> None:
    if fault.reply is not None:
        reply_all(server, fault.reply, "v1", "v2", ONE.digest, TWO.digest)


def pull_first(world: World, server: HostileServer) -> None:
    give(server, ONE, "v1")
    with mirror_of(world.registry(mirrored=frozenset({"docker.io"})), server.url()) as mirror:
        assert mirror.find().found.digest == ONE.digest
    server.seen.clear()


def asked(server: HostileServer) -> int:
    return sum(seen.path.startswith("/v2/") for seen in server.seen)


@table
def test_what_is_here_is_served_whatever_the_upstream_does(world: World, server: HostileServer, fault: Fault) -> None:
    pull_first(world, server)
    world.clock.now += 100
    apply(server, fault)
    keys = {"revalidate_timeout": 5.0, **fault.keys}
    with mirror_of(world.registry(mirrored=frozenset({"docker.io"})), url_of(server, fault), **keys) as mirror:
        begun = time.monotonic()
        for _ in range(3):
            found = mirror.find()
            assert (found.found.digest, found.is_stale, found.headers()["Age"]) == (ONE.digest, True, "100")
            assert mirror.registry.manifests.read(found.found) == ONE.data
        assert time.monotonic() - begun < 30
        assert asked(server) == fault.asks, "one request, and a pause"
        for _ in range(3):
            assert not mirror.find(ONE.digest).is_stale
        assert asked(server) == fault.asks, "a digest is never asked for again"
        assert tags(mirror.registry, HERE) == ["v1"]


@table
@pytest.mark.parametrize("reference", ["v2", TWO.digest], ids=["tag", "digest"])
def test_what_is_not_here_is_an_error_that_names_the_mirror(
    world: World, server: HostileServer, fault: Fault, reference: str
) -> None:
    apply(server, fault)
    registry = world.registry(mirrored=frozenset({"docker.io"}))
    with mirror_of(registry, url_of(server, fault), **fault.keys) as mirror:
        with pytest.raises(RegistryError, match="mirror hub: ") as raised:
            mirror.find(reference)
        assert raised.value.status == fault.status
        assert ("Retry-After" in raised.value.headers) == fault.retry
        if fault.retry:
            assert 0 < int(raised.value.headers["Retry-After"]) <= 120
        assert "TokenUnavailable" not in raised.value.message
        assert registry.repositories.page(last="", count=10) == []


@pytest.mark.parametrize("fault", [fault for fault in FAULTS.values() if not (fault.url or fault.lasts)])
def test_an_upstream_that_has_come_to_itself_is_asked_again(world: World, server: HostileServer, fault: Fault) -> None:
    apply(server, fault)
    registry = world.registry(mirrored=frozenset({"docker.io"}))
    with mirror_of(registry, server.url(), **fault.keys) as mirror:
        with pytest.raises(RegistryError):
            mirror.find("v2")
        give(server, TWO, "v2")
        world.clock.now += 121
        assert mirror.find("v2").found.digest == TWO.digest


def test_an_absence_is_one_request_in_a_minute_and_no_other_answer_is(world: World, server: HostileServer) -> None:
    registry = world.registry(mirrored=frozenset({"docker.io"}))
    with mirror_of(registry, server.url()) as mirror:
        for _ in range(100):
            with pytest.raises(RegistryError) as raised:
                mirror.find("v2")
            assert raised.value.status == 404
        assert len(server.seen) == 1
        reply_all(server, whole(500), "v3")
        for count in range(1, FAILS):
            with pytest.raises(RegistryError):
                mirror.find("v3")
            assert server.paths().count(path_of("v3")) == count


def test_a_pause_holds_for_all_replicas_and_what_is_here_is_served_meanwhile(
    world: World, server: HostileServer
) -> None:
    pull_first(world, server)
    world.clock.now += 100
    reply_all(server, whole(429, Retry_After="120"), "v1", "v2")
    registries = [world.registry(mirrored=frozenset({"docker.io"})) for _ in range(2)]
    with mirror_of(registries[0], server.url()) as first, mirror_of(registries[1], server.url()) as second:
        for step in range(11):
            for each in (first, second):
                assert each.find().is_stale
                with pytest.raises(RegistryError) as raised:
                    each.find("v2")
                assert raised.value.status == 429
                assert int(raised.value.headers["Retry-After"]) <= 120 - 10 * step + 1
            world.clock.now += 10
        assert len(server.seen) == 1
        give(server, TWO, "v1")
        world.clock.now += 20
        assert {second.find().found.digest, first.find().found.digest} == {TWO.digest}


def test_an_upstream_that_hangs_keeps_no_one_waiting_for_a_tag_that_is_here(
    world: World, server: HostileServer
) -> None:
    pull_first(world, server)
    world.clock.now += 100
    reply_all(server, hang, "v1")
    registry = world.registry(mirrored=frozenset({"docker.io"}))
    with mirror_of(registry, server.url(), revalidate_timeout=SILENCE, read_timeout=60) as mirror:
        begun = time.monotonic()
        assert mirror.find().is_stale
        assert time.monotonic() - begun < 30, "and not 60, as the settings allow for what is not here"


@pytest.mark.parametrize("says_digest", [True, False])
def test_bytes_and_types_are_as_they_were_sent(world: World, server: HostileServer, says_digest: bool) -> None:
    headers = {} if says_digest else {"Docker_Content_Digest": ""}
    give(server, ONE, "v1", ETag='"1"', **headers)
    registry = world.registry(mirrored=frozenset({"docker.io"}))
    with mirror_of(registry, server.url()) as mirror:
        for manifest in (ONE, TWO, ONE):
            give(server, manifest, "v1", ETag=f'"{manifest.digest[-4:]}"', **headers)
            world.clock.now += 61
            found = mirror.find().found
            assert (registry.manifests.read(found), found.media_type) == (manifest.data, manifest.media_type)

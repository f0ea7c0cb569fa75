"""Which address a request comes from, whatever proxies and clients write into X-Forwarded-For."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

import pytest

from registry.api.http.fields import members
from registry.api.http.forwarding import Forwarding
from registry.config.sections import HttpSettings
from tests.api.service import serving
from tests.support.payloads import Blob, image

if TYPE_CHECKING:
    from pathlib import Path

TRUSTED = HttpSettings(trusted_proxies=["127.0.0.1", "::1", "10.0.0.0/8", "fd00::/8"]).trusted_proxies  # type: ignore[arg-type]


class Case(NamedTuple):
    """Lines of X-Forwarded-For, and what the client is."""

    what: str
    lines: tuple[str, ...]
    client: str
    peer: str = "127.0.0.1"


CASES = [
    Case("nothing is said", (), "127.0.0.1"),
    Case("nothing is meant", ("", " , ,"), "127.0.0.1"),
    Case("one proxy", ("192.0.2.7",), "192.0.2.7"),
    Case("a proxy adds to the client's line", ("198.51.100.1, 192.0.2.7",), "192.0.2.7"),
    Case("a proxy adds a line of its own, as HAProxy does", ("198.51.100.1", "192.0.2.7"), "192.0.2.7"),
    Case("however many the client sent", ("10.0.0.9", "198.51.100.1, 127.0.0.1", "192.0.2.7"), "192.0.2.7"),
    Case("behind two proxies", ("198.51.100.1, 192.0.2.7, 10.1.2.3",), "192.0.2.7"),
    Case("behind two proxies, a line each", ("198.51.100.1", "192.0.2.7", "10.1.2.3"), "192.0.2.7"),
    Case("proxies all the way", ("10.0.0.1, 10.0.0.2", "10.0.0.3"), "10.0.0.1"),
    Case("a port", ("192.0.2.7:49152",), "192.0.2.7"),
    Case("brackets", ("[2001:db8::7]",), "2001:db8::7"),
    Case("brackets and a port", ("[2001:db8::7]:49152",), "2001:db8::7"),
    Case("neither", ("2001:db8:0:0:0:0:0:7",), "2001:db8::7"),
    Case("a proxy with a port", ("192.0.2.7, [fd00::1]:80, 10.0.0.1:80",), "192.0.2.7"),
    Case("IPv4 in IPv6", ("::ffff:192.0.2.7",), "192.0.2.7"),
    Case("no address", ("unknown",), "127.0.0.1"),
    Case("a name", ("192.0.2.7, localhost",), "127.0.0.1"),
    Case("no address behind a proxy", ("192.0.2.7, _hidden, 10.1.2.3",), "10.1.2.3"),
    Case("a port that is none", ("192.0.2.7:http",), "127.0.0.1"),
    Case("brackets that do not close", ("[2001:db8::7",), "127.0.0.1"),
    Case("brackets in brackets", ("[[2001:db8::7]]",), "127.0.0.1"),
    Case("an address with any text as its zone", ("fe80::1%<script>",), "127.0.0.1"),
    Case("a long one", ("1" * 70_000,), "127.0.0.1"),
    Case("bytes", ("\xff\xfe",), "127.0.0.1"),
    Case("a stranger is not believed", ("192.0.2.7",), "203.0.113.5", "203.0.113.5"),
    Case("a proxy on a dual socket", ("192.0.2.7",), "192.0.2.7", "::ffff:10.1.2.3"),
    Case("a stranger on a dual socket", ("192.0.2.7",), "203.0.113.5", "::ffff:203.0.113.5"),
    Case("a peer without an address", ("192.0.2.7",), "unix", "unix"),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.what)
def test_the_client_is_the_last_address_that_a_trusted_proxy_has_seen(case: Case) -> None:
    headers = [(b"x-other", b"10.0.0.1"), *((b"x-forwarded-for", line.encode("latin-1")) for line in case.lines)]
    assert Forwarding(TRUSTED).client(case.peer, headers) == case.client


def test_no_peer_is_no_client() -> None:
    assert Forwarding(TRUSTED).client(None, [(b"x-forwarded-for", b"192.0.2.7")]) is None


def test_the_walk_is_short_where_a_client_writes_a_long_list() -> None:
    forwarding = Forwarding(TRUSTED)
    line = b"203.0.113.9," * 5000 + b"192.0.2.7"
    assert forwarding.client("127.0.0.1", [(b"x-forwarded-for", line)]) == "192.0.2.7"
    assert forwarding._hop.cache_info().currsize == 2  # the proxy and the client: nothing that the client wrote


def test_lists_over_several_lines_are_one_without_empty_members() -> None:
    headers = [(b"a", b" 1 ,, 2\t"), (b"b", b"x"), (b"a", b""), (b"a", b"3")]
    assert members(headers, b"a") == ["1", "2", "3"]
    assert members(headers, b"c") == []


def test_a_client_behind_a_proxy_that_adds_a_line_chooses_neither_its_actor_nor_its_rule(tmp_path: Path) -> None:
    config = Blob(b"{}")
    lines = [("X-Forwarded-For", "198.51.100.1"), ("X-Forwarded-For", "192.0.2.7:4000"), ("Content-Type", "")]
    with serving(tmp_path) as service:
        service.push_blob("who/is", config)
        found = image(config, [])
        lines[-1] = ("Content-Type", found.media_type)
        assert service.call("PUT", "/v2/who/is/manifests/one", found.data, lines).status == 201
        (journal,) = (service.root / "who/is/.journal").iterdir()
        assert [json.loads(line)["actor"] for line in journal.read_text().splitlines()] == ["192.0.2.7"]


def test_a_header_that_can_come_once_and_comes_twice_is_not_one_of_the_two(tmp_path: Path) -> None:
    blob = Blob(b"0123456789")
    target = f"/v2/who/is/blobs/{blob.digest}"
    etag, other = f'"{blob.digest}"', '"other"'
    with serving(tmp_path) as service:
        service.push_blob("who/is", blob)
        for _ in range(2):  # through the routes, then from memory where that may be
            assert service.call("GET", target, headers=[("Range", "bytes=0-1"), ("Range", "bytes=3-4")]).status == 200
            twice = service.call("GET", target, headers=[("Range", "bytes=0-1"), ("Range", "3-4")])
            assert (twice.status, twice.body.count(b"Content-Range: bytes")) == (206, 2)
            both = [("Range", "bytes=0-1"), ("If-Range", etag), ("If-Range", other)]
            assert service.call("GET", target, headers=both).status == 200
            assert service.call("GET", target, headers=both[:2]).status == 206
            matching = [("If-None-Match", other), ("If-None-Match", f"W/{etag}")]
            assert service.call("GET", target, headers=matching).status == 304
            assert service.call("HEAD", target, headers=matching).status == 304
        session = service.begin("who/is")
        ranges = [("Content-Range", "0-3"), ("Content-Range", "4-7")]
        assert service.call("PATCH", session, b"0123", ranges).status == 416
        found = image(blob, [])
        kinds = [("Content-Type", found.media_type), ("Content-Type", "application/vnd.oci.image.index.v1+json")]
        put = service.call("PUT", "/v2/who/is/manifests/one", found.data, kinds)
        assert (put.status, put.code) == (400, "MANIFEST_INVALID")

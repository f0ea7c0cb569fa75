"""Methods, queries and headers that no client sends in good faith."""

from __future__ import annotations

import json

import pytest

from tests.hostile.place import CODES, IMAGE, LAYER, REPO, Place
from tests.hostile.wire import Request, request, try_send

ENDPOINTS = {
    "/v2/": {"GET", "HEAD"},
    "/v2/_catalog": {"GET", "HEAD"},
    f"/v2/{REPO}/tags/list": {"GET", "HEAD"},
    f"/v2/{REPO}/manifests/one": {"GET", "HEAD", "PUT", "DELETE"},
    f"/v2/{REPO}/manifests/{IMAGE.digest}": {"GET", "HEAD", "PUT", "DELETE"},
    f"/v2/{REPO}/blobs/{LAYER.digest}": {"GET", "HEAD", "DELETE"},
    f"/v2/{REPO}/referrers/{IMAGE.digest}": {"GET", "HEAD"},
    f"/v2/{REPO}/blobs/uploads/": {"POST"},
    f"/v2/{REPO}/blobs/uploads/00000000-0000-4000-8000-000000000000": {"GET", "HEAD", "PATCH", "PUT", "DELETE"},
}
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "MKCOL", "LOCK", "SEARCH"]


@pytest.mark.parametrize("path", ENDPOINTS)
def test_another_method_is_a_405_that_names_the_allowed_ones(place: Place, path: str) -> None:
    for method in METHODS:
        if method in ENDPOINTS[path]:
            continue
        reply = place.send(request(method, path))
        assert reply.status == 405, (method, reply)
        allow = {name.strip() for name in (reply.header("allow") or "").split(",")}
        assert allow - {"HEAD", "OPTIONS"} == ENDPOINTS[path] - {"HEAD"}, (method, reply)
        if method != "HEAD":
            assert reply.codes() == ["UNSUPPORTED"], method


@pytest.mark.parametrize("method", ["get", "GETT", "X" * 500, "G\tET", "\xff", "CONNECT", "PRI", "-"])
def test_an_invalid_method_is_refused(place: Place, method: str) -> None:
    message = Request(method, b"/v2/")
    reply = try_send(place.address, message)
    if reply is not None:
        place.inspect(message, reply)
        assert 400 <= reply.status < 500, reply


@pytest.mark.parametrize("path", [f"/v2/{REPO}/tags/list", "/v2/_catalog"])
@pytest.mark.parametrize(
    "number",
    ["-1", "a", "1.5", "1e3", "0x10", "", "%00", "--1", "+-1", "1%20", "9" * 4400, "NaN", "Infinity", "%EF%BC%91"],
)
def test_a_page_size_that_is_no_number_is_refused(place: Place, path: str, number: str) -> None:
    reply = place.send(request("GET", f"{path}?n={number}"))
    # A number beyond every page may also be answered, with a page.
    if number.isdigit() or number == "":
        assert reply.status in {200, 400}, reply
    else:
        assert reply.status == 400, reply
    if reply.status == 400:
        assert reply.codes() == ["PAGINATION_NUMBER_INVALID"]


@pytest.mark.parametrize("number", ["0", "1", "2147483648", "9223372036854775808", "9" * 100])
def test_any_page_size_is_answered_in_bounds(place: Place, number: str) -> None:
    reply = place.send(request("GET", f"/v2/{REPO}/tags/list?n={number}"))
    if reply.status == 400 and len(number) > 18:
        assert reply.codes() == ["PAGINATION_NUMBER_INVALID"]
        return
    assert reply.status == 200, reply
    assert json.loads(reply.body)["tags"] == ([] if number == "0" else ["one"])


@pytest.mark.parametrize(
    "last", ["", "zzz", "%00", "%ff", "..", "../../secret", "%27;--", "one%00", "x" * 5000, "%F0%9F%92%A9", "a&last=b"]
)
@pytest.mark.parametrize("path", [f"/v2/{REPO}/tags/list", "/v2/_catalog", f"/v2/{REPO}/referrers/{IMAGE.digest}"])
def test_any_last_is_only_a_value_to_compare_with(place: Place, path: str, last: str) -> None:
    reply = place.send(request("GET", f"{path}?last={last}"))
    assert reply.status in {200, 400}, reply
    if reply.status == 400:
        assert set(reply.codes()) <= CODES


@pytest.mark.parametrize("kind", ["", "x" * 5000, "%00", "%0d%0aX-Injected:%20yes", "%ff", "a&artifactType=b"])
def test_any_artifact_type_is_only_a_value_to_compare_with(place: Place, kind: str) -> None:
    reply = place.send(request("GET", f"/v2/{REPO}/referrers/{IMAGE.digest}?artifactType={kind}"))
    assert reply.status in {200, 400}, reply


INJECTIONS = [
    {"Host": "evil.test"},
    {"Host": "evil.test/path"},
    {"Host": ""},
    {"Host": 'a"b<script>'},
    {"Host": "user:password@evil.test"},
    {"X-Forwarded-Host": "evil.test"},
    {"X-Forwarded-Host": "evil.test, other.test"},
    {"X-Forwarded-Host": "evil.test/%0d%0aX-Injected: yes"},
    {"X-Forwarded-Host": 'evil"test'},
    {"X-Forwarded-Host": "evil test\tx"},
    {"X-Forwarded-Proto": "javascript"},
    {"X-Forwarded-Proto": "https://evil.test/"},
    {"X-Forwarded-Prefix": "//evil.test"},
    {"X-Forwarded-Prefix": "/../../.."},
    {"X-Forwarded-Prefix": "/a b<c>"},
    {"X-Forwarded-Prefix": "https://evil.test"},
    {"X-Forwarded-For": "127.0.0.1, evil"},
    {"X-Forwarded-Port": "99999999999"},
    {"Forwarded": 'host="evil.test";proto=javascript'},
    {"Forwarded": ";;;=,,"},
]


@pytest.mark.parametrize("headers", INJECTIONS, ids=repr)
@pytest.mark.parametrize("trusted", [True, False])
def test_headers_of_proxies_cannot_make_a_location_dangerous(
    place: Place, headers: dict[str, str], trusted: bool
) -> None:
    # Loopback is a trusted proxy by default; with an address in front that is none, its client is not.
    extra = {} if trusted else {"X-Forwarded-For": "203.0.113.9"}
    reply = place.send(request("POST", f"/v2/{REPO}/blobs/uploads/", headers=extra | headers, body=b""))
    if reply.status == 400:
        return
    assert reply.status == 202, reply
    location = reply.location
    assert location.isascii(), reply
    assert not set(location) & set(' "<>\\^`{|}\t'), reply
    assert location.startswith(("/", "http://", "https://")), reply
    assert not location.startswith("//"), reply
    session = "/v2/" + location.rsplit("/v2/", maxsplit=1)[1]
    place.cancel(session)


@pytest.mark.parametrize(
    "fields",
    [
        [(b"X", b"y" * 100_000)],
        [(b"X-%d" % number, b"y") for number in range(5000)],
        [(b"x" * 70_000, b"y")],
        [(b"Bad Name", b"y")],
        [(b"", b"y")],
        [(b"X", b"a\x00b")],
        [(b"X", b"a\nX-Injected: yes")],
        [(b"X", b"a\rX-Injected: yes")],
        [(b"Accept", b",".join([b"*/*"] * 2000))],
        [(b"If-None-Match", b'"' * 5000)],
        [(b"If-None-Match", b"\xff\xfe")],
        [(b"Authorization", b"Basic !!!")],
        [(b"Authorization", b"Bearer " + b"x" * 10_000)],
        [(b"Expect", b"something")],
        [(b"Upgrade", b"h2c"), (b"Connection", b"Upgrade"), (b"HTTP2-Settings", b"AAMAAABkAAQAAP__")],
        [(b"Upgrade", b"websocket"), (b"Connection", b"Upgrade"), (b"Sec-WebSocket-Key", b"x")],
        [(b"Host", b"a"), (b"Host", b"b")],
        [(b"Content-Type", b"\xff\xff")],
        [(b"Accept-Encoding", b"gzip;q=9999")],
    ],
    ids=lambda fields: repr(fields)[:60],
)
def test_strange_headers_are_ignored_or_refused(place: Place, fields: list[tuple[bytes, bytes]]) -> None:
    message = Request("GET", f"/v2/{REPO}/manifests/one".encode(), tuple(fields))
    reply = try_send(place.address, message)
    if reply is None:
        return
    place.inspect(message, reply)
    assert reply.status in {200, 304} or 400 <= reply.status < 500, reply
    if reply.status == 200:
        assert reply.body == IMAGE.data


@pytest.mark.parametrize(
    "target",
    [
        b"*",
        b"v2/",
        b"http://evil.test/v2/",
        b"/v2/?" + b"a" * 100_000,
        b"/v2/?" + b"n=1&" * 5000,
        b"/v2/#x",
        b"/v2/\x00",
        b"/v2/ x",
        b"",
    ],
    ids=lambda target: repr(target)[:40],
)
def test_strange_targets_are_answered_or_refused(place: Place, target: bytes) -> None:
    message = Request("GET", target)
    reply = try_send(place.address, message)
    if reply is not None:
        place.inspect(message, reply)


@pytest.mark.parametrize("version", [b"HTTP/1.0", b"HTTP/0.9", b"HTTP/2.0", b"HTTP/9.9", b"HTTP", b"XTTP/1.1", b""])
def test_other_versions_of_http_are_answered_or_refused(place: Place, version: bytes) -> None:
    message = Request("GET", f"/v2/{REPO}/manifests/one".encode(), version=version)
    reply = try_send(place.address, message)
    if reply is None or reply.status == 505:  # HTTP Version Not Supported is the one right answer of its kind
        return
    place.inspect(message, reply)
    if reply.status == 200:
        assert reply.body == IMAGE.data
        assert reply.header("transfer-encoding") is None, "HTTP/1.0 knows no chunks"


def test_bytes_that_are_no_http_end_the_connection_only(place: Place) -> None:
    for noise in (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"\x00" * 500, b"\r\n" * 500, b"SSH-2.0-x\r\n"):
        try_send(place.address, Request("", b"", version=b"", body=noise, half_close=True))
    assert place.send(request("GET", "/v2/")).status == 200

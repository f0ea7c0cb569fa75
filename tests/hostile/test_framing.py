"""Where one request ends and the next begins: every client, proxy and server must see the same (RFC 9112).

Each case is sent with another request behind it, in one piece and in several. That one is answered where the first is
framed beyond doubt, and never where it is not: a body must not run as a request, nor a request vanish in a body.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from tests.hostile.answers import answers, converse
from tests.hostile.place import IMAGE, REPO, Place
from tests.hostile.wire import chunk, request

if TYPE_CHECKING:
    from collections.abc import Iterator

HOST = b"Host: registry.test\r\n"
NEXT = b"HEAD /v2/" + REPO.encode() + b"/manifests/one HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n"
"""What follows each case; it is kept in memory, and answered past the application."""
INNER = b"GET /v2/" + REPO.encode() + b"/tags/list HTTP/1.1\r\n" + HOST + b"\r\n"
"""What a body is, that must not be run."""
LENGTH = b"Content-Length: %d\r\n" % len(INNER)
CHUNKED = b"Transfer-Encoding: chunked\r\n"
END = b"0\r\n\r\n"
UPGRADE = b"Connection: Upgrade\r\nUpgrade: foo\r\n"
HTTP2 = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"
WEBSOCKET = b"Connection: keep-alive, upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: eA==\r\n"


def head(*lines: bytes, first: bytes = b"GET /v2/ HTTP/1.1", host: bytes = HOST) -> bytes:
    """A head with these lines."""
    return first + b"\r\n" + host + b"".join(lines) + b"\r\n"


POST = b"POST /v2/" + REPO.encode() + b"/tags/list HTTP/1.1"
"""Answered 405, whatever the body."""

FRAMED = {
    "no body": (head(), 200),
    "no body, announced": (head(b"Content-Length: 0\r\n"), 200),
    "a length": (head(LENGTH) + INNER, 200),
    "a length with zeros": (head(b"Content-Length: 000%d\r\n" % len(INNER)) + INNER, 200),
    "a length and spaces": (head(b"Content-Length:   %d \t \r\n" % len(INNER)) + INNER, 200),
    "chunks": (head(CHUNKED) + chunk(INNER[:9]) + chunk(INNER[9:]) + END, 200),
    "chunks in capitals": (head(b"TRANSFER-ENCODING: CHUNKED\r\n") + chunk(INNER) + END, 200),
    "chunks of zeros": (head(CHUNKED) + b"000" + chunk(INNER) + b"0000\r\n\r\n", 200),
    "chunk extensions": (head(CHUNKED) + b'3;a=b;c="d"\r\nabc\r\n0;e\r\n\r\n', 200),
    "trailers": (head(CHUNKED) + chunk(INNER) + b"0\r\nX-One: two\r\nHost: other\r\n\r\n", 200),
    "a body of another method": (head(LENGTH, first=POST) + INNER, 405),
    "a body that is not read": (head(LENGTH, first=b"GET /v2/nothing-here HTTP/1.1") + INNER, 404),
    "a body behind a read from memory": (head(LENGTH, first=NEXT.split(b"\r\n")[0]) + INNER, 200),
    "empty lines before": (b"\r\n\r\n" + head(), 200),
    "the whole address": (head(first=b"GET http://registry.test/v2/ HTTP/1.1"), 200),
    "an empty host": (head(host=b"Host:\r\n"), 200),
    "expecting to be asked": (head(b"Expect: 100-continue\r\n", LENGTH) + INNER, 200),
    "upgrade without a body": (head(UPGRADE), 200),
    "upgrade with a length": (head(UPGRADE, LENGTH) + INNER, 200),
    "upgrade with chunks": (head(UPGRADE, CHUNKED) + chunk(INNER) + END, 200),
    "upgrade to HTTP/2 with a length": (head(HTTP2, LENGTH) + INNER, 200),
    "upgrade to a websocket": (head(WEBSOCKET, LENGTH) + INNER, 200),
    "upgrade of a read from memory": (head(UPGRADE, LENGTH, first=NEXT.split(b"\r\n")[0]) + INNER, 200),
    "upgrade twice": (head(UPGRADE, UPGRADE, LENGTH) + INNER, 200),
    "upgrade not by the connection": (head(b"Upgrade: foo\r\n", LENGTH) + INNER, 200),
    "upgrade in the trailers": (head(CHUNKED) + b"0\r\nUpgrade: foo\r\n\r\n", 200),
}
"""First requests after which the next one is answered, and their status."""

LAST = {
    "close": (head(b"Connection: close\r\n"), 200),
    "close and keep-alive": (head(b"Connection: keep-alive, close\r\n"), 200),
    "close behind a body": (head(b"Connection: close\r\n", LENGTH) + INNER, 200),
    "close and upgrade": (head(b"Connection: close, upgrade\r\nUpgrade: foo\r\n", LENGTH) + INNER, 200),
    "HTTP/1.0": (head(first=b"GET /v2/ HTTP/1.0"), 200),
    "HTTP/1.0 without a host": (head(first=b"GET /v2/ HTTP/1.0", host=b""), 200),
    "HTTP/1.0 with keep-alive": (head(b"Connection: keep-alive\r\n", first=b"GET /v2/ HTTP/1.0"), 200),
    "HTTP/1.0 with a length": (head(LENGTH, first=b"GET /v2/ HTTP/1.0") + INNER, 200),
}
"""First requests whose answer is the last of the connection, and its status."""

REFUSED = {
    "no host": (head(host=b""), 400),
    "two hosts": (head(HOST), 400),
    "two hosts that differ": (head(b"Host: other\r\n"), 400),
    "two hosts of a read from memory": (head(HOST, first=NEXT.split(b"\r\n")[0]), 400),
    "no host of a read from memory": (head(first=NEXT.split(b"\r\n")[0], host=b""), 400),
    "two hosts in HTTP/1.0": (head(HOST, first=b"GET /v2/ HTTP/1.0"), 400),
    "a host that is none": (head(host=b"Host: a, b\r\n"), 400),
    "a host with a path": (head(host=b"Host: a/b\r\n"), 400),
    "length and chunks": (head(LENGTH, CHUNKED) + END, 400),
    "chunks and length": (head(CHUNKED, LENGTH) + END, 400),
    "two lengths": (head(b"Content-Length: 3\r\nContent-Length: 4\r\n") + b"abc", 400),
    "a length twice": (head(b"Content-Length: 3\r\nContent-Length: 3\r\n") + b"abc", 400),
    "a list of lengths": (head(b"Content-Length: 3, 3\r\n") + b"abc", 400),
    "a length with a sign": (head(b"Content-Length: +3\r\n") + b"abc", 400),
    "a length below zero": (head(b"Content-Length: -3\r\n") + b"abc", 400),
    "a length in hexadecimal": (head(b"Content-Length: 0x3\r\n") + b"abc", 400),
    "a length with an underscore": (head(b"Content-Length: 1_0\r\n") + b"abc", 400),
    "a length that is nothing": (head(b"Content-Length:\r\n") + b"abc", 400),
    "a length beyond numbers": (head(b"Content-Length: 18446744073709551619\r\n") + b"abc", 400),
    "chunks in HTTP/1.0": (head(CHUNKED, first=b"GET /v2/ HTTP/1.0") + END, 400),
    "another coding": (head(b"Transfer-Encoding: gzip\r\n") + END, 400),
    "another coding before chunks": (head(b"Transfer-Encoding: gzip, chunked\r\n") + END, 400),
    "another coding before chunks, in lines": (head(b"Transfer-Encoding: identity\r\n", CHUNKED) + END, 400),
    "chunks before another coding": (head(CHUNKED, b"Transfer-Encoding: identity\r\n") + END, 400),
    "chunks twice": (head(b"Transfer-Encoding: chunked, chunked\r\n") + END, 400),
    "chunks in two lines": (head(CHUNKED, CHUNKED) + END, 400),
    "almost chunks": (head(b"Transfer-Encoding: xchunked\r\n") + END, 400),
    "chunks behind a tabulator": (head(b"Transfer-Encoding: \x0bchunked\r\n") + END, 400),
    "chunks with a parameter": (head(b"Transfer-Encoding: chunked;q=1\r\n") + END, 400),
    "an empty coding": (head(b"Transfer-Encoding:\r\n") + END, 400),
    "upgrade with another coding": (head(UPGRADE, b"Transfer-Encoding: foo\r\n") + INNER, 400),
    "upgrade with length and chunks": (head(UPGRADE, LENGTH, CHUNKED) + INNER, 400),
    "upgrade with two hosts": (head(UPGRADE, HOST, LENGTH) + INNER, 400),
    "a line feed alone": (b"GET /v2/ HTTP/1.1\n" + HOST[:-2] + b"\n\n", 400),
    "a line feed in the head": (head(b"X: a\nContent-Length: 3\r\n"), 400),
    "a line feed at the end": (head()[:-2] + b"\n", 400),
    "a carriage return alone": (head(b"X: a\rContent-Length: 3\r\n"), 400),
    "a zero in a value": (head(b"X: a\0b\r\n"), 400),
    "a zero in a name": (head(b"X\0: a\r\n"), 400),
    "a control character": (head(b"X: a\x01b\r\n"), 400),
    "a folded line": (head(b"X: a\r\n b\r\n"), 400),
    "a folded length": (head(b"Content-Length:\r\n 3\r\n") + b"abc", 400),
    "a folded first line": (b"GET /v2/ HTTP/1.1\r\n " + HOST + b"\r\n", 400),
    "a space before the colon": (head(b"Content-Length : 3\r\n") + b"abc", 400),
    "no name": (head(b": x\r\n"), 400),
    "a name with a space": (head(b"a b: x\r\n"), 400),
    "no colon": (head(b"abc\r\n"), 400),
    "a method in small letters": (head(first=b"get /v2/ HTTP/1.1"), 400),
    "a space before the method": (head(first=b" GET /v2/ HTTP/1.1"), 400),
    "a tabulator in the target": (head(first=b"GET /v2/\ta HTTP/1.1"), 400),
    "a zero in the target": (head(first=b"GET /v2/\0 HTTP/1.1"), 400),
    "a target that is no path": (head(first=b"OPTIONS * HTTP/1.1"), 400),
    "an address without a path": (head(first=b"GET http://registry.test HTTP/1.1"), 400),
    "a space behind the version": (head(first=b"GET /v2/ HTTP/1.1 "), 400),
    "HTTP/0.9": (b"GET /v2/\r\n\r\n", 505),
    "HTTP/0.9 with headers": (head(LENGTH, first=b"GET /v2/") + INNER, 505),
    "HTTP/0.9, said": (head(first=b"GET /v2/ HTTP/0.9"), 505),
    "HTTP/1.2": (head(first=b"GET /v2/ HTTP/1.2"), 400),
    "HTTP/2.0": (head(first=b"GET /v2/ HTTP/2.0"), 505),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "a tunnel": (head(first=b"CONNECT registry.test:443 HTTP/1.1"), 405),
    "a tunnel with a length": (head(LENGTH, first=b"CONNECT registry.test:443 HTTP/1.1") + INNER, 405),
    "a tunnel to a path": (head(first=b"CONNECT /v2/ HTTP/1.1"), 405),
}
"""First requests that are the last thing heard of a connection, and the status of the refusal."""

BROKEN = {
    "a chunk size of nothing": b"\r\nabc\r\n",
    "a chunk size with a sign": b"+3\r\nabc\r\n",
    "a chunk size in the other notation": b"0x3\r\nabc\r\n",
    "a chunk size with a space": b"3 \r\nabc\r\n",
    "a chunk size beyond numbers": b"1" + b"0" * 17 + b"\r\nabc\r\n",
    "a chunk size behind a line feed": b"3\nabc\r\n",
    "a chunk longer than its size": b"3\r\nabcd\r\n",
    "a chunk with a line feed": b"3\r\nabc\n",
    "a line feed in an extension": b"3;a\nb\r\nabc\r\n",
    "a length in the trailers": b"0\r\nContent-Length: 3\r\n\r\nabc",
    "a coding in the trailers": b"0\r\nTransfer-Encoding: chunked\r\n\r\n",
    "a folded trailer": b"0\r\nX: a\r\n b\r\n\r\n",
}
"""Bodies in chunks that are none; the request may have been answered by then."""


def pieces(data: bytes, seed: int) -> Iterator[bytes]:
    """The data in one piece, for seed 0, else in several."""
    cuts = sorted(random.Random(seed).sample(range(1, len(data)), 5)) if seed else []
    for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
        yield data[start:end]


@pytest.fixture(autouse=True, scope="module")
def untouched(place: Place) -> Iterator[None]:
    """As that of all hostile tests, for these together; and what ``NEXT`` asks for is in memory."""
    before = place.snapshot()
    for _ in range(2):
        place.send(request("HEAD", f"/v2/{REPO}/manifests/one"))
    yield
    place.assert_unchanged(before)


def statuses(place: Place, first: bytes) -> list[list[int]]:
    """What is answered to a request with ``NEXT`` behind it: sent in one piece, and twice in several."""
    return [_statuses(place, first, seed) for seed in range(3)]


def _statuses(place: Place, first: bytes, seed: int) -> list[int]:
    method = "HEAD" if first.startswith(b"HEAD") else "GET"
    received = converse(place.address, pieces(first + NEXT, seed), pause=0.002 if seed else 0)
    found = answers(received, [method, "HEAD"])
    for reply in found[1:]:
        assert reply.status != 200 or reply.header("docker-content-digest") == IMAGE.digest
    return [reply.status for reply in found]


@pytest.mark.parametrize("name", FRAMED)
def test_the_next_request_is_answered_behind_one_that_is_framed(place: Place, name: str) -> None:
    first, status = FRAMED[name]
    assert statuses(place, first) == [[status, 200]] * 3


@pytest.mark.parametrize("name", LAST)
def test_nothing_is_answered_behind_the_last_request(place: Place, name: str) -> None:
    first, status = LAST[name]
    assert statuses(place, first) == [[status]] * 3


@pytest.mark.parametrize("name", REFUSED)
def test_nothing_is_answered_behind_a_request_in_doubt(place: Place, name: str) -> None:
    first, status = REFUSED[name]
    assert statuses(place, first) == [[status]] * 3


@pytest.mark.parametrize("name", BROKEN)
def test_nothing_is_answered_behind_a_body_in_doubt(place: Place, name: str) -> None:
    for found in statuses(place, head(CHUNKED) + BROKEN[name]):
        assert found in ([400], [200])


@pytest.mark.parametrize("cuts", [(), (0,), (0, 500)])
def test_a_chunk_of_an_upload_that_asks_for_another_protocol_arrives(
    place: Place, session: str, cuts: tuple[int, ...]
) -> None:
    """As curl --http2 sends it."""
    body = b"x" * 1000
    message = head(HTTP2, b"Content-Length: 1000\r\n", first=f"PATCH {session} HTTP/1.1".encode())
    if cuts:
        sent = [message, *(body[start:end] for start, end in zip(cuts, [*cuts[1:], 1000], strict=True))]
    else:
        sent = [message + body]
    (reply,) = answers(converse(place.address, sent, pause=0.05), ["PATCH"])
    assert (reply.status, reply.header("range")) == (202, "0-999")

"""Parts of a blob (RFC 9110, sections 13 and 14)."""

from __future__ import annotations

import re
from typing import NamedTuple

import pytest

from registry.api.blobs import SMALL
from registry.storage.driver import CHUNK_SIZE
from tests.api.service import Headers, Service
from tests.support.payloads import Blob

REPO = "ranges/of/parts"
BLOBS = {
    "small": Blob(bytes(range(256)) * 40),
    "large": Blob((bytes(range(256)) * (SMALL // 256 + 1))[1:]),
    "in chunks": Blob(bytes(range(251)) * (2 * CHUNK_SIZE // 251 + 99)),
}
EMPTY = Blob(b"")


@pytest.fixture(scope="module")
def stocked(service: Service) -> Service:
    for blob in (*BLOBS.values(), EMPTY):
        service.push_blob(REPO, blob)
    return service


@pytest.fixture(params=BLOBS)
def blob(request: pytest.FixtureRequest) -> Blob:
    return BLOBS[request.param]


class Part(NamedTuple):
    """What is asked for, and the first and last byte of the answer, from the end when negative."""

    wanted: str
    first: int
    last: int


PARTS = [
    Part("bytes=0-0", 0, 0),
    Part("bytes=500-1499", 500, 1499),
    Part("bytes=500-", 500, -1),
    Part("bytes=-500", -500, -1),
    Part("bytes=-99999999999", 0, -1),
    Part("bytes=9000-99999999999", 9000, -1),
    Part("Bytes=1-2", 1, 2),
    Part("bytes=7-8,99999999-", 7, 8),
]


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.wanted)
def test_one_part(stocked: Service, blob: Blob, part: Part) -> None:
    size = len(blob.data)
    first, last = (number % size for number in (part.first, part.last))
    reply = stocked.call("GET", f"/v2/{REPO}/blobs/{blob.digest}", headers={"Range": part.wanted})
    assert (reply.status, reply.body) == (206, blob.data[first : last + 1])
    assert reply.headers["content-range"] == f"bytes {first}-{last}/{size}"
    assert reply.headers["content-length"] == str(last - first + 1)
    assert reply.headers["docker-content-digest"] == blob.digest


@pytest.mark.parametrize("wanted", ["bytes=500-0", "bytes=99999999-", "bytes=99999999-99999999999", "bytes=-0"])
def test_no_part_that_exists(stocked: Service, blob: Blob, wanted: str) -> None:
    reply = stocked.call("GET", f"/v2/{REPO}/blobs/{blob.digest}", headers={"Range": wanted})
    assert (reply.status, reply.code) == (416, "RANGE_INVALID")
    assert reply.headers["content-range"] == f"bytes */{len(blob.data)}"


@pytest.mark.parametrize("wanted", ["lines=1-2", "bytes", "bytes=a-b", "bytes=1-2-3", "bytes=1-2,x"])
def test_what_is_no_range_is_ignored(stocked: Service, blob: Blob, wanted: str) -> None:
    reply = stocked.call("GET", f"/v2/{REPO}/blobs/{blob.digest}", headers={"Range": wanted})
    assert (reply.status, reply.body) == (200, blob.data)


@pytest.mark.parametrize(
    ("condition", "status"),
    [('"{digest}"', 206), ('"sha256:other"', 200), ('W/"{digest}"', 200), ("Sat, 21 Nov 2026 10:00:00 GMT", 200)],
)
def test_a_part_only_of_what_the_client_began_with(stocked: Service, blob: Blob, condition: str, status: int) -> None:
    headers: Headers = {"Range": "bytes=1-2", "If-Range": condition.format(digest=blob.digest)}
    reply = stocked.call("GET", f"/v2/{REPO}/blobs/{blob.digest}", headers=headers)
    assert reply.status == status
    assert reply.body == (blob.data[1:3] if status == 206 else blob.data)


def test_several_parts_at_once(stocked: Service, blob: Blob) -> None:
    size = len(blob.data)
    wanted = [(0, 0), (500, 1499), (100, 199), (size - 7, size - 1)]
    text = "bytes=0-0, 500-1499 ,100-199,-7"
    reply = stocked.call("GET", f"/v2/{REPO}/blobs/{blob.digest}", headers={"Range": text})
    assert reply.status == 206
    assert reply.headers["content-length"] == str(len(reply.body))
    kind = re.fullmatch(r"multipart/byteranges; boundary=([0-9a-f]+)", reply.headers["content-type"])
    assert kind
    boundary = f"\r\n--{kind[1]}".encode()
    before, *parts, end = reply.body.split(boundary)
    assert (before, end) == (b"", b"--\r\n")
    found = []
    for part in parts:
        head, _, body = part.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
        assert fields["Content-Type"] == "application/octet-stream"
        found.append((fields["Content-Range"], body))
    assert found == [(f"bytes {first}-{last}/{size}", blob.data[first : last + 1]) for first, last in wanted]


def test_parts_that_overlap_too_often_are_the_whole_blob(stocked: Service, blob: Blob) -> None:
    reply = stocked.call("GET", f"/v2/{REPO}/blobs/{blob.digest}", headers={"Range": "bytes=0-,0-,0-"})
    assert (reply.status, reply.body) == (200, blob.data)


@pytest.mark.parametrize(("wanted", "status"), [("bytes=0-", 416), ("bytes=-5", 200)])
def test_an_empty_blob_has_no_part(stocked: Service, wanted: str, status: int) -> None:
    reply = stocked.call("GET", f"/v2/{REPO}/blobs/{EMPTY.digest}", headers={"Range": wanted})
    assert reply.status == status


def test_head_knows_no_parts(stocked: Service, blob: Blob) -> None:
    reply = stocked.call("HEAD", f"/v2/{REPO}/blobs/{blob.digest}", headers={"Range": "bytes=1-2"})
    assert (reply.status, reply.headers["content-length"]) == (200, str(len(blob.data)))

"""Manifests that are too large, too deep, not JSON, or say two things at once."""

from __future__ import annotations

import json
import socket

import pytest

from tests.hostile.place import (
    ABSENT,
    CONFIG,
    IMAGE,
    LAYER,
    MAX_MANIFEST,
    OTHER_IMAGE,
    OTHER_LAYER,
    REPO,
    SCRATCH,
    Place,
)
from tests.hostile.wire import Reply, Request, chunk, read_reply, request
from tests.support.payloads import INDEX, MANIFEST, Blob, digest_of, image, index


def put(
    place: Place, body: bytes, media_type: str | None = MANIFEST, reference: str = "new", repository: str = REPO
) -> Reply:
    headers = {} if media_type is None else {"Content-Type": media_type}
    return place.send(request("PUT", f"/v2/{repository}/manifests/{reference}", headers=headers, body=body))


def refused(place: Place, body: bytes, *codes: str, media_type: str = MANIFEST) -> None:
    """400 by tag and by digest, and nothing there afterwards."""
    for reference in ("new", digest_of(body)):
        reply = put(place, body, media_type, reference)
        assert reply.status == 400, reply
        assert set(reply.codes()) <= set(codes or ("MANIFEST_INVALID",)), reply
        assert len(reply.body) < 5000, "an error does not send back what came in"
        assert place.send(request("GET", f"/v2/{REPO}/manifests/{reference}")).status == 404


def document(**changes: object) -> bytes:
    """The seeded image with fields changed; None removes a field."""
    found = json.loads(IMAGE.data) | changes
    return json.dumps({key: value for key, value in found.items() if value is not None}).encode()


GOOD = document()
NOT_JSON = {
    "empty": b"",
    "a space": b" ",
    "cut off": GOOD[:-1],
    "garbage after": GOOD + b"x",
    "two documents": GOOD + GOOD,
    "a byte order mark": b"\xef\xbb\xbf" + GOOD,
    "UTF-16": GOOD.decode().encode("utf-16"),
    "invalid UTF-8": GOOD.replace(b'"layers"', b'"x": "\xff\xfe", "layers"'),
    "an overlong encoding": GOOD.replace(b'"layers"', b'"x": "\xc0\xae", "layers"'),
    "a surrogate in UTF-8": GOOD.replace(b'"layers"', b'"x": "\xed\xa0\x80", "layers"'),
    "a lone surrogate": GOOD.replace(b'"layers"', b'"x": "\\ud800", "layers"'),
    "NaN": GOOD.replace(b'"layers"', b'"x": NaN, "layers"'),
    "Infinity": GOOD.replace(b'"layers"', b'"x": -Infinity, "layers"'),
    "a raw control character": GOOD.replace(b'"layers"', b'"x": "\x01", "layers"'),
    "a NUL": GOOD + b"\x00",
    "single quotes": GOOD.replace(b'"', b"'"),
    "a comment": b"/* */" + GOOD,
    "a trailing comma": GOOD[:-1] + b",}",
    "duplicate key": GOOD.replace(b'"schemaVersion": 2', b'"schemaVersion": 2, "schemaVersion": 2'),
    "duplicate layers": GOOD.replace(b'"layers"', b'"layers": [], "layers"'),
    "duplicate digest": GOOD.replace(b'"digest"', b'"digest": "' + ABSENT.encode() + b'", "digest"', 1),
    "duplicate key, escaped": GOOD.replace(b'"layers"', b'"l\\u0061yers": [], "layers"'),
    "100,000 levels of lists": b"[" * 100_000 + b"]" * 100_000,
    "100,000 levels of lists, open": b"[" * 100_000,
    "100,000 levels of objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "100,000 levels in a field": GOOD[:-1] + b', "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "a list": b"[]",
    "a string": b'"manifest"',
    "a number": b"2",
    "null": b"null",
    "true": b"true",
    "a million lists": b"[" + b"[]," * 1_000_000 + b"[]]",
}


@pytest.mark.parametrize("body", NOT_JSON.values(), ids=NOT_JSON.keys())
@pytest.mark.parametrize("media_type", [MANIFEST, INDEX])
def test_a_manifest_that_is_not_strict_json_is_refused(place: Place, media_type: str, body: bytes) -> None:
    refused(place, body, media_type=media_type)


def layer(**changes: object) -> list[object]:
    """A list of one layer with fields changed."""
    found = LAYER.descriptor() | changes
    return [{key: value for key, value in found.items() if value is not None}]


WRONG = {
    "no schemaVersion": document(schemaVersion=None),
    "schemaVersion 1": document(schemaVersion=1),
    "schemaVersion 3": document(schemaVersion=3),
    "schemaVersion as text": document(schemaVersion="2"),
    "schemaVersion true": document(schemaVersion=True),
    "another mediaType": document(mediaType=INDEX),
    "mediaType is a number": document(mediaType=5),
    "no config": document(config=None),
    "config is a list": document(config=[]),
    "config is text": document(config=CONFIG.digest),
    "layers is an object": document(layers={}),
    "layers is text": document(layers="x"),
    "a layer is null": document(layers=[None]),
    "a layer is a number": document(layers=[1]),
    "also an index": document(manifests=[IMAGE.descriptor()]),
    "no digest": document(layers=layer(digest=None)),
    "digest is a number": document(layers=layer(digest=5)),
    "digest is a list": document(layers=layer(digest=[LAYER.digest])),
    "digest of another algorithm": document(layers=layer(digest="md5:" + "0" * 32)),
    "digest with a path": document(layers=layer(digest="sha256:../../../secret")),
    "digest with a path as algorithm": document(layers=layer(digest="../..:secret")),
    "digest in capitals": document(layers=layer(digest=LAYER.digest.upper())),
    "digest with a NUL": document(layers=layer(digest=LAYER.digest + "\0")),
    "digest with a line feed": document(layers=layer(digest=LAYER.digest + "\n")),
    "no size": document(layers=layer(size=None)),
    "size is negative": document(layers=layer(size=-1)),
    "size is a fraction": document(layers=layer(size=1.5)),
    "size is text": document(layers=layer(size="1680")),
    "size is true": document(layers=layer(size=True)),
    "size is 2^63": document(layers=layer(size=2**63)),
    "size has 4,000 digits": document().replace(b'"size": 1', b'"size": ' + b"1" * 4000, 1),
    "size has 5,000 digits": document().replace(b'"size": 1', b'"size": ' + b"1" * 5000, 1),
    "size with a huge exponent": document().replace(b'"size": 1', b'"size": 1e400, "x": 1', 1),
    "mediaType of a layer is a number": document(layers=layer(mediaType=5)),
    "mediaType of a layer has a line feed": document(layers=layer(mediaType="a/b\r\nX-Injected: yes")),
    "annotations is a list": document(annotations=[]),
    "an annotation is a number": document(annotations={"a": 1}),
    "an annotation is nested": document(annotations={"a": {"b": "c"}}),
    "subject is text": document(subject="x"),
    "subject without a digest": document(subject={"mediaType": MANIFEST, "size": 5}),
    "subject with a path": document(subject={"mediaType": MANIFEST, "size": 5, "digest": "sha256:../../x"}),
    "artifactType is a list": document(artifactType=[]),
    "artifactType has a line feed": document(artifactType="a/b\nX-Injected: yes"),
}


@pytest.mark.parametrize("body", WRONG.values(), ids=WRONG.keys())
def test_a_manifest_with_a_wrong_field_is_refused(place: Place, body: bytes) -> None:
    refused(place, body, "MANIFEST_INVALID", "DIGEST_INVALID")


UNKNOWN = {
    "a missing layer": document(layers=layer(digest=ABSENT)),
    "a missing config": document(config=CONFIG.descriptor() | {"digest": ABSENT}),
    "a layer of another repository": document(layers=[OTHER_LAYER.descriptor()]),
    "one of many layers": document(layers=[*layer() * 50, *layer(digest=ABSENT)]),
}


@pytest.mark.parametrize("body", UNKNOWN.values(), ids=UNKNOWN.keys())
def test_a_manifest_whose_blobs_are_not_in_its_repository_is_refused(place: Place, body: bytes) -> None:
    refused(place, body, "MANIFEST_BLOB_UNKNOWN")


def test_an_index_whose_children_are_not_in_its_repository_is_refused(place: Place) -> None:
    refused(place, index([OTHER_IMAGE]).data, "MANIFEST_BLOB_UNKNOWN", "MANIFEST_UNKNOWN", media_type=INDEX)


def test_an_index_cannot_list_itself(place: Place) -> None:
    """No bytes contain their own digest; the nearest is an index that lists a digest and is then pushed under it."""
    looping = index([OTHER_IMAGE, IMAGE])
    itself = looping.data.replace(OTHER_IMAGE.digest.encode(), looping.digest.encode())
    reply = put(place, itself, INDEX, looping.digest)
    assert (reply.status, reply.codes()) == (400, ["DIGEST_INVALID"])


def test_an_index_that_refers_to_its_own_child_and_lists_it_many_times_is_stored_and_deleted(place: Place) -> None:
    looping = index([IMAGE] * 200, subject=IMAGE)
    _comes_and_goes(place, looping.data, looping.digest)


def test_a_manifest_may_be_its_own_cousin(place: Place) -> None:
    """A missing subject that arrives later and has the first as its own subject: the nearest to a loop of subjects."""
    first = image(CONFIG, [LAYER], subject=OTHER_IMAGE)
    second = image(CONFIG, [LAYER], subject=first)
    for manifest in (first, second):
        assert put(place, manifest.data, MANIFEST, manifest.digest, SCRATCH).status == 201
    for manifest in (first, second):
        reply = place.send(request("GET", f"/v2/{SCRATCH}/referrers/{manifest.digest}"))
        assert reply.status == 200
    for manifest, status in ((first, 202), (second, 404)):  # the second is attached to the first
        assert place.send(request("DELETE", f"/v2/{SCRATCH}/manifests/{manifest.digest}")).status == status


def test_indexes_in_indexes_are_stored_and_deleted_whatever_their_depth(place: Place) -> None:
    chain = [index([IMAGE], annotations={"depth": "0"})]
    chain.extend(index([chain[-1]], annotations={"depth": str(depth)}) for depth in range(1, 2))
    for depth in range(2, 150):
        chain.append(index([chain[-1], chain[-2]], annotations={"depth": str(depth)}))
    for manifest in chain:
        assert put(place, manifest.data, INDEX, manifest.digest, SCRATCH).status == 201
    middle = place.send(request("DELETE", f"/v2/{SCRATCH}/manifests/{chain[70].digest}"))
    assert (middle.status, middle.codes()) == (405, ["UNSUPPORTED"]), "an index still lists it"
    for manifest in reversed(chain):
        assert place.send(request("DELETE", f"/v2/{SCRATCH}/manifests/{manifest.digest}")).status == 202


def test_a_manifest_of_just_the_largest_size_is_accepted(place: Place) -> None:
    body = _padded(MAX_MANIFEST)
    _comes_and_goes(place, body, digest_of(body))


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
@pytest.mark.parametrize("excess", [1, 1 << 20, 16 << 20])
def test_a_manifest_over_the_limit_is_a_413(place: Place, excess: int, chunked: bool) -> None:
    body = _padded(MAX_MANIFEST + excess)
    for reference in ("new", digest_of(body)):
        message = request(
            "PUT", f"/v2/{REPO}/manifests/{reference}", headers={"Content-Type": MANIFEST}, body=body, chunked=chunked
        )
        reply = place.send(message)
        assert (reply.status, reply.codes()) == (413, ["MANIFEST_INVALID"])
        assert place.send(request("GET", f"/v2/{REPO}/manifests/{reference}")).status == 404


def test_an_announced_length_over_the_limit_is_refused_before_the_body_comes(place: Place) -> None:
    fields = ((b"Content-Type", MANIFEST.encode()), (b"Content-Length", b"99999999999"))
    message = Request("PUT", f"/v2/{REPO}/manifests/new".encode(), fields)
    with socket.create_connection((place.address.host, place.address.port), timeout=60) as connection:
        connection.sendall(message.encode())
        reply = read_reply(connection)
    assert reply is not None
    assert (reply.status, reply.codes()) == (413, ["MANIFEST_INVALID"])


def test_an_endless_manifest_is_refused_while_it_still_comes(place: Place) -> None:
    fields = ((b"Content-Type", MANIFEST.encode()), (b"Transfer-Encoding", b"chunked"))
    message = Request("PUT", f"/v2/{REPO}/manifests/new".encode(), fields)
    with socket.create_connection((place.address.host, place.address.port), timeout=60) as connection:
        connection.sendall(message.encode())
        sent = 0
        try:
            while sent < 64 * MAX_MANIFEST:
                connection.sendall(chunk(b" " * 65536))
                sent += 65536
        except OSError:
            return
        pytest.fail("64 times the limit were taken in")


def test_a_manifest_that_ends_early_stores_nothing(place: Place) -> None:
    body = document(annotations={"cut": "off"})
    fields = ((b"Content-Type", MANIFEST.encode()), (b"Content-Length", str(len(body) + 10).encode()))
    for reference in ("new", digest_of(body)):
        message = Request("PUT", f"/v2/{REPO}/manifests/{reference}".encode(), fields, body, half_close=True)
        with socket.create_connection((place.address.host, place.address.port), timeout=60) as connection:
            connection.sendall(message.encode())
            connection.shutdown(socket.SHUT_WR)
            reply = read_reply(connection)
        assert reply is None or 400 <= reply.status < 500
        assert place.send(request("GET", f"/v2/{REPO}/manifests/{reference}")).status == 404


@pytest.mark.parametrize(
    "media_type",
    [
        "text/html",
        "application/vnd.docker.distribution.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v1+prettyjws",
        INDEX,
        "x" * 5000,
        "application/vnd.oci.image.manifest.v1+json/../x",
        "a/b, c/d",
        "\xff",
    ],
)
def test_a_type_that_the_manifest_does_not_have_is_refused(place: Place, media_type: str) -> None:
    for reference in ("new", IMAGE.digest):
        reply = put(place, IMAGE.data, media_type, reference)
        assert reply.status in {400, 415}, reply
        assert set(reply.codes()) <= {"MANIFEST_INVALID"}
    pulled = place.send(request("GET", f"/v2/{REPO}/manifests/{IMAGE.digest}"))
    assert (pulled.status, pulled.header("content-type")) == (200, MANIFEST)


def test_a_manifest_under_the_digest_of_another_is_refused(place: Place) -> None:
    body = document(annotations={"other": "bytes"})
    for claimed in (ABSENT, IMAGE.digest, OTHER_IMAGE.digest, digest_of(IMAGE.data, "sha512")):
        reply = put(place, body, MANIFEST, claimed)
        assert (reply.status, reply.codes()) == (400, ["DIGEST_INVALID"])
    assert place.send(request("GET", f"/v2/{REPO}/manifests/{IMAGE.digest}")).body == IMAGE.data


def _padded(size: int) -> bytes:
    body = document(annotations={"padding": ""})
    return body.replace(b'"padding": ""', b'"padding": "' + b"x" * (size - len(body)) + b'"')


def _comes_and_goes(place: Place, body: bytes, digest: str) -> None:
    media_type = json.loads(body)["mediaType"]
    reply = put(place, body, media_type, digest, SCRATCH)
    assert reply.status == 201, reply
    pulled = place.send(request("GET", f"/v2/{SCRATCH}/manifests/{digest}"))
    assert (pulled.status, pulled.body == body, pulled.header("content-type")) == (200, True, media_type)
    assert place.send(request("DELETE", f"/v2/{SCRATCH}/manifests/{digest}")).status == 202


def test_ranges_of_a_blob_are_whole_partial_or_refused(place: Place) -> None:
    path = f"/v2/{REPO}/blobs/{LAYER.digest}"
    size = len(LAYER.data)
    cases = {
        "bytes=500-0": {416},
        f"bytes={size}-": {416},
        "bytes=99999999999999999999999999-": {416},
        "bytes=-0": {416},
        "bytes=0-99999999999999999999999999": {206},
        "bytes=-99999999999999999999999999": {206},
        "bytes=0-0": {206},
        "bytes=abc": {200, 416},
        "bytes=": {200, 416},
        "bytes=-": {200, 416},
        "bytes=--1": {200, 416},
        "bytes=0-1-2": {200, 416},
        "bytes=+0-+1": {200, 416},
        "items=0-1": {200},
        "0-1": {200},
        "bytes=0-" + ",0-" * 5000: {200, 206, 400, 416, 431},
        "bytes=" + ",".join(f"{at}-{at}" for at in range(0, 3000, 2)): {200, 206, 400, 416, 431},
        "bytes=٠-٩".encode().decode("latin-1"): {200, 416},
    }
    for value, statuses in cases.items():
        message = request("GET", path, headers={"Range": value})
        reply = place.send(message)
        assert reply.status in statuses, (value[:60], reply)
        if reply.status == 200:
            assert reply.body == LAYER.data, value[:60]
        if reply.status == 416:
            assert reply.codes() == ["RANGE_INVALID"], value[:60]
            assert reply.header("content-range") == f"bytes */{size}", value[:60]
        assert len(reply.body) < 4 * size + 2000, "ranges do not multiply what is sent"


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_range_on_a_manifest_is_ignored_or_honoured_exactly(place: Place, method: str) -> None:
    reply = place.send(request(method, f"/v2/{REPO}/manifests/one", headers={"Range": "bytes=0-9"}))
    assert reply.status in {200, 206}
    if method == "GET":
        assert reply.body == (IMAGE.data if reply.status == 200 else IMAGE.data[:10])


def test_an_empty_blob_has_no_bytes_to_give(place: Place) -> None:
    empty = Blob(b"")
    place.push(SCRATCH, empty)
    for value in ("bytes=0-", "bytes=0-0", "bytes=-1", "bytes=-0"):
        reply = place.send(request("GET", f"/v2/{SCRATCH}/blobs/{empty.digest}", headers={"Range": value}))
        assert reply.status in {200, 416}, (value, reply)
    assert place.send(request("DELETE", f"/v2/{SCRATCH}/blobs/{empty.digest}")).status == 202

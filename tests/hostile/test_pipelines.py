"""Random requests, one behind another on one connection, cut anywhere: each is answered as it is alone, in order.

``HOSTILE_SEED`` repeats a run, ``PIPELINES`` sets how many connections there are; the seed is in each failure.
"""

from __future__ import annotations

import os
import random
import secrets
import time
from typing import TYPE_CHECKING

import pytest

from tests.hostile.answers import answers, converse
from tests.hostile.place import ABSENT, IMAGE, LAYER, REPO, Place
from tests.hostile.wire import Request, chunk

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.hostile.wire import Reply

SEED = int(os.environ.get("HOSTILE_SEED", "0")) or secrets.randbelow(1 << 32)
PIPELINES = int(os.environ.get("PIPELINES", "120"))
SECONDS = 20
"""After so long the run ends with fewer pipelines rather than late; a slow machine is no failure."""
LONGEST = 90
"""Requests of a pipeline: more than wait for each other before the connection is no longer read."""
OF_EACH = {"date", "x-request-id", "connection"}
"""Headers of an answer that are its own."""
UPGRADE = ((b"Connection", b"Upgrade"), (b"Upgrade", b"h2c"))
CHUNKED = (b"Transfer-Encoding", b"chunked")
MANIFEST = f"/v2/{REPO}/manifests/one".encode()
BLOB = f"/v2/{REPO}/blobs/{LAYER.digest}".encode()
INNER = b"DELETE " + MANIFEST + b" HTTP/1.1\r\nHost: registry.test\r\n\r\n"
"""What a body is, that must not be run."""


def length(body: bytes) -> tuple[bytes, bytes]:
    """The header that frames a body."""
    return b"Content-Length", str(len(body)).encode()


REQUESTS = [
    Request("GET", MANIFEST),
    Request("GET", MANIFEST),
    Request("HEAD", MANIFEST),
    Request("GET", MANIFEST, ((b"If-None-Match", f'"{IMAGE.digest}"'.encode()),)),
    Request("GET", MANIFEST, ((b"Content-Length", b"0"),)),
    Request("GET", MANIFEST, (length(INNER),), INNER),
    Request("GET", MANIFEST, UPGRADE),
    Request("GET", MANIFEST, (*UPGRADE, length(INNER)), INNER),
    Request("GET", f"/v2/{REPO}/manifests/{ABSENT}".encode()),
    Request("GET", BLOB),
    Request("HEAD", BLOB),
    Request("GET", BLOB, ((b"Range", b"bytes=3-17"),)),
    Request("GET", BLOB, ((b"Range", b"bytes=999999-"),)),
    Request("GET", f"/v2/{REPO}/tags/list".encode()),
    Request("GET", f"/v2/{REPO}/tags/list?n=0".encode()),
    Request("GET", f"/v2/{REPO}/referrers/{IMAGE.digest}".encode()),
    Request("GET", b"/v2/"),
    Request("GET", b"/v2/", (CHUNKED,), chunk(INNER) + b"0\r\n\r\n"),
    Request("GET", b"/v2/", (*UPGRADE, CHUNKED), chunk(INNER[:7]) + chunk(INNER[7:]) + b"0\r\nX: y\r\n\r\n"),
    Request("GET", b"/livez"),
    Request("GET", b"/nothing/here"),
    Request("POST", f"/v2/{REPO}/tags/list".encode(), (length(INNER),), INNER),
    Request("PATCH", f"/v2/{REPO}/blobs/uploads/none".encode(), (length(INNER * 9),), INNER * 9),
    Request("PUT", f"/v2/{REPO}/manifests/two".encode(), (length(INNER),), INNER),
    Request("PUT", f"/v2/{REPO}/manifests/two".encode(), (CHUNKED,), chunk(b"{}") + b"0\r\n\r\n"),
    Request("POST", f"/v2/{REPO}/blobs/uploads/?digest={ABSENT}".encode(), (length(INNER),), INNER),
    Request("OPTIONS", MANIFEST),
]
"""None of them changes anything."""


@pytest.fixture(autouse=True, scope="module")
def untouched(place: Place) -> Iterator[None]:
    """As that of all hostile tests, for these together."""
    before = place.snapshot()
    yield
    place.assert_unchanged(before)


def segments(data: bytes, chance: random.Random) -> list[bytes]:
    """The data, cut at random: at a few places, or into many small pieces."""
    most = chance.choice([0, 1, 3, 12, 200])
    cuts = sorted(chance.sample(range(1, len(data)), min(most, len(data) - 1)))
    return [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]


def essence(reply: Reply) -> tuple[object, ...]:
    """What two answers to the same request have in common."""
    headers = {name: value for name, value in reply.headers if name not in OF_EACH}
    return reply.status, headers, reply.body, reply.complete


def test_each_request_of_a_pipeline_is_answered_as_it_is_alone(place: Place) -> None:
    alone = []
    for message in REQUESTS:
        for _ in range(2):  # the second time from memory, where that is kept
            (reply,) = answers(converse(place.address, [message.encode()]), [message.method])
        alone.append(essence(reply))
    chance = random.Random(SEED)
    deadline = time.monotonic() + SECONDS
    answered = 0
    for number in range(PIPELINES):
        chosen = chance.choices(range(len(REQUESTS)), k=chance.randint(1, chance.choice([5, 20, LONGEST])))
        data = b"".join(REQUESTS[index].encode() for index in chosen)
        pause = chance.choice([0, 0, 0.0005])
        received = converse(place.address, segments(data, chance), pause=pause)
        found = answers(received, [REQUESTS[index].method for index in chosen])
        for index, reply in zip(chosen, found, strict=False):
            assert essence(reply) == alone[index], (SEED, number, REQUESTS[index])
        assert len(found) == len(chosen), (SEED, number, [REQUESTS[index] for index in chosen])
        answered += len(found)
        if time.monotonic() > deadline:
            break
    assert answered > 100, "the machine is too slow for this test to say anything"

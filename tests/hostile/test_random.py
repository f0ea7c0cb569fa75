"""Thousands of requests made of wrong parts at random: whatever they are, the answer is in order and nothing changes.

``HOSTILE_SEED`` repeats a run, ``HOSTILE_REQUESTS`` sets how many are sent; the seed is printed and in each failure.
"""

from __future__ import annotations

import json
import os
import random
import secrets
import time
from typing import TYPE_CHECKING
from urllib.parse import unquote

from tests.hostile.place import (
    ABSENT,
    CODES,
    CONFIG,
    IMAGE,
    LAYER,
    NEW_SCRATCH,
    OTHER_IMAGE,
    OTHER_LAYER,
    OTHER_SCRATCH,
    SCRATCH,
    Place,
)
from tests.hostile.wire import Reply, Request, chunk, request, try_send
from tests.support.payloads import MANIFEST, digest_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

REQUESTS = int(os.environ.get("HOSTILE_REQUESTS", "3000"))
SEED = int(os.environ.get("HOSTILE_SEED", "0")) or secrets.randbelow(1 << 32)
SECONDS = 50
"""After so long the run ends with fewer requests rather than late; a slow machine is no failure."""

SEEDED = ((SCRATCH, IMAGE, LAYER), (OTHER_SCRATCH, OTHER_IMAGE, OTHER_LAYER))
WRONG_NAMES = ["UPPER", "..", "a/../b", "storage", ".uploads", "a" * 300, "%2e%2e", "%00", "é", ""]
NAMES = [SCRATCH, OTHER_SCRATCH, NEW_SCRATCH, *WRONG_NAMES]
TAGS = ["one", "none", ".x", "x" * 129, "%00", "..", "a%2fb", "é", "", "one?tag=two", "%0d%0aX-Injected:%20yes"]
DIGESTS = [IMAGE.digest, LAYER.digest, OTHER_IMAGE.digest, OTHER_LAYER.digest, CONFIG.digest, ABSENT]
DIGESTS += [digest_of(LAYER.data, "sha512"), "sha256:", "sha256:zz", "md5:" + "0" * 32, "sha256:../../secret", ":", ""]
SESSIONS = ["", "none", "..", "00000000-0000-4000-8000-000000000000", "%00", "x" * 300]
SEGMENTS = ["blobs", "uploads", "manifests", "tags", "list", "referrers", "..", ""]
NUMBERS = ["0", "1", "-1", "", "a", "9" * 30, "%00", "1.5"]
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "FOO"]
HEADERS = {
    "Content-Type": [MANIFEST, "application/octet-stream", "", "\xff", "text/plain; charset=x", "x" * 300],
    "Content-Range": ["0-5", "5-0", "bytes 0-5/6", "", "-", "0-" + "9" * 30, "\xff"],
    "Range": ["bytes=0-5", "bytes=5-0", "bytes=-1", "bytes=0-,0-", "x", "bytes=" + "9" * 30 + "-", "\xff"],
    "Accept": ["*/*", "", "text/html", MANIFEST, "\xff"],
    "If-None-Match": ["*", '"x"', "x", f'"{IMAGE.digest}"', 'W/"', "\xff"],
    "X-Forwarded-Host": ["evil.test", "\xff", "a b", ""],
    "X-Forwarded-Proto": ["https", "x", ""],
    "X-Forwarded-Prefix": ["/x", "//x", "\xff"],
    "Expect": ["100-continue", "x"],
    "Authorization": ["Basic x", "Bearer", "\xff"],
}
BODIES = [b"", b"x", b"{}", b"[]", b"null", LAYER.data, IMAGE.data, IMAGE.data[:-1], b"\xff" * 100, b"[" * 10_000]
QUERIES: dict[str, Sequence[str]] = {
    "digest": DIGESTS,
    "mount": DIGESTS,
    "from": NAMES,
    "tag": TAGS,
    "n": NUMBERS,
    "last": TAGS,
    "artifactType": TAGS,
    "digest-algorithm": ["sha256", "sha512", "md5", "", ".."],
    "ns": ["docker.io", "..", ""],
    "": ["", "=", "%"],
}


class Generator:
    """Requests from one seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def next(self) -> Request:
        """One request; about half of them are a valid request with one thing wrong, the others wrong throughout."""
        pick = self._random.choice
        target = self._target().encode()
        if self._random.random() < 0.1:
            target = self._mutate(target)
        headers = {name: pick(values) for name, values in HEADERS.items() if self._random.random() < 0.15}
        message = request(pick(METHODS), target, headers=headers)
        return self._with_body(message)

    def _target(self) -> str:
        pick = self._random.choice
        name, digest, tag = pick(NAMES), pick(DIGESTS), pick(TAGS)
        path = pick(
            [
                f"/v2/{name}/manifests/{pick([digest, tag])}",
                f"/v2/{name}/manifests/{digest}",
                f"/v2/{name}/blobs/{digest}",
                f"/v2/{name}/blobs/uploads/{pick(SESSIONS)}",
                f"/v2/{name}/blobs/uploads/",
                f"/v2/{name}/tags/list",
                f"/v2/{name}/referrers/{digest}",
                "/v2/_catalog",
                "/v2/",
                "/v2",
                f"/v2/{name}/{tag}",
                "/v2/" + "/".join(self._random.choices(SEGMENTS, k=4)),
                "/" + tag,
            ]
        )
        count = pick([0, 0, 0, 1, 1, 2, 3])
        names = self._random.choices(list(QUERIES), k=count)
        query = "&".join(f"{key}={pick(QUERIES[key])}" for key in names)
        return path + ("?" + query if query else "")

    def _mutate(self, data: bytes) -> bytes:
        """A byte changed, doubled, dropped or put in; never one that ends the request line."""
        changed = bytearray(data)
        for _ in range(self._random.randint(1, 4)):
            at = self._random.randrange(1, len(changed) + 1)
            byte = self._random.choice([*b"\0\t%./\\\x7f\x80\xff", self._random.randrange(33, 256)])
            action = self._random.randrange(3)
            if action == 0:
                changed.insert(at, byte)
            elif at < len(changed):
                changed[at : at + 1] = bytes([byte] * action)
        return bytes(changed)

    def _with_body(self, message: Request) -> Request:
        body = self._random.choice(BODIES)
        framings: list[Callable[[], tuple[tuple[tuple[bytes, bytes], ...], bytes]]] = [
            lambda: ((), b""),
            lambda: (((b"Content-Length", str(len(body)).encode()),), body),
            lambda: (((b"Content-Length", str(len(body)).encode()),), body),
            lambda: (((b"Transfer-Encoding", b"chunked"),), chunk(body) * bool(body) + b"0\r\n\r\n"),
            lambda: (((b"Content-Length", str(len(body) + 7).encode()),), body),
            lambda: (((b"Transfer-Encoding", b"chunked"),), chunk(body)[: self._random.randint(0, 9)]),
            lambda: (((b"Content-Length", b"-1"),), body),
        ]
        framing = self._random.choice(framings)
        fields, sent = framing()
        return Request(
            message.method,
            message.target,
            (*message.headers, *fields),
            sent,
            # What never comes would be waited for; what is complete is sent as clients do.
            half_close=framing in framings[4:6],
        )


def test_random_requests_are_answered_in_order_and_change_nothing(place: Place) -> None:
    print(f"HOSTILE_SEED={SEED}")  # noqa: T201 - shown with a failure, and by -s
    generator = Generator(SEED)
    deadline = time.monotonic() + SECONDS
    answered = refused = 0
    unanswered: set[str] = set()
    created: list[tuple[str, str]] = []
    for number in range(REQUESTS):
        message = generator.next()
        # What the seeded repositories have must not be deleted by a request that happens to be right.
        if message.method == "DELETE" and b"hostile/" in message.target:
            message = Request("HEAD", message.target, message.headers, message.body, half_close=True)
        note = f"seed {SEED}, request {number}: {message}"
        reply = try_send(place.address, message)
        if reply is None and message.method == "POST":
            unanswered.add(message.target.split(b"/blobs/uploads")[0].decode(errors="replace"))
        if reply is not None:
            answered += 1
            refused += reply.status >= 400
            _check(place, message, reply, note)
            if reply.status == 201:
                path = place.path_of(reply)
                created.append((path.rsplit("/", 1)[0], reply.header("docker-content-digest") or ""))
                place.made.add(path.removeprefix("/v2/").rsplit("/", 2)[0])
        if time.monotonic() > deadline:
            break
    _cancel_unanswered(place, unanswered)
    place.made.update(_made_unanswered(place, unanswered))
    assert place.made.isdisjoint(WRONG_NAMES)
    created += [(f"{path}/blobs", digest) for path in unanswered for digest in DIGESTS if len(digest) > 70]
    assert answered > 100, f"only {answered} answers with seed {SEED}"
    assert refused > answered // 4, "the generator no longer generates what is wrong"
    _take_back(place, created)


def _check(place: Place, message: Request, reply: Reply, note: str) -> None:
    assert reply.status < 500, (note, reply)
    place.inspect(message, reply)
    if reply.status == 202 and reply.header("location"):
        place.cancel(place.path_of(reply))
    is_ours = message.target.startswith(b"/v2/") and message.target.isascii() and message.method != "HEAD"
    # HTTP that cannot be parsed is refused before there is a path to answer for.
    if reply.status >= 400 and is_ours and reply.header("content-type") == "application/json":
        assert set(reply.codes()) <= CODES, (note, reply)
    if reply.status in {404, 405, 413, 416} and is_ours:
        assert set(reply.codes()) <= CODES, (note, reply)


def _cancel_unanswered(place: Place, repositories: set[str]) -> None:
    """A client that vanishes after its POST leaves a session whose name it never learnt; here the disk tells it."""
    for path in (place.root / ".uploads").iterdir():
        for repository in repositories:
            place.send(request("DELETE", f"{repository}/blobs/uploads/{path.name}"))


def _made_unanswered(place: Place, repositories: set[str]) -> set[str]:
    """Which of these the registry has now: a mount is done before its client turns out to be gone."""
    return {
        unquote(path.removeprefix("/v2/"))
        for path in repositories
        if place.send(request("GET", f"{path}/tags/list")).status == 200
    }


def _take_back(place: Place, created: list[tuple[str, str]]) -> None:
    """Delete what requests that happened to be right have put beside the seeded content, which must still be there."""
    for repository, manifest, _ in SEEDED:
        for tag in json.loads(place.send(request("GET", f"/v2/{repository}/tags/list")).body)["tags"]:
            assert tag != "one" or place.send(request("HEAD", f"/v2/{repository}/manifests/one")).status == 200
            place.send(request("DELETE", f"/v2/{repository}/manifests/{tag}"))
        headers = {"Content-Type": manifest.media_type}
        target = f"/v2/{repository}/manifests/{manifest.digest}?tag=one"
        assert place.send(request("PUT", target, headers=headers, body=manifest.data)).status == 201
    kept = {(f"/v2/{repository}/manifests", manifest.digest) for repository, manifest, _ in SEEDED}
    for path, digest in sorted({*created} - kept, reverse=True):  # manifests before blobs
        assert place.send(request("DELETE", f"{path}/{digest}")).status in {202, 404, 405}, (path, digest)
    for repository, manifest, layer in SEEDED:
        pulled = place.send(request("GET", f"/v2/{repository}/manifests/one"))
        assert (pulled.status, pulled.body) == (200, manifest.data)
        assert place.send(request("GET", f"/v2/{repository}/blobs/{layer.digest}")).body == layer.data

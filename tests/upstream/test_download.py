"""A file arrives whole and once, whatever an upstream does in the middle of it (checks 5 and 6 of mirrors)."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from typing import Any

import pytest

from registry.observability.metrics.instruments import Instruments
from registry.observability.metrics.upstream_metrics import UpstreamMetrics
from registry.upstream.download import ATTEMPTS, Download, Goal
from registry.upstream.errors import (
    AnswerInvalid,
    ContentChanged,
    UpstreamDenied,
    UpstreamStatus,
    UpstreamThrottled,
    UpstreamUnavailable,
)
from tests.upstream.hostile import Handler, HostileServer, hostile_server, redirect, upstream_of, whole

PATH = "/v2/team/app/blobs/sha256:x"
CONTENT = random.Random(17).randbytes(1_000_000)
STEP = 300_000
"""Bytes after which the server of a test cuts its bodies."""


class Blob:
    """Cuts each body after STEP bytes, and answers ranges."""

    def __init__(self, server: HostileServer) -> None:
        self.server = server
        self.content = CONTENT
        self.etag: str | None = '"x"'
        self.step = STEP
        self.ignores_ranges = False
        self.has_length = True
        self.part: Callable[[int, int], dict[str, str]] = lambda start, total: {
            "Content_Range": f"bytes {start}-{total - 1}/{total}"
        }
        self.sent = 0
        """Bytes of bodies."""
        server.replies[PATH] = self.reply

    def reply(self, handler: Handler) -> None:
        content, start, headers = self.content, 0, {"Content_Type": "application/octet-stream"}
        given = handler.headers.get("Range")
        fits = handler.headers.get("If-Range") in (None, self.etag)
        if given is not None and fits and not self.ignores_ranges:
            start = int(given.removeprefix("bytes=").removesuffix("-"))
            if start >= len(content):
                return handler.answer(416, b"", Content_Range=f"bytes */{len(content)}")
            headers |= self.part(start, len(content))
        if self.etag is not None:
            headers["ETag"] = self.etag
        body = content[start : start + self.step]
        with self.server.lock:
            self.sent += len(body)
        if self.has_length:
            headers["Content_Length"] = str(len(content) - start)
        else:
            headers["Transfer_Encoding"] = "chunked"
            body = b"%x\r\n%s\r\n" % (len(body), body) + (b"0\r\n\r\n" if start + self.step >= len(content) else b"")
        handler.answer(206 if "Content_Range" in headers else 200, body, **headers)
        if start + self.step < len(content):
            handler.cut()
        return None

    def ranges(self) -> list[str | None]:
        return [seen.headers.get("range") for seen in self.server.seen if seen.path == PATH]


@pytest.fixture
def blob(server: HostileServer) -> Blob:
    return Blob(server)


@pytest.fixture
def goal() -> Goal:
    return Goal(hashlib.sha256())


def read(server: HostileServer, goal: Goal, **keys: Any) -> bytes:
    """The file from the offset of the goal on; no test waits between two requests."""
    with (
        upstream_of(server.url(), allowed_hosts=["127.0.0.0/8"], **keys) as upstream,
        upstream.download(PATH, scope="", goal=goal) as download,
    ):
        download._sleep = lambda _: None
        return b"".join(iter(lambda: download.read(65536), b""))


def test_a_file_is_read_and_hashed(blob: Blob, goal: Goal) -> None:
    blob.step = len(CONTENT)
    assert read(blob.server, goal) == CONTENT
    assert (goal.offset, goal.size, goal.etag) == (len(CONTENT), len(CONTENT), '"x"')
    assert goal.hasher.digest() == hashlib.sha256(CONTENT).digest()
    assert len(blob.server.connections) == len(blob.server.seen) == 1


def test_size_and_media_type_are_known_before_the_first_byte(blob: Blob, goal: Goal) -> None:
    with upstream_of(blob.server.url()) as upstream, upstream.download(PATH, scope="", goal=goal) as download:
        assert not blob.server.seen
        for _ in range(2):
            download.open()
        assert (goal.size, goal.etag, download.media_type) == (len(CONTENT), '"x"', "application/octet-stream")
    assert len(blob.server.seen) == 1


@pytest.mark.parametrize("etag", ['"x"', 'W/"x"', None])
@pytest.mark.parametrize("has_length", [True, False])
def test_a_body_that_breaks_off_is_resumed_there(blob: Blob, goal: Goal, etag: str | None, has_length: bool) -> None:
    blob.etag, blob.has_length = etag, has_length
    make = Instruments()
    assert read(blob.server, goal, metrics=UpstreamMetrics(make)) == CONTENT
    assert goal.hasher.digest() == hashlib.sha256(CONTENT).digest()
    assert blob.ranges() == [None, "bytes=300000-", "bytes=600000-", "bytes=900000-"]
    assert blob.sent == len(CONTENT)
    assert {seen.headers.get("if-range") for seen in blob.server.seen[1:]} == {'"x"' if etag == '"x"' else None}
    assert 'registry_upstream_resumptions_total{mirror="hub"} 3.0' in make.render().decode()


def test_an_upstream_that_ignores_ranges_has_its_first_bytes_skipped(blob: Blob, goal: Goal) -> None:
    blob.ignores_ranges = True
    steps = iter([300_000, 600_000, 500_000, 1_000_000])
    reply = blob.reply

    def longer(handler: Handler) -> None:
        blob.step = next(steps)
        reply(handler)

    blob.server.replies[PATH] = longer
    assert read(blob.server, goal) == CONTENT
    assert goal.hasher.digest() == hashlib.sha256(CONTENT).digest()


def test_a_file_is_taken_over_at_an_offset(blob: Blob) -> None:
    goal = Goal(hashlib.sha256(CONTENT[:123_456]), 123_456, len(CONTENT), '"x"')
    assert read(blob.server, goal) == CONTENT[123_456:]
    assert blob.ranges()[0] == "bytes=123456-"


def test_every_resumption_begins_at_the_original_url(server: HostileServer, goal: Goal) -> None:
    with hostile_server() as cdn:
        blob = Blob(cdn)
        numbers = iter(range(100))

        def sign(handler: Handler) -> None:
            redirect(f"{cdn.url('cdn.example.org')}{PATH}?signature={next(numbers)}")(handler)

        server.replies["/v2/a"] = sign
        with (
            upstream_of(server.url(), allowed_hosts=["127.0.0.0/8"]) as upstream,
            upstream.download("/v2/a", scope="", goal=goal) as download,
        ):
            assert b"".join(iter(lambda: download.read(1 << 20), b"")) == CONTENT
        assert [seen.headers.get("range") for seen in server.seen] == [
            None, "bytes=300000-", "bytes=600000-", "bytes=900000-",
        ]  # fmt: skip
        assert [path.rpartition("=")[2] for path in cdn.paths()] == ["0", "1", "2", "3"]
        assert blob.sent == len(CONTENT)


def change_after_first(blob: Blob, **changes: Any) -> None:
    """From the second request on the blob is another one."""
    reply = blob.reply

    def changed(handler: Handler) -> None:
        reply(handler)
        for name, value in changes.items():
            setattr(blob, name, value)

    blob.server.replies[PATH] = changed


@pytest.mark.parametrize(
    "changes",
    [
        {"etag": '"y"', "content": CONTENT[::-1]},
        {"etag": '"y"'},
        {"content": CONTENT[::-1], "ignores_ranges": True, "step": len(CONTENT)},
        {"content": CONTENT + b"more"},
        {"content": CONTENT[:-1]},
        {"content": CONTENT[:STEP], "etag": None},
        {"content": CONTENT[:1000], "etag": None},
        {"content": CONTENT[:1000], "ignores_ranges": True, "step": len(CONTENT), "etag": None},
    ],
    ids=str,
)
def test_a_file_that_changes_in_the_middle_is_begun_anew(blob: Blob, goal: Goal, changes: dict[str, Any]) -> None:
    change_after_first(blob, **changes)
    with pytest.raises(ContentChanged):
        read(blob.server, goal)
    assert goal.offset == STEP


@pytest.mark.parametrize(
    "content_range",
    [
        "bytes 0-999999/1000000",
        "bytes 299999-999999/1000000",
        "bytes 300000-999998/1000000",
        "bytes 300000-1000000/1000000",
        "bytes 300000-200000/1000000",
        "bytes */1000000",
        "items 300000-999999/1000000",
        "300000-999999/1000000",
        "bytes 300000-999999",
        f"bytes 300000-999999/{10**30}",
        f"bytes 300000-999999/{'9' * 5000}",
    ],
)
def test_another_part_than_was_asked_for_is_refused(blob: Blob, goal: Goal, content_range: str) -> None:
    blob.part = lambda start, total: {"Content_Range": content_range}
    with pytest.raises(AnswerInvalid):
        read(blob.server, goal)


def test_a_part_of_a_whole_that_is_not_told_is_taken(blob: Blob, goal: Goal) -> None:
    blob.part = lambda start, total: {"Content_Range": f"bytes {start}-{total - 1}/*"}
    assert read(blob.server, goal) == CONTENT


def test_a_part_that_was_not_asked_for_is_refused(server: HostileServer, goal: Goal) -> None:
    server.replies[PATH] = whole(206, CONTENT, Content_Range=f"bytes 0-{len(CONTENT) - 1}/{len(CONTENT)}")
    with pytest.raises(AnswerInvalid):
        read(server, goal)


def test_an_answer_of_another_size_than_is_known_is_refused(blob: Blob) -> None:
    with pytest.raises(ContentChanged, match="1000000 bytes, not 5"):
        read(blob.server, Goal(hashlib.sha256(), size=5))


def test_requests_without_a_byte_end_after_five(blob: Blob, goal: Goal) -> None:
    change_after_first(blob, step=0)
    with pytest.raises(UpstreamUnavailable):
        read(blob.server, goal)
    assert len(blob.server.seen) == ATTEMPTS
    assert goal.offset == STEP


def test_one_byte_is_progress(blob: Blob, goal: Goal) -> None:
    blob.content, blob.step = CONTENT[:20], 1
    assert read(blob.server, goal) == CONTENT[:20]
    assert len(blob.server.seen) == 20


def test_the_first_request_is_sent_once(server: HostileServer, goal: Goal) -> None:
    server.replies[PATH] = whole(500)
    with pytest.raises(UpstreamUnavailable):
        read(server, goal)
    assert len(server.seen) == 1


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (404, UpstreamStatus),
        (416, UpstreamStatus),
        (204, UpstreamStatus),
        (403, UpstreamDenied),
        (429, UpstreamThrottled),
    ],
)
@pytest.mark.parametrize("is_first", [True, False])
def test_a_status_ends_a_download(blob: Blob, goal: Goal, status: int, error: type[Exception], is_first: bool) -> None:
    if is_first:
        blob.server.replies[PATH] = whole(status)
    else:
        reply = blob.reply

        def then(handler: Handler) -> None:
            blob.server.replies[PATH] = whole(status)
            reply(handler)

        blob.server.replies[PATH] = then
    with pytest.raises(ContentChanged if status == 416 and not is_first else error):
        read(blob.server, goal)
    assert len(blob.server.seen) == (1 if is_first else 2)


@pytest.mark.parametrize("body", [b"", b"short"])
def test_a_body_without_a_length_ends_where_it_ends(server: HostileServer, goal: Goal, body: bytes) -> None:
    def until_close(handler: Handler) -> None:
        handler.close_connection = True
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + body)

    server.replies[PATH] = until_close
    assert read(server, goal) == body
    assert (goal.size, goal.offset) == (len(body), len(body))


def test_a_body_without_a_length_that_is_shorter_than_is_known_is_not_whole(server: HostileServer) -> None:
    def until_close(handler: Handler) -> None:
        handler.close_connection = True
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nshort")

    server.replies[PATH] = until_close
    goal = Goal(hashlib.sha256(), size=6)
    with pytest.raises(UpstreamUnavailable):
        read(server, goal)
    assert goal.offset == 5


def test_a_download_that_is_closed_in_the_middle_gives_its_connection_back(blob: Blob) -> None:
    blob.step = len(CONTENT)
    with upstream_of(blob.server.url(), connections=1) as upstream:
        for _ in range(3):
            with upstream.download(PATH, scope="", goal=Goal(hashlib.sha256())) as download:
                assert isinstance(download, Download)
                assert download.read(10) == CONTENT[:10]


def test_other_algorithms_are_compared_too(blob: Blob) -> None:
    blob.ignores_ranges, blob.step = True, len(CONTENT)
    goal = Goal(hashlib.sha512(CONTENT[:5]), 5)
    assert read(blob.server, goal) == CONTENT[5:]
    assert goal.hasher.digest() == hashlib.sha512(CONTENT).digest()


@pytest.mark.parametrize("digits", [19, 30, 5000])
def test_a_length_that_no_file_has_is_an_error_of_the_upstream(server: HostileServer, goal: Goal, digits: int) -> None:
    """No column holds it, and Python refuses to read one of so many digits: the leader began again and again."""

    def reply(handler: Handler) -> None:
        handler.answer(200, b"x", Content_Length="9" * digits)
        handler.cut()

    server.replies[PATH] = reply
    with pytest.raises(AnswerInvalid):
        read(server, goal)
    assert goal.size is None

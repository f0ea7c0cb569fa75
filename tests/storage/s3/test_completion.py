"""What is taken for an object whose parts were put together when the answer to that was lost."""

from __future__ import annotations

import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, NamedTuple

import pytest

from registry.storage.errors import PathNotFound, StorageUnavailable
from registry.storage.s3.client import S3Bucket
from registry.storage.s3.completion import Completion
from registry.storage.s3.objects import S3Objects
from registry.storage.s3.requests import S3Request
from tests.storage.drivers import S3
from tests.support.servers import HOST

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from registry.storage.driver import ObjectStat

SIZE = 100
COMPLETE = S3Request("complete_multipart_upload", "POST", query={"uploadId": "u"}, body=b"parts")
DONE = b"<CompleteMultipartUploadResult><ETag>claimed</ETag></CompleteMultipartUploadResult>"
BUSY = b"<Error><Code>InternalError</Code></Error>"


class Told(NamedTuple):
    """What a late store answers to a request that completes."""

    body: bytes | None = DONE
    """None: nothing, and the connection ends."""
    status: int = 200
    late: bool = False
    """The answer comes after the client has given up."""
    makes: bool = True


class LateStore:
    """One key. Requests that complete are answered as it was told; a late one ends with the ``shown``th look.

    As long as that is under way, others are answered at once; what they have made is gone when it ends.
    """

    def __init__(self, *told: Told, shown: int = 1, there: bool = False) -> None:
        self.told = list(told)
        self.asked: Counter[str] = Counter()
        self.is_there = there
        self.given_up = threading.Event()
        store = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                store.asked["complete"] += 1
                told = store.told.pop(0)
                if told.late:
                    store.given_up.wait(30)
                store.is_there = told.makes and not (told.late and store.asked["complete"] > 1)
                self.close_connection = told.body is None or told.late
                if told.body is not None and not told.late:
                    self._answer(told.status, told.body)

            def do_HEAD(self) -> None:
                store.asked["look"] += 1
                if store.asked["look"] >= shown:
                    store.given_up.set()
                self._answer(200 if store.is_there else 404, b"-" * SIZE)

            def _answer(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.send_header("ETag", '"made"')
                self.send_header("Last-Modified", "Tue, 24 Nov 2026 23:59:58 GMT")
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer((HOST, 0), Handler)
        self.server.daemon_threads = True


@pytest.fixture
def complete() -> Iterator[Callable[..., ObjectStat]]:
    """Has a store put the parts together, within seconds that are few."""
    ended: list[Callable[[], None]] = []

    def do(store: LateStore, *, timeout: float = 10.0, before: bool = False) -> ObjectStat:
        serving = threading.Thread(target=store.server.serve_forever, kwargs={"poll_interval": 0.01})
        serving.start()
        url = f"http://{HOST}:{store.server.server_port}"
        patience = {"attempts": 3, "connect_timeout": 1.0, "read_timeout": 0.5, "timeout": timeout}
        bucket = S3Bucket(S3.model_copy(update={"endpoint_url": url, **patience}), "")
        ended.extend([store.given_up.set, store.server.shutdown, serving.join, store.server.server_close, bucket.close])
        objects = S3Objects(bucket)
        return Completion(bucket, objects, "key", SIZE, objects.same("key", SIZE) if before else None).make(COMPLETE)

    yield do
    for end in ended:
        end()


def test_an_answer_in_time_is_believed(complete: Callable[..., ObjectStat]) -> None:
    store = LateStore(Told())
    assert complete(store)[:2] == (SIZE, "claimed")
    assert store.asked == {"complete": 1}


def test_what_is_not_answered_in_time_is_not_asked_for_again_and_counts_when_it_is_there(
    complete: Callable[..., ObjectStat],
) -> None:
    """A second one would be answered at once, and what it made be gone when the first one ends."""
    store = LateStore(Told(late=True), Told(), shown=3)
    assert complete(store)[:2] == (SIZE, '"made"')
    assert store.asked["complete"] == 1
    assert store.asked["look"] > 3
    assert store.is_there


def test_what_is_not_answered_and_never_made_is_not_acknowledged(complete: Callable[..., ObjectStat]) -> None:
    store = LateStore(Told(late=True, makes=False), Told(makes=False))
    with pytest.raises(StorageUnavailable, match="does not say"):
        complete(store, timeout=2.0)
    assert store.asked["complete"] == 1


def test_a_gateway_that_gives_up_says_as_little(complete: Callable[..., ObjectStat]) -> None:
    store = LateStore(Told(b"", 504), Told())
    complete(store)
    assert store.asked == {"complete": 1, "look": 1}


@pytest.mark.parametrize("lost", [Told(None), Told(BUSY, 500), Told(BUSY), Told(b"", 503), Told(b"<half", 200)])
def test_what_was_made_though_it_seemed_to_fail_is_not_made_again(
    complete: Callable[..., ObjectStat], lost: Told
) -> None:
    store = LateStore(lost, Told())
    assert complete(store).etag == '"made"'
    assert store.asked == {"complete": 1, "look": 1}


@pytest.mark.parametrize("lost", [Told(None, makes=False), Told(BUSY, 500, makes=False), Told(BUSY, makes=False)])
def test_what_failed_is_made_again_and_looked_for(complete: Callable[..., ObjectStat], lost: Told) -> None:
    store = LateStore(lost, Told())
    assert complete(store).etag == '"made"'
    assert store.asked == {"complete": 2, "look": 2}


def test_a_second_answer_that_it_is_done_is_not_believed(complete: Callable[..., ObjectStat]) -> None:
    """As of versitygw, while the first is under way and may fail."""
    store = LateStore(Told(None, makes=False), Told(makes=False))
    with pytest.raises(StorageUnavailable, match="does not say"):
        complete(store, timeout=2.0)


@pytest.mark.parametrize("status", [200, 404])
def test_parts_that_have_gone_are_told(complete: Callable[..., ObjectStat], status: int) -> None:
    gone = Told(b"<Error><Code>NoSuchUpload</Code></Error>", status, makes=False)
    with pytest.raises(PathNotFound):
        complete(LateStore(gone))
    with pytest.raises(PathNotFound):
        complete(LateStore(Told(None, makes=False), gone))


def test_what_was_to_be_replaced_is_not_taken_for_what_was_made(complete: Callable[..., ObjectStat]) -> None:
    """It may be damaged, and has the same tag, which the store noted when it was whole."""
    store = LateStore(Told(late=True), there=True, shown=3)
    with pytest.raises(StorageUnavailable, match="does not say"):
        complete(store, timeout=2.0, before=True)

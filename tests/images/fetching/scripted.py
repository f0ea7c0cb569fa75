"""An upstream that does what a test tells it to, and clients that read what comes of it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self

from registry.images.fetching.content import FetchFailed
from registry.images.fetching.hub import FetchHub
from registry.images.fetching.policy import FetchPolicy
from registry.images.fetching.reader import FetchReader
from registry.images.registry import Registry
from registry.oci.digest import Digest

if TYPE_CHECKING:
    from hashlib import _Hash

    from registry.images.fetching.listener import FetchListener

PIECE = 64 << 10
REPOSITORY = "hub/team/app"
WAIT = 60.0
"""Seconds after which a test has hung."""


class ScriptedUpstream:
    """Gives ``data`` in pieces. A Source for any number of hubs."""

    def __init__(self, data: bytes, *, tells_size: bool = True) -> None:
        self.data = data
        self.digest = Digest.of(data)
        self.etag = '"e"'
        self.tells_size = tells_size
        self.requests: list[int] = []
        """The offset of each."""
        self.sent = 0
        self.closed = 0
        self.misses = 0
        self.on_open: Callable[[int], None] = lambda _number: None
        """Called with the number of each request, from 1; may wait or raise."""
        self.on_piece: Callable[[int], None] = lambda _offset: None
        """Called before each piece, with its offset; may wait or raise."""
        self.lock = threading.Lock()

    def content(self, hasher: _Hash, *, offset: int, size: int | None, etag: str | None) -> ScriptedContent:
        """See Source."""
        return ScriptedContent(self, hasher, offset, size, etag)

    def part(self, hasher: _Hash, *, begin: int, stop: int | None) -> ScriptedContent:
        """See Source."""
        content = ScriptedContent(self, hasher, begin, None, None)
        content.stop = stop
        return content

    def miss(self) -> None:
        """See Source."""
        self.misses += 1


class ScriptedContent:
    """See Content."""

    def __init__(
        self, upstream: ScriptedUpstream, hasher: _Hash, offset: int, size: int | None, etag: str | None
    ) -> None:
        self.size, self.etag = size, etag
        self.media_type: str | None = None
        self._upstream = upstream
        self._hasher = hasher
        self._offset = offset
        self.stop: int | None = None

    def open(self) -> None:
        if self.size is not None and self._offset >= self.size:
            return
        upstream = self._upstream
        with upstream.lock:
            upstream.requests.append(self._offset)
            number = len(upstream.requests)
        upstream.on_open(number)
        self.size = len(upstream.data) if upstream.tells_size else None
        self.etag, self.media_type = upstream.etag, "application/octet-stream"

    def read(self, size: int) -> bytes:
        upstream = self._upstream
        if self._offset >= len(upstream.data[: self.stop]):
            self.size = len(upstream.data)
            return b""
        upstream.on_piece(self._offset)
        data = upstream.data[: self.stop][self._offset : self._offset + min(size, PIECE)]
        self._offset += len(data)
        self._hasher.update(data)
        with upstream.lock:
            upstream.sent += len(data)
        return data

    def close(self) -> None:
        self._upstream.closed += 1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class Gate:
    """Lets a script pass up to an offset; it waits there until the test opens it."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.reached = threading.Event()
        self.opened = threading.Event()

    def __call__(self, offset: int) -> None:
        if offset >= self.at:
            self.reached.set()
            assert self.opened.wait(WAIT)


class Cut(Exception):
    """A client was cut; what it has is in ``data``."""

    def __init__(self, data: bytes, failure: FetchFailed) -> None:
        super().__init__(failure.reason)
        self.data = data
        self.failure = failure


def await_ready(reader: FetchReader, seconds: float = WAIT) -> bool:
    """Whether there is something for a client within so many seconds."""
    ready = threading.Event()
    watch = reader.watch(ready.set)
    if watch is None:
        return True
    if ready.wait(seconds):
        return True
    watch.cancel()
    return False


def await_head(reader: FetchReader) -> tuple[int, str | None]:
    ready = threading.Event()
    if reader.watch_head(ready.set) is not None:
        assert ready.wait(WAIT), "nothing came of it"
    return reader.head()


def read_up_to(reader: FetchReader, count: int) -> bytes:
    """So many bytes."""
    data = b""
    while len(data) < count and not reader.is_done:
        assert await_ready(reader), f"nothing came after {len(data)} bytes"
        try:
            data += reader.read(min(1 << 20, count - len(data)))
        except FetchFailed as failure:
            raise Cut(data, failure) from failure
    return data


def read_all(reader: FetchReader) -> bytes:
    """All that it wants; the reader is closed. Raises Cut."""
    with reader:
        return read_up_to(reader, 1 << 40)


def read_until_nothing_comes(reader: FetchReader, seconds: float = 0.3) -> bytes:
    data = b""
    while await_ready(reader, seconds):
        data += reader.read(1 << 20)
    return data


@contextmanager
def hub_of(registry: Registry, *, listener: FetchListener | None = None, **policy: Any) -> Iterator[FetchHub]:
    """The hub of a process, which looks more often than others do."""
    hub = FetchHub(
        registry.backends,
        registry.repositories,
        registry.blob_publication,
        registry.blobs,
        FetchPolicy(**{"poll": 0.01, "flush": 0.01, **policy}),
        listener=listener,
    )
    try:
        yield hub
    finally:
        hub.close()


def join(hub: FetchHub, upstream: ScriptedUpstream, repository: str = REPOSITORY, **more: Any) -> FetchReader:
    return hub.join("mirror", repository, more.pop("digest", upstream.digest), upstream, **more)


def in_threads(readers: list[FetchReader]) -> list[bytes | Cut]:
    """What each client has at its end."""

    def read(reader: FetchReader) -> bytes | Cut:
        try:
            return read_all(reader)
        except Cut as cut:
            return cut

    with ThreadPoolExecutor(max(len(readers), 1)) as pool:
        done: list[Future[bytes | Cut]] = [pool.submit(read, reader) for reader in readers]
        return [future.result(WAIT) for future in done]

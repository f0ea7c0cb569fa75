"""*Passing*: bytes for one client straight from the upstream, beside a fetch that is too slow for it; none are stored.

A reader passes over to it by itself: a client of another process's fetch in a store whose uploads cannot be read, after
``policy.follow_timeout``, and a range that begins ``policy.ahead`` bytes beyond what has come. Its callers see no
difference. It asks by the path of the client's own repository, so that it needs no proof.

A few bytes are kept in memory. They come in threads of their own, each time for a few of them: no thread waits for a
client. The last byte of a whole blob is held back until the digest was right; that of a range cannot be known.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, Final

import structlog

from registry.images.fetching.content import ContentReplaced, FetchFailed, Reason
from registry.images.fetching.watch import Watch, wake_all
from registry.interruption import Interrupted, Interruption
from registry.oci.digest import Digest, new_hasher

if TYPE_CHECKING:
    from collections.abc import Callable

    from registry.images.fetching.content import Content, Source

    Run = Callable[[Callable[[], None]], None]

MOST: Final = 1 << 20
"""Bytes that are kept for a client, or a piece more."""
PIECE: Final = 256 << 10
TURN: Final = 8 << 20
"""Bytes after which other clients of the same threads have a turn."""

log = structlog.get_logger(__name__)


class Passing:
    """Any thread; ``open`` in one that may wait for the upstream, before all else."""

    def __init__(self, source: Source, digest: Digest, run: Run, ended: Callable[[Passing], object]) -> None:
        """``run`` has something done in a thread that may wait for the upstream; ``ended`` hears when it is closed."""
        self.size: int | None = None
        """Bytes of the blob; None before ``open``."""
        self.media_type: str | None = None
        self._source = source
        self._digest = digest
        self._run = run
        self._ended = ended
        self._lock = threading.RLock()
        self._interruption = Interruption()
        self._watches: set[Watch] = set()
        self._pieces: deque[bytes] = deque()
        self._content: Content | None = None
        self._failure: FetchFailed | None = None
        self._is_running = self._is_closed = False
        self._aim(0, None)

    def open(self, begin: int = 0, stop: int | None = None) -> None:
        """Ask the upstream: the size is known then. Raises FetchFailed, ContentReplaced, Interrupted."""
        self._aim(begin, stop)
        self._open()

    def want(self, begin: int, stop: int | None) -> None:
        """Say which bytes are wanted, before any is read."""
        with self._lock:
            if (begin, stop) not in {(self._position, self._stop), (self._position, self._end)}:
                self._close_content()
                self._aim(begin, stop)

    @property
    def is_done(self) -> bool:
        """Whether all that is wanted was read."""
        with self._lock:
            return self._is_over and self._position >= self._filled

    def watch(self, wake: Callable[[], object]) -> Watch | None:
        """Have ``wake`` called, in any thread, when there are bytes, the end or an error; None where there are."""
        with self._lock:
            if self._is_ready():
                return None
            watch = Watch(self, self._is_ready, wake)
            self._watches.add(watch)
            self._start()
            return watch

    def forget(self, watch: Watch) -> None:
        """See Watch.cancel."""
        with self._lock:
            self._watches.discard(watch)

    def read(self, size: int) -> bytes:
        """What there is, at most ``size`` bytes; empty at the end, or where nothing is yet. Raises FetchFailed."""
        with self._lock:
            self._start()
            size = min(size, self._limit() - self._position)
            if size <= 0:
                if self._failure is not None:
                    raise self._failure
                return b""
            piece = self._pieces.popleft()
            data = piece[:size]
            if len(piece) > size:
                self._pieces.appendleft(piece[size:])
            self._position += len(data)
            return data

    def fail(self, failure: FetchFailed) -> None:
        """No further bytes come."""
        with self._lock:
            self._failure = self._failure or failure
        self._interruption.interrupt()
        self._wake()

    def close(self) -> None:
        """Leave."""
        self._interruption.interrupt()
        with self._lock:
            self._is_closed = True
            if not self._is_running:
                self._close_content()
        self._ended(self)

    def _aim(self, begin: int, stop: int | None) -> None:
        self._begin, self._stop = begin, stop
        self._position = self._filled = begin
        self._is_over = False
        self._hasher = new_hasher(self._digest.algorithm)

    @property
    def _end(self) -> int | None:
        known = [each for each in (self._stop, self.size) if each is not None]
        return min(known, default=None)

    @property
    def _is_whole(self) -> bool:
        return self._begin == 0 and self._end == self.size

    def _limit(self) -> int:
        return self._filled - (1 if self._is_whole and not self._is_over else 0)

    def _is_ready(self) -> bool:
        return self._failure is not None or self._is_over or self._limit() > self._position

    def _start(self) -> None:
        """Have more bytes come; the caller has the lock."""
        is_enough = self._filled - self._position >= MOST
        if not (self._is_running or self._is_closed or self._is_over or is_enough or self._failure is not None):
            self._is_running = True
            try:
                self._run(self._fill)
            except RuntimeError:  # the threads have ended
                self._is_running = False
                self._failure = FetchFailed(Reason.STOPPED, "this process ends")

    def _fill(self) -> None:
        is_hungry = False
        try:
            is_hungry = self._fill_up()
        except FetchFailed as failure:
            self.fail(failure)
        except ContentReplaced as error:
            self.fail(FetchFailed(Reason.CUT, str(error)))
        except Interrupted:
            self.fail(FetchFailed(Reason.STOPPED, "the client has left"))
        except Exception:
            log.exception("bytes that are passed on ended with an error of ours")
            self.fail(FetchFailed(Reason.STORAGE, "an error of ours"))
        with self._lock:
            self._is_running = False
            if self._is_closed or self._is_over or self._failure is not None:
                self._close_content()
            elif is_hungry:
                self._start()

    def _fill_up(self) -> bool:
        """Read until there are enough; True where it is the turn of other clients first."""
        left = TURN
        while left > 0:
            with self._lock:
                if self._is_closed or self._filled - self._position >= MOST:
                    return False
            content = self._content or self._open()
            with self._interruption:
                data = content.read(PIECE)
            if not data:
                self._finish()
                return False
            with self._lock:
                self._pieces.append(data)
                self._filled += len(data)
            left -= len(data)
            self._wake()
        return True

    def _open(self) -> Content:
        content = self._source.part(self._hasher, begin=self._begin, stop=self._stop)
        try:
            with self._interruption:
                content.open()
            self._take_head(content)
        except BaseException:
            content.close()
            raise
        self._content = content
        return content

    def _take_head(self, content: Content) -> None:
        if content.size is None or self.size not in {None, content.size}:
            raise FetchFailed(Reason.INVALID, "the upstream does not say how large the blob is, or says two sizes")
        self.size, self.media_type = content.size, content.media_type

    def _finish(self) -> None:
        """All has come. Raises FetchFailed where it is not what was wanted."""
        if self._filled != self._end:
            raise FetchFailed(Reason.UNAVAILABLE, "the upstream has sent too little")
        if self._is_whole and Digest.from_hasher(self._hasher) != self._digest:
            self._source.miss()
            raise FetchFailed(Reason.WRONG, f"the bytes have the digest {Digest.from_hasher(self._hasher)}")
        with self._lock:
            self._is_over = True
        self._wake()

    def _close_content(self) -> None:
        content, self._content = self._content, None
        if content is not None:
            content.close()

    def _wake(self) -> None:
        with self._lock:
            due = [watch for watch in self._watches if watch.is_due()]
            self._watches.difference_update(due)
        wake_all(due)

"""*Remote blob*: a blob of an upstream, as a leader of its fetch reads it."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final, Protocol, Self

from registry.images.fetching.content import ContentReplaced, FetchFailed, Reason
from registry.mirror.patient_upstream import UpstreamGivenUp
from registry.upstream.download import Goal
from registry.upstream.errors import (
    ContentChanged,
    TokenUnavailable,
    UpstreamDenied,
    UpstreamError,
    UpstreamStatus,
    UpstreamThrottled,
    UpstreamUnavailable,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from hashlib import _Hash

    from registry.upstream.download import Download

_ABSENT: Final = (404, 410)


class Downloads(Protocol):
    """What it is read from: ``PatientUpstream``, whose pauses it keeps, and ``Upstream`` are such."""

    def download(self, path: str, *, scope: str, goal: Goal) -> Download:
        """See Upstream."""


class RemoteBlob:
    """A Source: a path below the URL of an upstream. Any thread."""

    def __init__(self, upstream: Downloads, path: str, scope: str, on_miss: Callable[[], object] | None = None) -> None:
        """``scope`` is what a token has to be good for; ``on_miss`` is called where the upstream does not have it."""
        self._upstream = upstream
        self._path = path
        self._scope = scope
        self._on_miss = on_miss

    def content(self, hasher: _Hash, *, offset: int, size: int | None, etag: str | None) -> RemoteContent:
        """See Source."""
        goal = Goal(hasher, offset, size, etag)
        return RemoteContent(self._upstream.download(self._path, scope=self._scope, goal=goal))

    def part(self, hasher: _Hash, *, begin: int, stop: int | None) -> RemoteContent:
        """See Source."""
        goal = Goal(hasher, begin, begin=begin, stop=stop)
        return RemoteContent(self._upstream.download(self._path, scope=self._scope, goal=goal))

    def miss(self) -> None:
        """See Source."""
        if self._on_miss is not None:
            self._on_miss()


class RemoteContent:
    """A Content: a download, whose errors are those of a fetch."""

    def __init__(self, download: Download) -> None:
        self._download = download

    @property
    def size(self) -> int | None:
        """See Content."""
        return self._download.goal.size

    @property
    def etag(self) -> str | None:
        """See Content."""
        return self._download.goal.etag

    @property
    def media_type(self) -> str | None:
        """See Content."""
        return self._download.media_type

    def open(self) -> None:
        """See Content."""
        with _as_errors_of_a_fetch():
            self._download.open()

    def read(self, size: int) -> bytes:
        """See Content."""
        with _as_errors_of_a_fetch():
            return self._download.read(size)

    def close(self) -> None:
        """See Content."""
        self._download.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


@contextlib.contextmanager
def _as_errors_of_a_fetch() -> Iterator[None]:
    try:
        yield
    except ContentChanged as error:
        raise ContentReplaced(str(error)) from error
    except UpstreamError as error:
        reason, seconds = _reason(error)
        raise FetchFailed(reason, str(error), seconds) from error


def _reason(error: UpstreamError) -> tuple[Reason, float | None]:
    """Why it failed, and after how many seconds it may work, where it says so."""
    match error:
        case UpstreamThrottled():
            return Reason.THROTTLED, error.seconds
        case TokenUnavailable() | UpstreamGivenUp():
            return Reason.UNAVAILABLE, error.seconds
        case UpstreamUnavailable():
            return Reason.UNAVAILABLE, None
        case UpstreamDenied():
            return Reason.DENIED, None
        case UpstreamStatus() if error.status in _ABSENT:
            return Reason.ABSENT, None
    return Reason.INVALID, None

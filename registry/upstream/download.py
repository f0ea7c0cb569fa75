"""*Download*: the bytes of one file of an upstream, from an offset to the end, resumed where they break off.

Every resumption begins at the original URL: where a redirect led to is good for minutes.
"""

from __future__ import annotations

import hashlib
import random
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol, Self

from registry import interruption
from registry.upstream.errors import (
    AnswerInvalid,
    ContentChanged,
    TokenUnavailable,
    UpstreamStatus,
    UpstreamThrottled,
    UpstreamUnavailable,
)
from registry.waiting import aside

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from registry.observability.metrics.upstream_metrics import UpstreamMetrics
    from registry.upstream.answer import Answer

ATTEMPTS: Final = 5
"""Requests in a row without one more byte, after which a download ends."""
_PIECE: Final = 256 << 10
_LONGEST_WAIT: Final = 2.0
_OK, _PARTIAL, _NOT_SATISFIABLE = 200, 206, 416
_RANGE: Final = re.compile(r"\s*bytes\s+(\d{1,18})-(\d{1,18})/(\d{1,18}|\*)\s*", re.ASCII)


class Requests(Protocol):
    """What a download asks; ``client.Upstream`` is one."""

    name: str

    def request(self, method: str, path: str, *, scope: str = "", headers: Mapping[str, str] | None = None) -> Answer:
        """See Upstream."""


@dataclass
class Goal:
    """What is known of the file, and how far its reading has come; a download keeps it up to date."""

    hasher: Any
    """Hash of hashlib over the bytes before ``offset``."""
    offset: int = 0
    """Bytes that were read before."""
    size: int | None = None
    """Bytes of the whole file; None if that is not known."""
    etag: str | None = None
    """ETag of the file, as it was sent; None if it is not known."""
    begin: int = 0
    """The first byte that ``hasher`` has seen, or is to see: those before it are not wanted."""
    stop: int | None = None
    """Behind the last byte that is wanted; None for the end of the file."""

    @property
    def end(self) -> int | None:
        """Behind the last byte that is to come; None if that is not known."""
        known = [each for each in (self.size, self.stop) if each is not None]
        return min(known, default=None)


class Download:
    """A context manager. For one thread at a time."""

    def __init__(
        self,
        upstream: Requests,
        path: str,
        scope: str,
        goal: Goal,
        metrics: UpstreamMetrics | None = None,
        sleep: Callable[[float], object] = interruption.sleep,
    ) -> None:
        self.goal = goal
        self.media_type: str | None = None
        """Content-Type of the first answer; None before it, and where it has none."""
        self._upstream = upstream
        self._path = path
        self._scope = scope
        self._metrics = metrics
        self._sleep = sleep
        self._answer: Answer | None = None
        self._fails = 0
        self._has_answered = False

    def open(self) -> None:
        """Send the request, unless it was sent: size, ETag and media type are known then, as far as they are told.

        Raises what ``read`` raises.
        """
        while self._answer is None and not self._is_done():
            try:
                self._answer = self._begin()
                self._has_answered = True
            except (UpstreamThrottled, TokenUnavailable):
                raise
            except UpstreamUnavailable as error:
                self._lost(error)

    def read(self, size: int) -> bytes:
        """What has come, at most ``size`` bytes; they are in the hash, too. Empty at the end of the whole file.

        A body that breaks off is asked for again from there; the first request is sent once. It raises UpstreamStatus
        (404 and the like), ContentChanged where the rest belongs to something else, and what ``request`` raises.
        """
        goal = self.goal
        while not self._is_done():
            self.open()
            if self._answer is None:
                break
            wanted = size if goal.end is None else min(size, goal.end - goal.offset)
            try:
                data = self._answer.read(wanted)
            except UpstreamUnavailable as error:
                self._lost(error)
                continue
            if data:
                goal.hasher.update(data)
                goal.offset += len(data)
                self._fails = 0
                return data
            if goal.size is None:
                goal.size = goal.offset  # nothing said where it ends, and this is the end
            elif not self._is_done():
                self._lost(UpstreamUnavailable(f"{self._answer.origin.host}: the body ends too early"))
        self.close()
        return b""

    def close(self) -> None:
        """Give the connection back, or cut it where bytes are left. Any number of times."""
        answer, self._answer = self._answer, None
        if answer is not None:
            answer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _is_done(self) -> bool:
        return self.goal.end is not None and self.goal.offset >= self.goal.end

    def _begin(self) -> Answer:
        goal = self.goal
        headers: dict[str, str] = {}
        if goal.offset or goal.stop is not None:
            headers["Range"] = f"bytes={goal.offset}-{'' if goal.stop is None else goal.stop - 1}"
            if goal.etag is not None and not goal.etag.startswith("W/"):
                headers["If-Range"] = goal.etag
        answer = self._upstream.request("GET", self._path, scope=self._scope, headers=headers)
        try:
            self._check(answer)
        except BaseException:
            answer.cut()
            raise
        return answer

    def _check(self, answer: Answer) -> None:
        goal, host = self.goal, answer.origin.host
        if answer.status == _NOT_SATISFIABLE and goal.offset:
            raise ContentChanged(f"{host}: the file has no bytes from {goal.offset} on")
        if answer.status not in (_OK, _PARTIAL):
            raise UpstreamStatus(f"{host} does not give it: status {answer.status}", answer.status)
        etag = answer.headers.get("ETag")
        if etag is not None and goal.etag is not None and etag != goal.etag:
            raise ContentChanged(f"{host}: the file has another ETag than before")
        self._check_size(answer, host)
        goal.etag = goal.etag or etag
        self.media_type = self.media_type or answer.headers.get("Content-Type")
        if answer.status == _OK and goal.offset:
            self._skip(answer, host)

    def _check_size(self, answer: Answer, host: str) -> None:
        goal, size = self.goal, answer.length
        if answer.status == _PARTIAL:
            size = _whole_of(answer, goal, host)
        if size is not None and goal.size is not None and size != goal.size:
            raise ContentChanged(f"{host}: the file has {size} bytes, not {goal.size}")
        if size is not None and size < goal.offset:
            raise ContentChanged(f"{host}: the file has {size} bytes, of which {goal.offset} were read")
        goal.size = size if goal.size is None else goal.size

    def _skip(self, answer: Answer, host: str) -> None:
        """Pass what was read before, and compare it: the server ignores ranges, or has something new."""
        goal = self.goal
        passed, offset = hashlib.new(goal.hasher.name), 0
        while offset < goal.offset:
            data = answer.read(min(_PIECE, goal.offset - offset))
            if not data:
                raise UpstreamUnavailable(f"{host}: the body ends before what was read")
            offset += len(data)
            seen = min(len(data), max(offset - goal.begin, 0))
            passed.update(data[len(data) - seen :])
        if passed.digest() != goal.hasher.digest():
            raise ContentChanged(f"{host}: the file begins with other bytes than before")

    def _lost(self, error: UpstreamUnavailable) -> None:
        """Wait before the next request. Raises the error where there were too many."""
        if self._answer is not None:
            self._answer.cut()
            self._answer = None
        self._fails += 1
        if self._fails >= ATTEMPTS or not self._has_answered:
            raise error
        if self._metrics is not None:
            self._metrics.add_resumption(self._upstream.name)
        if self._fails > 1:
            with aside:
                self._sleep(random.uniform(0, min(0.1 * 2**self._fails, _LONGEST_WAIT)))  # noqa: S311 - no secret


def _whole_of(answer: Answer, goal: Goal, host: str) -> int | None:
    """Bytes of the whole file of which this is the rest, or what is wanted of it; None if it does not say."""
    found, offset = _RANGE.fullmatch(answer.headers.get("Content-Range", "")), goal.offset
    if found is None or not (offset or goal.stop is not None):
        raise AnswerInvalid(f"{host}: a part of the file that was not asked for, or without its place")
    start, end = int(found[1]), int(found[2])
    if start != offset or end < start or answer.length not in (None, end - start + 1):
        raise AnswerInvalid(f"{host}: another part of the file than was asked for")
    whole = None if found[3] == "*" else int(found[3])
    if whole is not None and end >= whole:
        raise AnswerInvalid(f"{host}: a part of the file that ends behind it")
    return whole

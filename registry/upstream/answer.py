"""*Answer*: status, headers and body of an answer of an upstream, read in pieces and within bounds.

Tests: ``tests/upstream/test_client.py``.
"""

from __future__ import annotations

import contextlib
from http.client import HTTPException
from typing import TYPE_CHECKING, Final, Self

from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError, ReadTimeoutError, SSLError
from urllib3.exceptions import ProtocolError as ProtocolBroken

from registry.cutoff import Cutoff
from registry.interruption import interruptible
from registry.upstream.errors import AnswerInvalid, UpstreamSilent, UpstreamUnavailable
from registry.waiting import aside

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager

    from urllib3 import HTTPResponse

    from registry.upstream.url import Origin, Url

BROKEN: Final = (HTTPError, HTTPException, OSError)
"""What a request or its body raises when a connection breaks."""
DIGITS: Final = 18
"""Digits of a length that a file may have: no column holds more."""
LARGEST_HEAD: Final = 64 << 10
PIECE_SECONDS: Final = 60.0
"""For one piece of a body that comes in chunks."""
_PIECE: Final = 64 << 10
_DRAINED: Final = 64 << 10
"""Bytes of a body without use that are read, so that the connection can be used again."""
_DRAIN_SECONDS: Final = 5.0


class Answer:
    """A context manager. For one thread at a time; ``close`` gives the connection back."""

    def __init__(self, response: HTTPResponse, url: Url, count: Callable[[int], object]) -> None:
        """``url`` is where it came from, after redirects; ``count`` hears of the bytes of its body.

        Raises AnswerInvalid where its body cannot be read as it is.
        """
        self.url = url
        self.status: int = response.status
        self.headers: Mapping[str, str] = response.headers
        self._response = response
        self._count = count
        self._piece_seconds = PIECE_SECONDS
        try:
            self._check()
        except AnswerInvalid:
            self.cut()
            raise

    @property
    def origin(self) -> Origin:
        """The server that sent it."""
        return self.url.origin

    @property
    def length(self) -> int | None:
        """Bytes of the body that Content-Length names, also for HEAD; None if it does not say, or more than any has."""
        value = self.headers.get("Content-Length", "")
        return int(value) if value.isascii() and value.isdecimal() and len(value) <= DIGITS else None

    def all(self, name: str) -> list[str]:
        """The values of all headers of a name, in order."""
        return list(self._response.headers.getlist(name))

    def read(self, size: int) -> bytes:
        """What has come of the body, at most ``size`` bytes; empty at its end.

        Raises UpstreamUnavailable, also where the connection ends before the body does; Interrupted.
        """
        try:
            with aside, interruptible(self._response.shutdown), self._bounded_piece():
                data = self._response.read1(size)
        except BROKEN as error:
            raise kind_of(error)(f"{self.origin.host}: {reason_of(error)} in the middle of a body") from error
        if data:
            self._count(len(data))
        return data or b""

    def document(self, limit: int, seconds: float) -> bytes:
        """The whole body, at most ``limit`` bytes of it within ``seconds``; the answer is closed.

        Raises AnswerInvalid where it is larger, UpstreamUnavailable.
        """
        with self, Cutoff(seconds, self._response.shutdown) as cutoff:
            body = b""
            try:
                body = self._whole(limit)
            except UpstreamUnavailable:
                if not cutoff.is_over:
                    raise
            if cutoff.is_over:
                raise UpstreamSilent(f"{self.origin.host}: the answer takes too long")
            return body

    def drain(self) -> None:
        """Close an answer whose body is of no use, if it is short so that the connection can be used again."""
        try:
            self.document(_DRAINED, _DRAIN_SECONDS)
        except (AnswerInvalid, UpstreamUnavailable):
            self.cut()

    def close(self) -> None:
        """Give the connection back, if the body was read to its end; else cut it. Any number of times."""
        if self._response.length_remaining == 0:
            with contextlib.suppress(*BROKEN):
                self._response.read1(1)  # which notices the end, where there was nothing to read
        self.cut()

    def cut(self) -> None:
        """Close the connection, if it was not given back. Any number of times."""
        self._response.close()
        self._response.release_conn()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _whole(self, limit: int) -> bytes:
        pieces: list[bytes] = []
        left = limit
        while data := self.read(min(_PIECE, left + 1)):
            left -= len(data)
            if left < 0:
                raise AnswerInvalid(f"{self.origin.host}: the answer has more than {limit} bytes")
            pieces.append(data)
        return b"".join(pieces)

    def _bounded_piece(self) -> AbstractContextManager[object]:
        """What frames chunks may go on for ever without a byte of the body: it is not left to the idle timeout."""
        if "Transfer-Encoding" not in self.headers:
            return contextlib.nullcontext()
        return Cutoff(self._piece_seconds, self._response.shutdown)

    def _check(self) -> None:
        host = self.origin.host
        if sum(len(name) + len(value) + 4 for name, value in self.headers.items()) > LARGEST_HEAD:
            raise AnswerInvalid(f"{host}: the head of the answer has more than {LARGEST_HEAD} bytes")
        encoding = self.headers.get("Content-Encoding", "").strip().lower()
        if encoding not in ("", "identity"):
            raise AnswerInvalid(f"{host}: the answer is encoded, though it was asked for as it is")
        transfer = self.headers.get("Transfer-Encoding", "").strip().lower()
        if transfer not in ("", "chunked") or (transfer and "Content-Length" in self.headers):
            raise AnswerInvalid(f"{host}: it is not clear where the body of the answer ends")
        if "Content-Length" in self.headers and self.length is None:
            raise AnswerInvalid(f"{host}: the length of the answer is no number")


def kind_of(error: BaseException) -> type[UpstreamUnavailable]:
    """The error that a broken connection is for callers."""
    is_silence = isinstance(error, _SILENCE) and not isinstance(error, NewConnectionError)
    return UpstreamSilent if is_silence else UpstreamUnavailable


def reason_of(error: BaseException) -> str:
    """What broke, in words without any part of a URL."""
    if isinstance(error, SSLError):
        cause = error.args[0] if error.args else None
        message = getattr(cause, "verify_message", None)
        return f"TLS failed ({message})" if message else "TLS failed"
    for kind, words in _REASONS:
        if isinstance(error, kind):
            return words
    return f"{type(error).__name__}"


_SILENCE: Final = (ReadTimeoutError, ConnectTimeoutError, TimeoutError)
_REASONS: Final[tuple[tuple[type[BaseException], str], ...]] = (
    (ReadTimeoutError, "it was silent for too long"),
    (TimeoutError, "it was silent for too long"),
    (ProtocolBroken, "the connection was cut"),
)

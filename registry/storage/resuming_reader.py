"""Reading a range of an object in order, through connections that break: what the readers of buckets have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from http.client import HTTPException
from typing import TYPE_CHECKING, Self, TypeVar

from urllib3.exceptions import HTTPError

from registry.storage.answer_body import AnswerBody
from registry.storage.errors import StorageUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from urllib3 import BaseHTTPResponse

    from registry.storage.driver import ObjectStat
    from registry.storage.store_gate import StoreGate

T = TypeVar("T")

REOPENED = 3
"""How often a range is continued on a new connection before the reader gives up."""
_BROKEN = (HTTPError, HTTPException, OSError)
"""What reading raises when a connection breaks."""


class ResumingReader(ABC):
    """See ObjectReader. One request, and one more for each connection that breaks; always of one version."""

    def __init__(
        self, key: str, stat: ObjectStat, answer: BaseHTTPResponse | None, start: int, end: int, gate: StoreGate
    ) -> None:
        """``answer`` has the bytes from ``start`` to ``end``; None: there are none."""
        self._gate = gate
        self.stat = stat
        self._key = key
        self._body = None if answer is None else AnswerBody(answer, end - start)
        self._position = start
        self._end = end
        self._left = REOPENED

    @abstractmethod
    def _continue(self) -> BaseHTTPResponse:
        """The bytes from ``_position`` to ``_end`` of the same version. Raises StorageError."""

    def read(self, size: int) -> bytes:
        """See ObjectReader."""
        wanted = min(size, self._end - self._position)
        if wanted <= 0 or self._body is None:
            return b""
        data = self._take(lambda body: body.read(wanted))
        self._position += len(data)
        return data

    def read_into(self, buffer: memoryview) -> int:
        """See FillingReader."""
        wanted = buffer[: self._end - self._position]
        if not len(wanted) or self._body is None:
            return 0
        count = self._take(lambda body: body.read_into(wanted))
        self._position += count
        return count

    def fileno(self) -> int | None:
        """See ObjectReader."""
        return None

    def close(self) -> None:
        """See ObjectReader."""
        body, self._body = self._body, None
        if body is not None:
            body.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _take(self, read: Callable[[AnswerBody], T]) -> T:
        """Read something, on another connection where one ends before there is any."""
        while True:
            reason = "the connection ended early"
            try:
                if self._body is not None and (taken := read(self._body)):
                    self._gate.move()
                    return taken
            except _BROKEN as error:
                reason = str(error)
            self._open_again(reason)

    def _open_again(self, reason: str) -> None:
        self.close()
        self._left -= 1
        if self._left < 0:
            raise StorageUnavailable(self._key, reason)
        self._body = AnswerBody(self._continue(), self._end - self._position)

"""Reading a range of an object in order, through connections that break: what the readers of buckets have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar, Protocol, Self

from registry.storage.errors import StorageUnavailable

if TYPE_CHECKING:
    from registry.storage.driver import ObjectStat

REOPENED = 3
"""How often a range is continued on a new connection before the reader gives up."""


class Body(Protocol):
    """The bytes of one answer, as a vendor's library gives them."""

    def read(self, amt: int, /) -> bytes:
        """At most so many more; ``b""`` at the end, also at one that comes too early."""
        ...

    def close(self) -> None:
        """Free the connection."""
        ...


class ResumingReader(ABC):
    """See ObjectReader. One request, and one more for each connection that breaks; always of one version."""

    broken: ClassVar[tuple[type[Exception], ...]]
    """What reading raises when a connection breaks."""

    def __init__(self, key: str, stat: ObjectStat, body: Body | None, start: int, end: int) -> None:
        """``body`` has the bytes from ``start`` to ``end``; None: there are none."""
        self.stat = stat
        self._key = key
        self._body = body
        self._position = start
        self._end = end
        self._left = REOPENED

    @abstractmethod
    def _continue(self) -> Body:
        """The bytes from ``_position`` to ``_end`` of the same version. Raises StorageError."""

    def read(self, size: int) -> bytes:
        """See ObjectReader."""
        wanted = min(size, self._end - self._position)
        if wanted <= 0 or self._body is None:
            return b""
        while True:
            try:
                data = self._body.read(wanted)
            except self.broken as error:
                self._open_again(str(error))
                continue
            if data:
                self._position += len(data)
                return data
            self._open_again("the connection ended early")

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

    def _open_again(self, reason: str) -> None:
        self.close()
        self._left -= 1
        if self._left < 0:
            raise StorageUnavailable(self._key, reason)
        self._body = self._continue()

"""Readers: a range of an object in order, through connections that break, and several objects as one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol, Self, TypeVar

from registry.storage.driver import ObjectStat
from registry.storage.errors import (
    InvalidRange,
    PathNotFound,
    PreconditionFailed,
    StorageUnavailable,
    UploadOffsetMismatch,
)
from registry.storage.object_store.responses import BROKEN

if TYPE_CHECKING:
    from registry.storage.driver import ObjectReader
    from registry.storage.object_store.gate import StoreGate

T = TypeVar("T")

REOPENED = 3
"""How often a range is continued on a new connection before the reader gives up."""


class Body(Protocol):
    """Some bytes of an object, on their way. Not shared between threads."""

    length: int
    """How many they are."""

    def read(self, size: int) -> bytes:
        """At most ``size`` more of them; none where the connection ends early. Raises OSError and its kin."""
        ...

    def read_into(self, buffer: memoryview) -> int:
        """As ``read``, into a buffer."""
        ...

    def close(self) -> None:
        """Free the connection."""
        ...


class Flushed(NamedTuple):
    """Where a state says that the bytes of an upload are."""

    objects: Sequence[tuple[str, int]]
    """Keys, and how many bytes each has."""
    tail: bytes
    """What comes after them."""


Get = Callable[[str, int, int | None, str], tuple[ObjectStat, Body]]
"""Asks for bytes of a key, from and to, of a version."""


class ResumingReader:
    """See ObjectReader. One request, and one more for each connection that breaks; always of one version."""

    def __init__(
        self, key: str, get: Get, gate: StoreGate, stat: ObjectStat, body: Body | None = None, start: int = 0
    ) -> None:
        """``body`` has the bytes from ``start``; None if there are none."""
        self.stat = stat
        self._key = key
        self._get = get
        self._gate = gate
        self._body = body
        self._position = start
        self._end = start + body.length if body is not None else start
        self._left = REOPENED

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

    def _take(self, read: Callable[[Body], T]) -> T:
        """Read something, on another connection where one ends before there is any."""
        while True:
            reason = "the connection ended early"
            try:
                if self._body is not None and (taken := read(self._body)):
                    self._gate.move()
                    return taken
            except BROKEN as error:
                reason = str(error)
            self._open_again(reason)

    def _open_again(self, reason: str) -> None:
        self.close()
        self._left -= 1
        if self._left < 0:
            raise StorageUnavailable(self._key, reason)
        try:
            _, body = self._get(self._key, self._position, self._end, self.stat.etag)
        except (PathNotFound, PreconditionFailed, InvalidRange) as error:
            raise StorageUnavailable(self._key, "it was replaced or deleted while it was read") from error
        self._body = check_length(self._key, body, self._end - self._position)


def check_length(key: str, body: Body, wanted: int) -> Body:
    """Raises StorageUnavailable where a store has sent other bytes than those asked for, as without ranges."""
    if body.length == wanted:
        return body
    body.close()
    raise StorageUnavailable(key, f"the store sends {body.length} bytes, and {wanted} were asked for")


class UploadReader:
    """See ObjectReader. Bytes of an upload: of objects that are opened when it comes to them, and those after them."""

    def __init__(
        self,
        upload_id: str,
        open_object: Callable[[str, int, int], ObjectReader],
        flushed: Flushed,
        *,
        size: int,
        offset: int,
    ) -> None:
        """``open_object`` reads a key from an offset on, so many bytes. Raises UploadOffsetMismatch, PathNotFound.

        The first object is opened at once, so that a caller hears of an upload that was discarded.
        """
        there = sum(count for _, count in flushed.objects) + len(flushed.tail)
        if there < size:
            raise UploadOffsetMismatch(upload_id, f"{there} bytes are there, {size} expected")
        self.stat = ObjectStat(size, "", 0.0)
        self._upload_id = upload_id
        self._open = open_object
        self._flushed = flushed
        self._position = offset
        self._reader: ObjectReader | None = None
        self._ends = 0
        if offset < size:
            self._turn()

    def read(self, size: int) -> bytes:
        """See ObjectReader."""
        wanted = min(size, self.stat.size - self._position)
        if wanted <= 0:
            return b""
        if self._reader is None or self._position >= self._ends:
            try:
                self._turn()
            except PathNotFound as error:
                raise StorageUnavailable(self._upload_id, "the upload was discarded while it was read") from error
        if self._reader is None:
            begin = self._position - self._ends
            data = self._flushed.tail[begin : begin + wanted]
        else:
            data = self._reader.read(min(wanted, self._ends - self._position))
            if not data:
                raise StorageUnavailable(self._upload_id, "an object of the upload ends too early")
        self._position += len(data)
        return data

    def fileno(self) -> int | None:
        """See ObjectReader."""
        return None

    def close(self) -> None:
        """See ObjectReader."""
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _turn(self) -> None:
        """Open the object at this position, of which no byte beyond the size of this reader is wanted."""
        self.close()
        self._ends = 0
        for key, count in self._flushed.objects:
            begin, self._ends = self._ends, self._ends + count
            if self._position < self._ends:
                length = min(self._ends, self.stat.size) - self._position
                self._reader = self._open(key, self._position - begin, length)
                return


class ConcatenatedReader:
    """See ObjectReader. Closes what it reads."""

    def __init__(self, readers: list[ObjectReader], rest: bytes) -> None:
        self.stat = ObjectStat(sum(reader.stat.size for reader in readers) + len(rest), "", 0.0)
        self._readers = readers
        self._rest = rest

    def read(self, size: int) -> bytes:
        """See ObjectReader."""
        while self._readers:
            data = self._readers[0].read(size)
            if data:
                return data
            self._readers.pop(0).close()
        data, self._rest = self._rest[:size], self._rest[size:]
        return data

    def fileno(self) -> int | None:
        """See ObjectReader."""
        return None

    def close(self) -> None:
        """See ObjectReader."""
        while self._readers:
            self._readers.pop().close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

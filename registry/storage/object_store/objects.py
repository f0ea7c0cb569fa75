"""*Objects*: single objects of a bucket; what a store does with them by one request, and what follows from that."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from registry.storage.driver import CHUNK_SIZE, Child, ObjectStat
from registry.storage.errors import (
    AlreadyExists,
    InvalidRange,
    ObjectTooLarge,
    PathNotFound,
    PreconditionFailed,
    StorageUnavailable,
    Throttled,
)
from registry.storage.keys import sha256_of
from registry.storage.object_store.reader import ResumingReader, check_length

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from registry.storage.object_store.reader import Body
    from registry.storage.object_store.retry import Retry

ABSENT = ""
"""In place of a version: nothing may be there."""
PAGE = 1000
"""Objects that one request lists."""


class Page(NamedTuple):
    """Some of a listing; keys are those below the root."""

    objects: list[tuple[str, ObjectStat]]
    prefixes: Sequence[str] = ()
    """Ends of keys at the delimiter that was asked for, included; each stands for all keys that begin with it."""


class BucketObjects(ABC):
    """Reads and writes single objects, by keys below a root, which are not checked here. Any thread.

    The driver of a store gives the abstract methods. But for ``put_once`` and ``delete_once`` they repeat what may be
    repeated (``Retry``).
    """

    most_deleted = 1
    """Keys in one request."""

    def __init__(self, retry: Retry) -> None:
        self.retry = retry

    # ---- what a store does

    @abstractmethod
    def stat(self, key: str) -> ObjectStat:
        """Raises PathNotFound."""

    @abstractmethod
    def get(self, key: str, start: int, end: int | None, version: str = "") -> tuple[ObjectStat, Body]:
        """The bytes from ``start`` to ``end`` (to the end of the object if None), of one version or of the newest.

        Raises PathNotFound, PreconditionFailed (the version has gone), InvalidRange (it begins behind the end).
        """

    @abstractmethod
    def put_once(
        self, key: str, data: bytes | bytearray, over: str | None = None, *, sha256: str | None = None
    ) -> ObjectStat:
        """Write an object with one request, over that version alone, or over any object or none if it is None.

        ``sha256`` of ``data`` in hexadecimal digits, where it is known. Raises PreconditionFailed, also PathNotFound.
        """

    @abstractmethod
    def pages(self, prefix: str, *, after: str = "", delimiter: str = "", most: int) -> Iterator[Page]:
        """Every object whose key begins with ``prefix`` and sorts after ``after``, sorted, ``most`` at a time."""

    @abstractmethod
    def delete_some(self, keys: list[str]) -> None:
        """Delete at most ``most_deleted`` objects; a missing one is no error.

        A request that is not answered in time is not repeated: the first might delete what is published after the
        second was answered (I7).
        """

    @abstractmethod
    def delete_once(self, key: str, version: str, deadline: float) -> None:
        """See StorageDriver. Also raises PathNotFound."""

    # ---- what follows

    def same(self, key: str, size: int) -> ObjectStat | None:
        """The object, if it is there and has this size."""
        try:
            found = self.stat(key)
        except PathNotFound:
            return None
        return found if found.size == size else None

    def open(self, key: str, *, offset: int = 0, length: int | None = None) -> ResumingReader:
        """See StorageDriver."""
        reader = partial(ResumingReader, key, self.get, self.retry.gate)
        if length == 0:
            return reader(self.stat(key))
        try:
            stat, body = self.get(key, offset, None if length is None else offset + length)
        except InvalidRange:
            return reader(self.stat(key))
        end = stat.size if length is None else min(offset + length, stat.size)
        return reader(stat, check_length(key, body, end - offset), offset)

    def read(self, key: str, *, max_bytes: int) -> tuple[bytes, ObjectStat]:
        """See StorageDriver."""
        with self.open(key) as reader:
            if reader.stat.size > max_bytes:
                raise ObjectTooLarge(key, f"{reader.stat.size} bytes, more than {max_bytes}")
            parts = []
            while part := reader.read(CHUNK_SIZE):
                parts.append(part)
            return b"".join(parts), reader.stat

    def put(self, key: str, data: bytes | bytearray) -> ObjectStat:
        """Write an object, whatever was there."""
        return self.retry.repeat(key, partial(self.put_once, key, data))

    def put_blob(self, key: str, data: bytes | bytearray, *, replace: bool) -> ObjectStat:
        """Write bytes that are named by their digest: an object of that size is the same one, unless ``replace``."""
        write = partial(self.put_once, key, data, sha256=sha256_of(key))
        return self.create(key, len(data), lambda over: self.retry.repeat(key, partial(write, over)), replace=replace)

    def create(self, key: str, size: int, make: Callable[[str | None], ObjectStat], *, replace: bool) -> ObjectStat:
        """Make what is named by its digest: an object of that size is the same one, unless ``replace``.

        ``make`` is told what it may be made over, as ``put_once`` is.
        """
        if replace:
            return make(None)
        try:
            return make(ABSENT)
        except PreconditionFailed:
            return self.same(key, size) or make(None)

    def put_if(self, key: str, data: bytes, over: str) -> ObjectStat:
        """Write an object over that version alone. Raises AlreadyExists (it was to be ABSENT), PreconditionFailed.

        Where an answer was lost, what is there then is compared with ``data``: it may be our own.
        """
        doubtful = False

        def attempt() -> ObjectStat:
            nonlocal doubtful
            try:
                return self.put_once(key, data, over)
            except (Throttled, StorageUnavailable):
                doubtful = True  # it may have been written: what another attempt meets may be our own
                raise
            except (PreconditionFailed, PathNotFound) as error:
                ours = self._with_bytes(key, data) if doubtful else None
                if ours is not None:
                    return ours
                raise (AlreadyExists if over == ABSENT else PreconditionFailed)(key) from error

        return self.retry.repeat(key, attempt)

    def keys(self, prefix: str, after: str = "") -> Iterator[tuple[str, ObjectStat]]:
        """Every object whose key begins with ``prefix`` and sorts after ``after``, sorted."""
        for page in self.pages(prefix, after=after, most=PAGE):
            for key, stat in page.objects:
                if key and key != after and not key.endswith("/"):
                    yield key, stat

    def children(self, prefix: str) -> list[Child]:
        """The names directly below a prefix that ends with a slash, or is empty; sorted."""
        names: dict[str, bool] = {}
        for page in self.pages(prefix, delimiter="/", most=PAGE):
            for key, _ in page.objects:
                names.setdefault(key[len(prefix) :], False)
            for common in page.prefixes:
                names[common[len(prefix) : -1]] = True
        return [Child(name, names[name]) for name in sorted(names) if name]

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects, as many with one request as the store takes; a missing one is no error."""
        remaining = iter(keys)
        while batch := list(islice(remaining, self.most_deleted)):
            self.delete_some(batch)

    def _with_bytes(self, key: str, data: bytes) -> ObjectStat | None:
        """The object, if it has just these bytes."""
        try:
            found, stat = self.read(key, max_bytes=len(data))
        except (PathNotFound, ObjectTooLarge):
            return None
        return stat if found == data else None

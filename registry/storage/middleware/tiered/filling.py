"""*Filling*: a temporary file that becomes a cached file once its bytes were proven to be those of their digest.

Tests: ``tests/storage/middleware/tiered/test_directory.py``.
"""

from __future__ import annotations

import os
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Protocol

from registry.storage.middleware.tiered.cached_file import BLOCK, Origin, block_sum, file_bytes, footer

if TYPE_CHECKING:
    from pathlib import Path

    from registry.storage.middleware.tiered.observer import CacheObserver, Put

    Piece = bytes | bytearray | memoryview


class Directory(Protocol):
    """What a filling needs of its directory; the first two raise OSError."""

    observer: CacheObserver

    def grow(self, descriptor: int, old: int, new: int) -> bool:
        """Reserve bytes. False if there is no room."""

    def place(self, path: Path, descriptor: int, reserved: int, used: int, digest: str) -> None:
        """Give the file its name."""

    def drop(self, path: Path) -> None:
        """Remove the file."""

    def fail(self, path: Path, error: OSError) -> None:
        """Hear that the file could not be written."""


class Filling:
    """For one thread. It ends with ``keep`` or ``drop``; no method raises for what the disk does.

    Attributes:
        position: bytes so far.
    """

    def __init__(self, directory: Directory, descriptor: int, path: Path, reserved: int, most: int) -> None:
        """``descriptor`` is of the locked file ``path``, for which bytes are reserved, and of which no more come."""
        self.position = 0
        self._directory = directory
        self._descriptor = descriptor
        self._path = path
        self._reserved = reserved
        self._most = most
        self._whole: Any = sha256()
        self._block = bytearray()
        """The bytes of the last block, while it is not full."""
        self._sums = bytearray()

    @property
    def is_over(self) -> bool:
        """Whether nothing can be kept any more."""
        return self._descriptor < 0

    def write(self, data: Piece) -> None:
        """Add bytes at the end."""
        if self.is_over or not data:
            return
        view = memoryview(data).cast("B")
        try:
            if not self._reserve(self.position + len(view)):
                self.drop("no_room")
                return
            self._write_at(self.position, view)
        except OSError as error:
            self._fail(error)
            return
        self.position += len(view)
        self._whole.update(view)
        self._sum(view)

    def keep(self, origin: Origin) -> bool:
        """Make it the file of this object, if it has all of its bytes and no other ones."""
        if self.is_over:
            return False
        if self.position != origin.stat.size or self._whole.hexdigest() != origin.digest:
            self.drop("wrong" if self.position >= origin.stat.size else "unfinished", origin)
            return False
        if self._block:
            self._sums += block_sum(self._block)
        try:
            end = bytes(self._sums) + footer(origin)
        except ValueError:  # a key that no file can hold
            self.drop("unfinished", origin)
            return False
        try:
            self._write_at(self.position, memoryview(end))
            used = self.position + len(end)
            self._directory.place(self._path, self._descriptor, self._reserved, used, origin.digest)
        except OSError as error:
            self._fail(error)
            return False
        self._close()
        self._directory.observer.put(origin.key, origin.stat, "kept")
        return True

    def drop(self, result: Put = "unfinished", origin: Origin | None = None) -> None:
        """Keep nothing. May be called again, and after ``keep``."""
        if self.is_over:
            return
        self._directory.drop(self._path)
        self._close()
        name = origin.key if origin is not None else self._path.name
        self._directory.observer.put(name, None, result)

    # ----

    def _reserve(self, size: int) -> bool:
        needed = file_bytes(size)
        if needed <= self._reserved:
            return True
        wanted = max(needed, min(self._reserved * 2, self._most))
        for new in (wanted, needed):
            if self._directory.grow(self._descriptor, self._reserved, new):
                self._reserved = new
                return True
        return False

    def _write_at(self, position: int, view: memoryview) -> None:
        while view:
            done = os.pwrite(self._descriptor, view, position)
            position += done
            view = view[done:]

    def _sum(self, view: memoryview) -> None:
        if self._block:
            missing = BLOCK - len(self._block)
            self._block += view[:missing]
            view = view[missing:]
            if len(self._block) < BLOCK:
                return
            self._sums += block_sum(self._block)
            self._block.clear()
        whole = len(view) // BLOCK * BLOCK
        for begin in range(0, whole, BLOCK):
            self._sums += block_sum(view[begin : begin + BLOCK])
        self._block += view[whole:]

    def _fail(self, error: OSError) -> None:
        self._directory.drop(self._path)
        self._directory.fail(self._path, error)
        self._close()
        self._directory.observer.put(self._path.name, None, "error")

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

"""*Medium*: bytes of files are read from the disk, and do not stay in the memory of the machine.

What the kernel still has of a file is right while the disk rots, and what it reads for a scrub takes the place of what
clients read.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from registry.storage.driver import ObjectReader

DROPPED_BYTES: Final = 32 << 20
"""Bytes that are read before they are dropped from memory."""


class MediumReader:
    """An ObjectReader of a whole object that reads a file from its disk; one without a file as it is."""

    def __init__(self, inner: ObjectReader) -> None:
        self.stat = inner.stat
        self._inner = inner
        self._read = self._kept = 0
        self._drop()

    def read(self, size: int) -> bytes:
        """See ObjectReader."""
        data = self._inner.read(size)
        self._read += len(data)
        if self._read - self._kept >= DROPPED_BYTES:
            self._drop()
        return data

    def fileno(self) -> int | None:
        """Return None, because a caller that read the file by itself would read from memory."""
        return None

    def close(self) -> None:
        """See ObjectReader."""
        self._drop()
        self._inner.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _drop(self) -> None:
        """What is not on disk yet stays."""
        self._kept = self._read
        descriptor = self._inner.fileno()
        if descriptor is not None and descriptor >= 0:
            with contextlib.suppress(OSError):  # a file system that knows no such advice
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)

"""Locks of keys that hold between the threads of a process, between processes, and end with who holds them."""

from __future__ import annotations

import fcntl
import os
import zlib
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

LOCK_FILES = 64
"""Keys share lock files; a holder does a few system calls and never waits for a disk."""


class KeyLocks:
    """``flock`` on one of LOCK_FILES files in a directory. At most one lock is held by a thread at a time."""

    def __init__(self, directory: str) -> None:
        self._directory = directory

    @contextmanager
    def hold(self, key: str) -> Iterator[None]:
        """Exclude all other holders of ``key``. Raises OSError."""
        number = zlib.crc32(os.fsencode(key)) % LOCK_FILES
        # A description of its own for each holder: flock excludes descriptions, not threads.
        descriptor = os.open(f"{self._directory}/{number:02x}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            # Closing would leave the lock to a child that was forked meanwhile.
            fcntl.flock(descriptor, fcntl.LOCK_UN)
            os.close(descriptor)

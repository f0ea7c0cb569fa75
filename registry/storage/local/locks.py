"""Locks: those of keys between threads and processes; a lock ends with the process that holds it.

Tests: ``tests/storage/test_driver_contract_processes.py``.
"""

from __future__ import annotations

import fcntl
import os
import threading
import zlib

LOCK_FILES = 64
"""Keys share lock files; a holder does a few system calls and never waits for a disk."""


class KeyLocks:
    """``flock`` on one of LOCK_FILES files in a directory. At most one lock is held by a thread at a time."""

    def __init__(self, directory: str) -> None:
        self._locks = [_FileLock(f"{directory}/{number:02x}") for number in range(LOCK_FILES)]

    def hold(self, key: str) -> _FileLock:
        """``with`` it all other holders of ``key`` are excluded. Raises OSError."""
        return self._locks[zlib.crc32(os.fsencode(key)) % LOCK_FILES]

    def close(self) -> None:
        """Free descriptors, while no lock is held. They are opened again when they are needed."""
        for lock in self._locks:
            lock.close()


class _FileLock:
    """One file: ``flock`` excludes other processes, a lock of their own the threads, which share its description."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._threads = threading.Lock()
        self._descriptor = -1

    def __enter__(self) -> None:
        self._threads.acquire()
        try:
            if self._descriptor < 0:
                self._descriptor = os.open(self._path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        except BaseException:
            self._threads.release()
            raise

    def __exit__(self, *exc: object) -> None:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        finally:
            self._threads.release()

    def close(self) -> None:
        """See ``KeyLocks.close``."""
        with self._threads:
            descriptor, self._descriptor = self._descriptor, -1
            if descriptor >= 0:
                os.close(descriptor)

"""*Budget*: how many bytes the files of a directory have together, counted by all processes of this machine.

The count stands in a file that is locked for each change, and is never less than the truth: it is raised before a file
grows, and lowered after one is gone, under one lock. What a killed process leaves too high is put right by the walk
that an eviction begins with. A process waits a moment for the lock, then does without the cache: no client waits for
another process that walks.

Tests: ``tests/storage/middleware/tiered/test_directory.py``.
"""

from __future__ import annotations

import contextlib
import fcntl
import heapq
import os
import threading
import time
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TEMPORARY: Final = ".tmp-"
"""Begins the names of files that are being filled; each is locked by the process that fills it, as long as it lives."""
COUNT: Final = ".bytes"
"""The name of the file with the count."""
LOW: Final = 0.9
"""What an eviction leaves of the budget."""
WAIT_SECONDS: Final = 0.05
_BLOCK: Final = 4096
_WORD: Final = 8


class Contents(NamedTuple):
    """What is in a directory."""

    files: int
    bytes: int
    """Those of whole files and of files that are being filled."""
    filling: int
    oldest: float | None
    """When that file was used which has not been for longest: seconds since the epoch; None if there is none."""


class _Entry(NamedTuple):
    """A whole file; the one that was used last sorts first."""

    newness: float
    size: int
    name: str


class Busy(Exception):
    """Another process has the count for longer than this one waits."""


class Budget:
    """Any thread, any process of this machine. Every method may raise OSError."""

    def __init__(self, directory: Path, most: int) -> None:
        self.directory = directory
        self.most = most
        self._threads = threading.Lock()
        self._descriptor = -1

    def grow(self, descriptor: int, old: int, new: int) -> bool:
        """Let a temporary file grow, from one size to another, if need be in the place of files that were not used.

        False if there is no room, or if another process is making some.
        """
        more = rounded(new) - rounded(old)
        if more > self.most:
            return False
        try:
            with self._locked():
                count = self._count()
                if count + more > self.most:
                    count = self._evict(min(int(self.most * LOW), self.most - more))
                    if count + more > self.most:
                        return False
                self._set(count + more)
                os.ftruncate(descriptor, new)
        except Busy:
            return False
        return True

    def shrink(self, descriptor: int, old: int, new: int) -> None:
        """Give back what a file does not need. The file has no more than ``new`` bytes."""
        try:
            with self._locked():
                os.ftruncate(descriptor, new)
                self._set(self._count() - rounded(old) + rounded(new))
        except Busy:
            os.ftruncate(descriptor, new)

    def remove(self, path: Path) -> bool:
        """Remove a file. False if there is none."""
        try:
            with self._locked():
                return self._remove(path)
        except Busy:
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
                return True
            return False

    def make_room(self) -> None:
        """Evict a tenth of what there is: the disk is full, so it is smaller than the budget."""
        with contextlib.suppress(Busy), self._locked():
            self._evict(int(self.contents().bytes * LOW))

    def sweep(self) -> None:
        """Remove what dead processes were filling."""
        with contextlib.suppress(Busy), self._locked():
            self._remove_dead()

    def remove_dead(self, path: Path) -> bool:
        """Remove a temporary file, if a process that died was filling it. False where it is still there."""
        try:
            with self._locked(), _death(path) as is_dead:
                return is_dead and self._remove(path)
        except Busy:
            return False

    def contents(self) -> Contents:
        """Look at every file. Nothing is locked."""
        files = total = filling = 0
        oldest: float | None = None
        for temporary in self._temporary():  # first, so that one that becomes whole meanwhile is counted, if twice
            with contextlib.suppress(FileNotFoundError):
                total += rounded(temporary.stat(follow_symlinks=False).st_size)
                filling += 1
        for entry in self._whole():
            files += 1
            total += entry.size
            used = -entry.newness
            oldest = used if oldest is None else min(oldest, used)
        return Contents(files, total, filling, oldest)

    def close(self) -> None:
        """Free the descriptor, which is opened again when it is needed."""
        if self._threads.acquire(timeout=WAIT_SECONDS):
            try:
                descriptor, self._descriptor = self._descriptor, -1
                if descriptor >= 0:
                    os.close(descriptor)
            finally:
                self._threads.release()

    # ----

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Raises Busy."""
        if not self._threads.acquire(timeout=WAIT_SECONDS):
            raise Busy
        try:
            self._take_lock()
            try:
                yield
            finally:
                fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        finally:
            self._threads.release()

    def _take_lock(self) -> None:
        """Raises Busy."""
        path = self.directory / COUNT
        if self._descriptor >= 0 and not is_at(self._descriptor, path):  # the directory was emptied, or is another one
            os.close(self._descriptor)
            self._descriptor = -1
        if self._descriptor < 0:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        deadline = time.monotonic() + WAIT_SECONDS
        while True:
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise Busy from None
                time.sleep(0.001)
            else:
                return

    def _count(self) -> int:
        word = os.pread(self._descriptor, _WORD, 0)
        return int.from_bytes(word, "big") if len(word) == _WORD else self.contents().bytes

    def _set(self, count: int) -> None:
        os.pwrite(self._descriptor, max(0, count).to_bytes(_WORD, "big"), 0)

    def _remove(self, path: Path) -> bool:
        try:
            size = path.stat(follow_symlinks=False).st_size
            path.unlink()
        except FileNotFoundError:
            return False
        self._set(self._count() - rounded(size))
        return True

    def _evict(self, target: int) -> int:
        """Count anew, and remove what was not used for longest until so many bytes are left; how many there are."""
        self._remove_dead()
        count = self.contents().bytes
        self._set(count)
        if count <= target:
            return count
        for entry in self._unused(count - target):
            if self._remove(self.directory / entry.name[:2] / entry.name):
                count -= entry.size
        return count

    def _remove_dead(self) -> None:
        for path in self._temporary():
            with _death(path) as is_dead:
                if is_dead:
                    self._remove(path)

    def _unused(self, wanted: int) -> list[_Entry]:
        """Whole files with so many bytes together that were not used for longest; no more of them are in memory."""
        chosen: list[_Entry] = []
        total = 0
        for entry in self._whole():
            # A heap whose first entry is the one that was used last.
            heapq.heappush(chosen, entry)
            total += entry.size
            while total - chosen[0].size >= wanted:
                total -= heapq.heappop(chosen).size
        return chosen

    def _whole(self) -> Iterator[_Entry]:
        with os.scandir(self.directory) as outer:
            names = [entry.path for entry in outer if _is_shard(entry.name)]
        for name in names:
            with contextlib.suppress(NotADirectoryError), os.scandir(name) as inner:
                for entry in inner:
                    with contextlib.suppress(FileNotFoundError):
                        found = entry.stat(follow_symlinks=False)
                        yield _Entry(-found.st_atime, rounded(found.st_size), entry.name)

    def _temporary(self) -> list[Path]:
        with os.scandir(self.directory) as entries:
            return [self.directory / entry.name for entry in entries if entry.name.startswith(TEMPORARY)]


def rounded(size: int) -> int:
    """What a file of so many bytes takes on a disk."""
    return -(-size // _BLOCK) * _BLOCK


@contextlib.contextmanager
def _death(path: Path) -> Iterator[bool]:
    """Whether no living process has a temporary file: such a one has a lock on it. None can take it meanwhile."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        yield False
        return
    is_dead = False
    try:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_dead = is_at(descriptor, path)  # else it was renamed or removed, and the name is of another file
        yield is_dead
    finally:
        os.close(descriptor)


def is_at(descriptor: int, path: Path) -> bool:
    """Whether this open file has this name."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat(follow_symlinks=False))
    except FileNotFoundError:
        return False


def _is_shard(name: str) -> bool:
    return len(name) == 2 and all(letter in "0123456789abcdef" for letter in name)  # noqa: PLR2004 - digits of a digest

"""*Cache directory*: files by digest, which may all be lost, and of which none is believed unseen.

A file is ``{two digits}/{digest}``, made as ``.tmp-{name}`` and renamed once length and digest were right. Nothing is
synced: what a power cut leaves is found wrong when it is read. Whatever the directory cannot do, its callers do without
it: no method raises OSError. After an error it is left alone for RETRY_SECONDS.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import threading
import time
import uuid
from typing import TYPE_CHECKING, Final

from registry.storage.middleware.tiered.budget import TEMPORARY, Budget, is_at
from registry.storage.middleware.tiered.cached_file import CachedFile, DamagedFile, Origin, file_bytes
from registry.storage.middleware.tiered.filling import Filling

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from registry.storage.driver import ObjectStat
    from registry.storage.middleware.tiered.observer import CacheObserver

RETRY_SECONDS: Final = 30.0
FIRST_BYTES: Final = 1 << 20
"""Bytes that are reserved at first for a file, at most this part of the budget: its reader may leave soon."""
FIRST_PART: Final = 64
SLOW_SECONDS: Final = 30.0
"""After so long another reader of the same bytes may fill a file of its own: the first has a slow client."""
MOST_FILLING: Final = 4
"""Files of the same bytes that are filled at a time."""


class CacheDirectory:
    """Any thread, any process of this machine."""

    def __init__(
        self,
        path: Path,
        most: int,
        observer: CacheObserver,
        *,
        fills: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``most``: bytes of all files together. Without ``fills`` files are only removed, and nothing is made."""
        self.observer = observer
        self._path = path
        self._fills = fills
        self._budget = Budget(path, most)
        self._first = min(FIRST_BYTES, most // FIRST_PART)
        self._clock = clock
        self._pauses = threading.Lock()
        self._reads_at = self._fills_at = 0.0
        if fills:
            self._prepare()

    def open(self, digest: str, key: str) -> CachedFile | None:
        """The file with the bytes of this object; None if there is none that can be believed so far."""
        if self._clock() < self._reads_at:
            return None
        path = self._name(digest)
        try:
            found = CachedFile.open(path)
        except FileNotFoundError:
            return None
        except DamagedFile as error:
            self.reject(digest, error)
            return None
        except OSError as error:
            self._fail(path, error, reading=True)
            return None
        if (found.origin.digest, found.origin.key) == (digest, key):
            return found
        found.close()
        return None

    def begin(self, name: str, size: int | None = None) -> Filling | None:
        """A file to fill. None if there is no room, or another reader fills it.

        ``name``: the digest, or anything else while it is unknown. ``size`` of the object, None if that is unknown.
        """
        if not self._fills or self._clock() < self._fills_at:
            return None
        most = self._budget.most if size is None else file_bytes(size)
        if most > self._budget.most:
            self.observer.put(name, None, "no_room")
            return None
        path = self._path / f"{TEMPORARY}{name}"
        try:
            path, descriptor = self._create_beside_slow(path)
        except OSError as error:
            self._fail(path, error)
            return None
        if descriptor is None:
            return None
        try:
            reserved = min(self._first, most)
            if self._budget.grow(descriptor, 0, reserved):
                return Filling(self, descriptor, path, reserved, most)
            self.observer.put(name, None, "no_room")
        except OSError as error:
            self._fail(path, error)
        os.close(descriptor)
        self.drop(path)
        return None

    def begin_unnamed(self) -> Filling | None:
        """As ``begin``, of bytes whose digest and size are not known."""
        return self.begin(uuid.uuid4().hex)

    def keep(self, digest: str, key: str, stat: ObjectStat, data: bytes) -> None:
        """Keep the bytes of a small object, if they are right."""
        filling = self.begin(digest, len(data))
        if filling is not None:
            filling.write(data)
            filling.keep(Origin(digest, key, stat))

    def forget(self, digest: str) -> None:
        """Have no file of this digest."""
        path = self._name(digest)
        try:
            if os.path.lexists(path):
                self._budget.remove(path)
        except OSError as error:
            self._fail(path, error)

    def forget_other(self, digest: str, stat: ObjectStat) -> None:
        """Have no file of this digest that says that its object has another version."""
        try:
            found = CachedFile.open(self._name(digest))
        except (OSError, DamagedFile):
            return
        same = found.origin.stat.is_same(stat)
        found.close()
        if not same:
            self.forget(digest)

    def reject(self, digest: str, error: Exception) -> None:
        """Remove a file that is not what was kept."""
        path = self._name(digest)
        if isinstance(error, OSError):
            self._fail(path, error, reading=True)
        else:
            self.observer.failed(path, error)
        self.forget(digest)

    def close(self) -> None:
        """Free descriptors."""
        self._budget.close()

    # ---- for Filling

    def grow(self, descriptor: int, old: int, new: int) -> bool:
        """See Budget. Raises OSError."""
        return self._budget.grow(descriptor, old, new)

    def place(self, path: Path, descriptor: int, reserved: int, used: int, digest: str) -> None:
        """Give a temporary file, which has ``used`` bytes, its name. Raises OSError."""
        target = self._name(digest)
        self._budget.shrink(descriptor, reserved, used)
        if os.path.lexists(target):
            self._budget.remove(target)
        else:
            with contextlib.suppress(FileExistsError):
                target.parent.mkdir(0o700)
        path.rename(target)

    def drop(self, path: Path) -> None:
        """Remove a temporary file, if need be without counting that it has gone."""
        try:
            self._budget.remove(path)
        except OSError as error:
            self._fail(path, error)
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)

    def fail(self, path: Path, error: OSError) -> None:
        """Note that a file could not be written."""
        self._fail(path, error)
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            with contextlib.suppress(OSError):
                self._budget.make_room()

    # ----

    def _prepare(self) -> None:
        try:
            self._path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._budget.sweep()
        except OSError as error:
            self._fail(self._path, error, reading=True)

    def _create_beside_slow(self, path: Path) -> tuple[Path, int | None]:
        """As ``_create``, under this name or, where readers of the same bytes are slow, under one beside it."""
        for number in range(MOST_FILLING):
            chosen = path.with_name(f"{path.name}-{number}") if number else path
            descriptor = self._create(chosen)
            if descriptor is not None:
                return chosen, descriptor
            with contextlib.suppress(FileNotFoundError):
                begun = chosen.stat(follow_symlinks=False).st_atime  # nothing reads it
                if time.time() - begun < SLOW_SECONDS:
                    break
        return path, None

    def _create(self, path: Path) -> int | None:
        """A new temporary file that is locked; None if another reader has it."""
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            descriptor = os.open(path, flags, 0o600)
        except FileExistsError:
            if not self._budget.remove_dead(path):
                return None
            try:
                descriptor = os.open(path, flags, 0o600)
            except FileExistsError:  # another reader was faster
                return None
        # A process that looked for dead ones between these two calls holds the lock, or has removed the file.
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if is_at(descriptor, path):
                return descriptor
        os.close(descriptor)
        return None

    def _fail(self, path: Path, error: OSError, *, reading: bool = False) -> None:
        """Leave the directory alone for a while: it is perhaps a disk that is full, or another one meanwhile."""
        self.observer.failed(path, error)
        self._budget.close()
        later = self._clock() + RETRY_SECONDS
        with self._pauses:
            self._fills_at = later
            if reading:
                self._reads_at = later

    def _name(self, digest: str) -> Path:
        return self._path / digest[:2] / digest

"""*Watched file*: what a file of an operator says now; a new one takes effect without a restart.

A file that cannot be read, or makes no sense, changes nothing: the last one that did stays in use.
"""

from __future__ import annotations

import os
import stat
import threading
from typing import TYPE_CHECKING, Final, Generic, TypeVar

import structlog

if TYPE_CHECKING:
    from collections.abc import Callable
    from os import stat_result
    from pathlib import Path

T = TypeVar("T")

MAX_BYTES: Final = 16 << 20

log = structlog.get_logger(__name__)


class WatchedFile(Generic[T]):
    """Any thread. A look costs one system call while the file is the same."""

    def __init__(self, path: Path, parse: Callable[[bytes], T]) -> None:
        """Raises ValueError, OSError: the first one must do. ``parse`` raises ValueError, in words without a secret."""
        self._path = path
        self._parse = parse
        self._lock = threading.Lock()
        self._seen: object = _signature(path.stat())
        self._content = self._read()
        self.generation = 1
        """Raised by each change of what ``current`` answers."""
        self.problem: str | None = None
        """Why the file that is there now is not in use; None if it is."""

    def current(self) -> T:
        """What the file says, or the last one that said something."""
        try:
            signature: object = _signature(self._path.stat())
        except OSError as error:
            signature = error.strerror
        if signature != self._seen:
            with self._lock:
                if signature != self._seen:
                    self._take(signature)
        return self._content

    def _take(self, signature: object) -> None:
        try:
            self._content = self._read()
            self.generation += 1
            self.problem = None
        except (OSError, ValueError) as error:
            self.problem = (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
            reason = self.problem
            log.error("a file is not used, what it said before stays", path=str(self._path), reason=reason)  # noqa: TRY400
        self._seen = signature

    def _read(self) -> T:
        descriptor = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):  # another kind may have no end, or never begin
                raise ValueError("it is no file")
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise ValueError(f"it has more than {MAX_BYTES} bytes")
        return self._parse(data)


def _signature(found: stat_result) -> tuple[int, ...]:
    """What changes when a file is written anew or replaced, even to the same size in the same moment."""
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns

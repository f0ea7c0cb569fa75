"""*Audit file*: where the lines of the audit log are appended, by several processes, also after it was rotated."""

from __future__ import annotations

import os
import threading
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Final

import structlog

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MODE: Final = 0o640
"""Rights of a new file: the programs that collect logs read it as its group."""
SAY_AGAIN_SECONDS: Final = 60.0
"""Between two lines of the log that say that the file takes nothing."""
_FLAGS: Final = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK

log = structlog.get_logger(__name__)


class AuditFile:
    """Takes whole lines. Any thread, any number of processes.

    A line is one write to a file that is opened to append, so that lines of several processes do not mix. Before each
    line the path is looked at: where a rotation has moved or removed the file, the one that is there now is used.
    A line that cannot be written is dropped and counted, and nothing is raised: a full disk stops no push.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = monotonic) -> None:
        """Raises OSError for a file that cannot be opened."""
        self._path = path
        self._clock = clock
        self._lock = threading.Lock()
        self._descriptor = os.open(path, _FLAGS, MODE)
        self._is_cut = False
        """Whether a full disk has cut a line, which ends before the next one."""
        self._said = -inf
        self.dropped = 0
        """Lines that were dropped since the process began."""

    def __call__(self, line: bytes) -> None:
        """Append a line, which ends with a newline."""
        with self._lock:
            self._follow()
            text = b"\n" + line if self._is_cut else line
            try:
                written = os.write(self._descriptor, text)
            except OSError as error:
                self._drop(error.strerror or "it cannot be written")
                return
            self._is_cut = written < len(text)
            if self._is_cut:
                self._drop("there is no room left")

    def close(self) -> None:
        """Free the descriptor."""
        os.close(self._descriptor)

    def _follow(self) -> None:
        """Take the file that has the path now; where there can be none the former one goes on."""
        try:
            if os.path.samestat(self._path.stat(), os.fstat(self._descriptor)):
                return
        except FileNotFoundError:
            pass
        except OSError as error:
            self._complain(error.strerror or "its path cannot be looked at")
            return
        try:
            opened = os.open(self._path, _FLAGS, MODE)
        except OSError as error:
            self._complain(error.strerror or "it cannot be opened")
            return
        os.close(self._descriptor)
        self._descriptor, self._is_cut = opened, False

    def _drop(self, reason: str) -> None:
        self.dropped += 1
        self._complain(reason)

    def _complain(self, reason: str) -> None:
        now = self._clock()
        if now - self._said >= SAY_AGAIN_SECONDS:
            self._said = now
            log.error("the audit log is not written as it should be", reason=reason, dropped=self.dropped)

"""*Outlet*: the way of the log to stderr, which may be a pipe that is not read, a slow disk or a stopped terminal.

A write to it may wait for ever, so a thread of its own writes. A bounded number of bytes waits for it; lines that find
no room are dropped and counted, and the log says so where it goes on.
"""

from __future__ import annotations

import atexit
import threading
from collections import deque
from time import monotonic
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

ROOM = 4 << 20
"""Bytes of lines that wait to be written: of a busy registry about a second."""
LAST_SECONDS = 2.0
"""How long the end of a process may wait for its last lines to be written."""


class Outlet:
    """Takes whole lines and never waits. Any thread; the lines of one thread stay in their order."""

    def __init__(self, write: Callable[[bytes], int], *, room: int = ROOM) -> None:
        """``write`` may wait, and returns how many of the lines it was given it had to drop; see ``LineWriter``."""
        self._write = write
        self._room = room
        self._waiting: deque[bytes] = deque()
        self._held = 0
        self._missed = 0
        self._changed = threading.Condition()
        self._is_started = False
        self.dropped = 0
        """Lines that were dropped since the process began."""
        self.gap: Callable[[int], bytes] | None = None
        """Makes the line that says how many are missing before the next one."""

    def __call__(self, data: bytes) -> None:
        """Write ``data``, which ends with a newline, some time soon."""
        with self._changed:
            notice = self.gap(self._missed) if self._missed and self.gap is not None else b""
            if self._held + len(notice) + len(data) > self._room:
                self._miss(data.count(b"\n"))
                return
            self._missed = 0
            self._held += len(notice) + len(data)
            self._waiting.append(notice + data)
            if not self._is_started:
                self._is_started = True
                threading.Thread(target=self._serve, name="log", daemon=True).start()
                atexit.register(self.drain, LAST_SECONDS)
            self._changed.notify_all()

    def drain(self, seconds: float) -> bool:
        """Wait until everything is written, no longer than that. False if it was not."""
        until = monotonic() + seconds
        with self._changed:
            while self._held:
                left = until - monotonic()
                if left <= 0:
                    return False
                self._changed.wait(left)
            return True

    def _serve(self) -> None:
        while True:
            with self._changed:
                while not self._waiting:
                    self._changed.wait()
                data = b"".join(self._waiting)
                self._waiting.clear()
            lost = self._write(data)
            with self._changed:
                self._held -= len(data)
                self._miss(lost)
                self._changed.notify_all()

    def _miss(self, lines: int) -> None:
        self.dropped += lines
        self._missed += lines


class OutletStream:
    """What ``logging.StreamHandler`` writes to."""

    def __init__(self, outlet: Outlet) -> None:
        self._outlet = outlet

    def write(self, text: str) -> None:
        """Hand whole lines on."""
        self._outlet(text.encode(errors="backslashreplace"))

    def flush(self) -> None:
        """Nothing is kept here."""

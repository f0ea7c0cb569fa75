"""*Outlet*: the way of the log to stderr, which may be a pipe that is not read or a stopped terminal.

The calling thread writes what stderr takes at once. The rest, whose write may wait for ever, is left to a thread, and
all that follows it until that thread has written everything. A bounded number of bytes waits for it; lines that find
no room are dropped and counted, and the log says so where it goes on. A thread that wrote everything would cost a busy
registry a fifth of its processor time: the interpreter would change hands at each write.
"""

from __future__ import annotations

import atexit
import threading
from collections import deque
from time import monotonic
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    Write = Callable[[bytes], tuple[bytes, int]]
    """Takes lines; returns those that would have to wait, and how many were dropped."""

ROOM = 4 << 20
"""Bytes of lines that wait to be written: of a busy registry about a second."""
LAST_SECONDS = 2.0
"""How long the end of a process may wait for its last lines to be written."""


class Outlet:
    """Takes whole lines and never waits. Any thread; the lines of one thread stay in their order."""

    def __init__(self, write: Write, write_now: Write | None = None, *, room: int = ROOM) -> None:
        """``write`` may wait; ``write_now`` must not, and is left out if there is no such way. See ``LineWriter``."""
        self._write = write
        self._write_now = write_now
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
        """Write ``data``, which ends with a newline, now or soon."""
        with self._changed:
            notice = self.gap(self._missed) if self._missed and self.gap is not None else b""
            rest = notice + data
            if not self._held and self._write_now is not None:
                rest, lost = self._write_now(rest)
                if notice and lost > data.count(b"\n"):  # it is lost too: it is told once more, and is no line of ours
                    lost -= 1
                else:
                    self._missed = 0
                self._miss(lost)
                if not rest:
                    return
            if self._held + len(rest) > self._room:
                self._miss(data.count(b"\n"))
                return
            self._missed = 0
            self._held += len(rest)
            self._waiting.append(rest)
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
            rest, lost = self._write(data)
            with self._changed:
                self._held -= len(data)
                self._miss(lost + rest.count(b"\n"))
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

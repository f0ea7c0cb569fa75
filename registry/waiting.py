"""How a thread says that it is about to wait for a disk or a lock, so that another can work meanwhile."""

from __future__ import annotations

import threading
from typing import Protocol


class Turn(Protocol):
    """A thread's right to work, given out by whoever keeps few threads at work at once."""

    def lend(self) -> None:
        """The thread begins to wait."""

    def take_back(self) -> None:
        """The thread goes on."""


class _Waiting:
    """``with waiting:`` around what blocks without using the processor; it does nothing in a thread without a turn."""

    def __init__(self) -> None:
        self._thread = threading.local()

    def give(self, turn: Turn) -> None:
        """Let the calling thread lend this turn from now on."""
        self._thread.turn = turn

    def __enter__(self) -> None:
        turn: Turn | None = getattr(self._thread, "turn", None)
        if turn is not None:
            turn.lend()

    def __exit__(self, *exc: object) -> None:
        turn: Turn | None = getattr(self._thread, "turn", None)
        if turn is not None:
            turn.take_back()


waiting = _Waiting()

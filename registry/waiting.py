"""*Waiting*: a thread gives its turn to another one while it waits for a disk, a lock or a store.

The pool of short calls (``registry.api.threads``) schedules its threads cooperatively: one at a time has the turn to
work. Code below knows nothing of the pool. It says ``with waiting:`` around what blocks for a moment, and
``with aside:`` around requests to a store over a network; in a thread of no such pool both do nothing.

Tests: ``tests/api/test_threads.py``.
"""

from __future__ import annotations

import threading
from typing import Protocol


class Turn(Protocol):
    """A thread's right to work, given by the pool that keeps few threads at work at a time."""

    def lend(self) -> None:
        """The thread begins to wait."""

    def take_back(self) -> None:
        """The thread goes on."""

    def step_aside(self) -> None:
        """The thread begins a call that mostly waits for another machine, perhaps for long."""

    def come_back(self) -> None:
        """The thread has ended that call."""


class _Waiting:
    """``with waiting:`` lends the turn for the length of the block: around what blocks without using the processor."""

    def __init__(self) -> None:
        self._thread = threading.local()

    @property
    def turn(self) -> Turn | None:
        """The turn of the calling thread; None if it has none."""
        turn: Turn | None = getattr(self._thread, "turn", None)
        return turn

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


class _Aside:
    """``with aside:`` lets a further thread take the place of this one in the pool, for the length of the block."""

    def __enter__(self) -> None:
        turn = waiting.turn
        if turn is not None:
            turn.step_aside()

    def __exit__(self, *exc: object) -> None:
        turn = waiting.turn
        if turn is not None:
            turn.come_back()


waiting = _Waiting()
aside = _Aside()

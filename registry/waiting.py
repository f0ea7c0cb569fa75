"""Waiting: how a thread says that it is about to wait for a disk or a lock, so that another can work meanwhile."""

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
    """``with waiting:`` around what blocks without using the processor; it does nothing in a thread without a turn."""

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
    """``with aside:`` around requests to a store over a network: their threads do not count in the shared ones."""

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

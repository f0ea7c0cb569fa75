"""*Wall clock*: the database's, as a process knows it without asking each time.

Rows have times that processes on different machines write and compare: when something was deleted, pushed, or last
gone on with. By the clocks of these machines a replica whose clock is ahead would end uploads that another one takes,
and empty its trash too early. So a process reads the clock of the server now and then, and counts on by its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry.database.statement import Statement

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from registry.clocks import Clocks
    from registry.database.transaction import Transaction

_NOW = Statement("SELECT wall_now()")


class WallClock:
    """Seconds since the epoch. Any thread; a call asks no database."""

    def __init__(
        self, clocks: Clocks, connect: Callable[[], AbstractContextManager[Transaction]], *, is_own: bool
    ) -> None:
        """``is_own``: the database is a file on this machine, whose clock it is."""
        self._clocks = clocks
        self._connect = connect
        self._is_own = is_own
        self._booted_at: float | None = None
        """When this machine was started, by the clock of the server."""

    def __call__(self) -> float:
        """By the clock of this machine until the server's was read."""
        return self._clocks.wall() if self._booted_at is None else self._booted_at + self._clocks.boot()

    def read(self) -> None:
        """Ask the server, to within half the time that it takes to answer. Raises DatabaseError."""
        if self._is_own:
            return
        with self._connect() as connection:
            before = self._clocks.boot()
            now: float = connection.execute(_NOW, {}).one()[0]
            after = self._clocks.boot()
        self._booted_at = now - (before + after) / 2

"""One look at the database for all requests that a turn of the event loop found waiting."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from registry.database.sqlite.data_version import Currency


class TurnCurrency:
    """A Currency that can be asked once for many requests. For the event loop's thread alone.

    A turn is what runs between two waits for sockets. A client that has seen a push acknowledged, and then sends a
    request, sends it after the commit; where that request was already there when the turn began, so was the commit,
    and any look in this turn sees it. Sixteen requests then cost the locks of one (two system calls of SQLite).
    """

    def __init__(self, inner: Currency) -> None:
        self._inner = inner
        self._mark: int | None = None
        self.turn = 0
        """Grows with each turn in which a request asked."""
        self._ends = False

    def mark(self) -> int | None:
        """See Currency."""
        return self._inner.mark()

    def mark_for_request(self, *, waited: bool) -> int | None:
        """As ``mark``. ``waited``: the request was there when the turn began, and any mark since then will do."""
        if not self._ends:
            self._ends = True
            asyncio.get_running_loop().call_soon(self._end)  # runs before the loop waits again
        if not waited:
            return self._inner.mark()  # not kept: a task may ask in between two turns
        if self._mark is None:
            self._mark = self._inner.mark()
        return self._mark

    def version(self, repository: str) -> int | None:
        """See Currency."""
        return self._inner.version(repository)

    def close(self) -> None:
        """See Currency."""
        self._inner.close()

    def _end(self) -> None:
        self._mark, self._ends = None, False
        self.turn += 1

"""Former processes: those of a release that knows nothing of collection, which may run beside this one.

Such a release writes no leases for HEAD of a manifest and ends references without a trace, so that nothing is deleted
while one runs, nor for a day after it was seen last.

Tests: ``tests/maintenance/collection/survey/test_survey.py``.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from registry.database.collection import state
from registry.oci.moment import to_text

if TYPE_CHECKING:
    from registry.images.registry import Registry

PAUSE: Final = 0.05
"""Seconds until rows are tried again that another transaction has in hand."""
SECONDS: Final = 86400.0
"""Seconds for which nothing is deleted after a process of a former release was seen."""


class FormerProcesses:
    """What the database has noted of them. Any thread."""

    def __init__(self, registry: Registry) -> None:
        self._database = registry.backends.database

    def refusal(self) -> str | None:
        """Why nothing may be collected, and what to do next; None if no such process was seen for long enough."""
        with self._database.autocommit() as connection:
            row = state.find(connection).get()
        if row.former_at is None or row.former_ago is None or row.former_ago >= SECONDS:
            return None
        return (
            f"a process of a former release was seen {_ago(row.former_ago)} ({row.former_holder}), and it does not know"
            f" what a collection needs: stop it; nothing is deleted until {to_text(row.former_at + SECONDS)}"
        )

    def drop_doomed(self) -> None:
        """Drop what was doomed before such a process was seen last, once for each time: grace begins anew."""
        with self._database.autocommit() as connection:
            row = state.find(connection).get()
        if row.former_at is None or (row.dropped_at is not None and row.dropped_at >= row.former_at):
            return
        is_more = True
        while is_more:
            with self._database.transaction() as connection:
                dropped, is_more = state.drop_doomed(connection, seen=row.former_at)
            if is_more and not dropped:
                time.sleep(PAUSE)


def _ago(seconds: float) -> str:
    minutes = max(0, round(seconds / 60))
    return f"{minutes} min ago" if minutes < 120 else f"{minutes // 60} h ago"  # noqa: PLR2004 - two hours

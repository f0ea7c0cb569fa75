"""Leases: background work runs in one process at a time, and goes on elsewhere when that process dies."""

from __future__ import annotations

import contextlib
import time
import uuid
from typing import TYPE_CHECKING

from registry.database import leases as lease_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from registry.database.engine import Database


class Leases:
    """Rights to do named work, kept in the database. Any thread, any process."""

    def __init__(self, database: Database, holder: str, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._holder = holder
        self._clock = clock

    @contextlib.contextmanager
    def hold(self, name: str, seconds: float) -> Iterator[bool]:
        """Hold the lease for the block, at most ``seconds``. Yields whether it was free; it never waits."""
        holder = f"{self._holder}:{uuid.uuid4().hex}"
        now = self._clock()
        with self._database.write() as connection:
            held = lease_rows.take(connection, name, holder, now=now, deadline=now + seconds)
        try:
            yield held
        finally:
            if held:
                with self._database.write() as connection:
                    lease_rows.free(connection, name, holder)

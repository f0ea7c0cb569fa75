"""Leases: background work runs in one process at a time, and goes on elsewhere when that process dies."""

from __future__ import annotations

import contextlib
import threading
import time
import uuid
from typing import TYPE_CHECKING

from registry.database import leases as lease_rows
from registry.database.errors import DatabaseError

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
    def hold(self, name: str, seconds: float, on_loss: Callable[[], None] | None = None) -> Iterator[bool]:
        """Hold the lease for the block. Yields whether it was free; it never waits.

        It is renewed while the block runs, and ends ``seconds`` after its holder was killed. ``on_loss`` is called when
        it could not be renewed in time, and may be another's.
        """
        holder = f"{self._holder}:{uuid.uuid4().hex}"
        now = self._clock()
        with self._database.write() as connection:
            held = lease_rows.take(connection, name, holder, now=now, deadline=now + seconds)
        ended = threading.Event()
        renewing = threading.Thread(target=self._renew, args=(name, holder, seconds, ended, on_loss), daemon=True)
        if held:
            renewing.start()
        try:
            yield held
        finally:
            ended.set()
            if held:
                renewing.join()
                with contextlib.suppress(DatabaseError), self._database.write() as connection:  # it ends by itself
                    lease_rows.free(connection, name, holder)

    def _renew(
        self, name: str, holder: str, seconds: float, ended: threading.Event, on_loss: Callable[[], None] | None
    ) -> None:
        deadline = self._clock() + seconds
        while not ended.wait(seconds / 3):
            now = self._clock()
            with contextlib.suppress(DatabaseError):
                with self._database.write() as connection:
                    held = lease_rows.take(connection, name, holder, now=now, deadline=now + seconds)
                deadline = now + seconds if held else 0.0
            if deadline < self._clock() and on_loss is not None:
                on_loss()
                return

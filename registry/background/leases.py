"""Leases: background work runs in one process at a time, and goes on elsewhere when that process dies."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

from registry.background.holders import is_dead, new_holder
from registry.database import leases
from registry.database.errors import DatabaseError
from registry.database.leases import LeaseRow as Held

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from registry.database.engine import Database
    from registry.database.transaction import Transaction

__all__ = ["Held", "Leases"]


class Leases:
    """Rights to do named work, kept in the database. Any thread, any process."""

    def __init__(self, database: Database, holder: str) -> None:
        self._database = database
        self._holder = holder

    @contextlib.contextmanager
    def hold(
        self, name: str, seconds: float, on_loss: Callable[[], None] | None = None, *, succeeds_dead: bool = False
    ) -> Iterator[bool]:
        """Hold the lease for the block. Yields whether it was free; it never waits.

        It is renewed while the block runs, and ends ``seconds`` after its holder was killed. ``on_loss`` is called when
        it could not be renewed in time, and may have another holder. With ``succeeds_dead`` it is free at once if its
        holder is a dead process of this machine: for work that a late request of the dead process cannot spoil.
        """
        holder = new_holder(f"{self._holder}:{leases.MARK}")
        begun = self._now()
        with self._database.transaction() as connection:
            held = leases.take(connection, name, holder, seconds=seconds)
            if not held and succeeds_dead:
                held = _succeed(connection, name, holder, seconds=seconds)
        ended = threading.Event()
        renewing = threading.Thread(
            target=self._renew, args=(name, holder, seconds, begun + seconds, ended, on_loss), daemon=True
        )
        if held:
            renewing.start()
        try:
            yield held
        finally:
            ended.set()
            if held:
                renewing.join()
                # Without this it ends by itself.
                with contextlib.suppress(DatabaseError), self._database.transaction() as connection:
                    leases.free(connection, name, holder)

    def held(self, name: str) -> Held | None:
        """The holder of a lease, or the last one, if it did not give the lease back."""
        with self._database.autocommit() as connection:
            return leases.find(connection, name).get()

    def _renew(
        self,
        name: str,
        holder: str,
        seconds: float,
        deadline: float,
        ended: threading.Event,
        on_loss: Callable[[], None] | None,
    ) -> None:
        """``deadline``, by this machine's ``clocks.boot``, is no later than the database has it."""
        while not ended.wait(seconds / 3):
            now = self._now()
            with contextlib.suppress(DatabaseError):
                with self._database.transaction() as connection:
                    held = leases.take(connection, name, holder, seconds=seconds)
                deadline = now + seconds if held else 0.0
            if deadline < self._now() and on_loss is not None:
                on_loss()
                return

    def _now(self) -> float:
        return self._database.clocks.boot()


def _succeed(connection: Transaction, name: str, holder: str, *, seconds: float) -> bool:
    """Take a lease from its holder, if that is known to be dead. False if it is not known."""
    found = leases.find(connection, name).get()
    if found is None or not is_dead(found.holder):
        return False
    return leases.take_from(connection, name, holder, other=found.holder, seconds=seconds)

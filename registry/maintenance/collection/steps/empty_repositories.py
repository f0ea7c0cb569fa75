"""*Empty repositories*: those without content leave the lists, and of what was never written nothing stays (step 6).

What storage has of a repository stays, and so does its row then: its numbers go on, whichever process or release
pushes to the name next (proposal 0013, "Empty repositories").
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from registry.database import repositories, upload_sessions
from registry.database.collection import empty_repositories
from registry.maintenance.collection.context import PAGE, SCANNED
from registry.maintenance.collection.finding import Kept, Kind, Removed, Waiting
from registry.maintenance.collection.steps import repository_state

if TYPE_CHECKING:
    from registry.database.collection.empty_repositories import EmptyRow, SightedRow
    from registry.database.repositories import RepositoryRow
    from registry.database.transaction import Transaction
    from registry.maintenance.collection.context import Context

HIDDEN: Final = "it has been empty for gc.grace: lists leave it out until something is pushed to it"
REMOVED: Final = "it has been empty for gc.grace, and storage has nothing of it"
EMPTY: Final = "it is empty"


class EmptyRepositories:
    """A step of a collection. For one thread; several processes at once are harmless."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._backends = context.registry.backends

    def run(self) -> None:
        """Raises StorageError, DatabaseError, Unavailable, Stopped: what is left is there for the next run."""
        if not self._context.dry:
            self._show_used()
        after = empty_repositories.BEFORE_ALL
        while True:
            self._context.budget.look()
            with self._backends.database.autocommit() as connection:
                page = empty_repositories.page(connection, after=after, count=PAGE).get()
            for row in page:
                self._go_through(row)
            if len(page) < PAGE:
                break
            after = page[-1].id
        self._note_others()

    # ----

    def _show_used(self) -> None:
        """End the hiding of repositories that are in use again, so that lists do not look at each by itself."""
        used = [empty_repositories.BEFORE_ALL]
        while used:
            self._context.budget.look()
            with self._backends.database.autocommit() as connection:
                used = empty_repositories.listed_again(connection, count=PAGE).get()
            for number in used:
                with self._backends.database.transaction(durable=False) as connection:
                    repositories.lock(connection, number)
                    empty_repositories.show(connection, number)

    def _go_through(self, row: EmptyRow) -> None:
        if not row.is_empty:
            self._forget(row)
            return
        left = self._backends.policy.grace - row.age
        if left > 0:
            self._wait(row.name, left)
            return
        with self._backends.database.autocommit() as connection:
            repository = repositories.get(connection, row.id).get()
            if repository is None:
                return
            kept = self._kept(connection, repository)
        if kept is not None:
            self._context.ledger.keep(kept)
            return
        is_absent = self._is_absent(row)
        if self._context.dry or self._remove(row, is_absent=is_absent):
            reason = REMOVED if is_absent else HIDDEN
            self._context.ledger.remove(Removed(Kind.REPOSITORY, reason, repository=row.name))

    def _kept(self, connection: Transaction, repository: RepositoryRow) -> Kept | None:
        """Why it stays however long it has been empty; None if it may go."""
        if upload_sessions.any_open(connection, repository.name).get():
            return Kept.UPLOADING
        return repository_state.read(connection, self._context, repository).keeps_all

    def _wait(self, name: str, seconds: float) -> None:
        self._context.ledger.wait(Waiting(Kind.REPOSITORY, EMPTY, self._context.now + seconds, repository=name))

    def _is_absent(self, row: EmptyRow) -> bool:
        """Whether storage has nothing of it, so that there is nothing but its row. Raises StorageError."""
        return row.is_bare and self._context.registry.repositories.ask_storage(row.name, 0) == ("", 0)

    def _remove(self, row: EmptyRow, *, is_absent: bool) -> bool:
        """What was looked at is looked at again while no push goes on in the repository. False if it is in use."""
        self._context.budget.take(1)
        with self._backends.database.transaction() as connection:
            is_open = self._context.registry.write_gate.require_open(connection)
            locked = repositories.lock_alone(connection, row.id).get()
            is_open.get()
            again = empty_repositories.again(connection, row.id).get()
            if locked is None or again is None or not again.is_empty or again.age < self._backends.policy.grace:
                return False
            if self._kept(connection, locked) is not None or (is_absent and not locked.is_bare):
                return False
            if is_absent:
                repositories.remove(connection, row.id)
            else:
                empty_repositories.hide(connection, row.id)
        return True

    def _forget(self, row: EmptyRow) -> None:
        if not self._context.dry:
            with self._backends.database.transaction(durable=False) as connection:
                repositories.lock(connection, row.id)
                empty_repositories.forget(connection, row.id)

    # ----

    def _note_others(self) -> None:
        """Note what is empty from now on, as far as is known."""
        after: int | None = empty_repositories.BEFORE_ALL
        while after is not None:
            self._context.budget.look()
            with self._backends.database.autocommit() as connection:
                found, after = empty_repositories.unsighted(connection, after=after, count=SCANNED)
            for start in range(0, len(found), PAGE):
                self._note(found[start : start + PAGE])

    def _note(self, rows: list[SightedRow]) -> None:
        if not self._context.dry:
            with self._backends.database.transaction(durable=False) as connection:
                for row in rows:
                    repositories.lock(connection, row.id)
                empty_repositories.note(connection, [row.id for row in rows])
        for row in rows:
            self._wait(row.name, self._backends.policy.grace)

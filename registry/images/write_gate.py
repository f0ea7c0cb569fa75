"""Write gate: whether changes may commit, and under which names (proposal 0005).

A migration shuts it. Where each repository has its own blobs no store is migrated, and none of this asks the database.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry.database import stores
from registry.database.stores import OPEN, READ_ONLY, StoreRow
from registry.database.transaction import Known, Later
from registry.oci.errors import NameInvalid, Unavailable

if TYPE_CHECKING:
    from registry.database.transaction import Transaction
    from registry.images.backends import Backends
    from registry.images.migration_journal.documents import MigrationState

READ_ONLY_SECONDS = "30"
"""When a client may try again whether changes are taken by now."""
UNLOOKED = "storage is looked at for migrations before anything is written; try again"


class WriteGate:
    """The row of the store, as each change asks it. Any thread, any process."""

    def __init__(self, backends: Backends) -> None:
        self._backends = backends
        self.is_known = backends.layout.per_repository
        """This process has compared the row with storage, and has not met a database without one since."""

    def note(self, state: MigrationState) -> None:
        """Say in the database what ``state``, which storage has by now, says of the store.

        The caller notes the locations. When this returns no transaction goes on that saw the store otherwise.
        """
        with self._backends.database.exclusive() as connection:
            stores.put(connection, self.row_of(state))

    def require_open(self, connection: Transaction, *, looked: bool = True) -> Later[None]:
        """In the transaction of a change: getting it raises Unavailable, with the reason, if none may commit.

        With ``looked=False`` a store whose state is not known yet counts as open: a later transaction asks again.
        """
        if self._backends.layout.per_repository:
            return _NOTHING
        found = stores.find(connection, self._backends.driver.name)

        def get() -> None:
            row = found.get()
            if row is not None or looked:
                self._require_open(row)
            else:
                self.is_known = False

        return Later(get)

    def check_name(self, connection: Transaction, name: str) -> None:
        """In the transaction that makes a repository.

        Raises Unavailable if no change may commit, NameInvalid if its keys would lie in the source registry's trees.
        """
        if self._backends.layout.per_repository:
            return
        row = self._require_open(stores.find(connection, self._backends.driver.name).get())
        for prefix in row.prefixes:
            if name == prefix or name.startswith(f"{prefix}/"):
                message = f"below {prefix} is what another registry left, which is being migrated: choose another name"
                raise NameInvalid(message)

    def is_read_only(self, connection: Transaction) -> bool:
        """Whether no change may commit, or that is not known yet."""
        if self._backends.layout.per_repository:
            return False
        row = stores.find(connection, self._backends.driver.name).get()
        return row is None or row.mode == READ_ONLY

    def prefixes(self) -> tuple[str, ...]:
        """The source registry's trees, below which there is no repository of ours."""
        row = None if self._backends.layout.per_repository else self.row()
        return row.prefixes if row is not None else ()

    def row(self) -> StoreRow | None:
        """The row of the store; None if nothing has been noted yet."""
        with self._backends.database.autocommit() as connection:
            return stores.find(connection, self._backends.driver.name).get()

    def row_of(self, state: MigrationState | None) -> StoreRow:
        """The row that ``state`` makes; None is that of a store without a migration."""
        name, now = self._backends.driver.name, self._backends.clock()
        if state is None:
            return StoreRow(name, None, 0, OPEN, None, (), now)
        shut = state.read_only
        prefixes = tuple(prefix for prefix in state.prefixes if prefix)
        if shut is None:
            return StoreRow(name, state.id, state.revision, OPEN, None, prefixes, now)
        return StoreRow(name, state.id, state.revision, READ_ONLY, shut.reason, prefixes, now)

    def _require_open(self, row: StoreRow | None) -> StoreRow:
        if row is None:
            self.is_known = False
            raise Unavailable(UNLOOKED, headers={"Retry-After": "1"})
        if row.mode == READ_ONLY:
            raise Unavailable(row.reason, headers={"Retry-After": READ_ONLY_SECONDS})
        return row


_NOTHING: Later[None] = Known(None)
"""There is nothing to require."""

"""*Leftovers*: uploads and deletions that were abandoned, and rows of what has long been gone (step 6).

Tests: ``tests/maintenance/collection/test_run.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry.database import upload_sessions
from registry.maintenance.collection.finding import Kind, Removed

if TYPE_CHECKING:
    from registry.maintenance.collection.context import Context

REASON = "no client went on with it for storage.upload_expiry"


class Leftovers:
    """A step of a collection. For one thread; several processes at once are harmless."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._backends = context.registry.backends

    def run(self) -> None:
        """Raises StorageError, DatabaseError, Stopped: what is left is there for the next run."""
        self._context.budget.look()
        before = self._context.now - self._backends.policy.upload_expiry
        with self._backends.database.autocommit() as connection:
            sessions = upload_sessions.expired(connection, before=before).get()
        if not self._context.dry:
            self._context.registry.uploads.expire()
            self._context.registry.blob_deletion.finish_abandoned()
            self._context.registry.blob_deletion.prune()
        for row in sessions:
            removed = Removed(
                Kind.UPLOAD,
                REASON,
                key=row.id,
                repository=row.repository,
                bytes=row.offset,
                objects=int(row.offset > 0),
            )
            self._context.ledger.remove(removed)

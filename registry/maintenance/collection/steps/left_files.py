"""*Left files*: files of blobs that their repository does not have any more, where each has its own.

A process that was killed after a fold, and before it deleted what that had made needless, leaves one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry.database import repositories
from registry.database.collection import left_files
from registry.images.trash.trash_files import TrashFiles
from registry.maintenance.collection.context import SCANNED
from registry.maintenance.collection.finding import Kind, Removed
from registry.oci.digest import Digest
from registry.storage.errors import StorageError

if TYPE_CHECKING:
    from registry.database.collection.left_files import LeftRow
    from registry.database.repositories import RepositoryRow
    from registry.maintenance.collection.context import Context

REASON = "its repository does not have it any more"


class LeftFiles:
    """A step of a collection. For one thread; several processes at once are harmless."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._backends = context.registry.backends
        self._trash_files = TrashFiles(self._backends)

    def run(self) -> None:
        """Raises DatabaseError, Stopped: what is left is there for the next run."""
        after: int | None = -1 if self._backends.layout.per_repository else None
        while after is not None:
            self._context.budget.look()
            with self._backends.database.autocommit() as connection:
                page, after = left_files.page(connection, self._backends.driver.name, after=after, count=SCANNED)
            for row in page:
                self._go_through(row)

    def _go_through(self, row: LeftRow) -> None:
        name = row.key.rpartition("/blobs/")[0]
        with self._backends.database.autocommit() as connection:
            repository = repositories.find(connection, name).get()
        if repository is not None and self._is_settled(repository):
            try:
                self._remove(repository, row)
            except StorageError as error:
                self._context.ledger.trouble(f"{row.key}: {error}")

    def _is_settled(self, repository: RepositoryRow) -> bool:
        """Whether its index.json says what the rows say, so that no reader of it is led to the file."""
        is_unknown = repository.is_unread or repository.missing_manifests or repository.name in self._context.unsafe
        return not is_unknown and repository.folded_sequence == repository.sequence

    def _remove(self, repository: RepositoryRow, row: LeftRow) -> None:
        digest = Digest(row.digest)
        with self._backends.database.autocommit() as connection:
            is_kept = self._trash_files.is_wanted(connection, repository, digest)
        file = self._context.names.look(row.key)
        if not self._context.dry:
            self._context.budget.take(1)
            self._trash_files.keep(repository, digest)
            self._context.registry.blob_deletion.delete_unheld(repository, digest)
        is_free = file is not None and not is_kept
        size = self._context.names.free(file) if file is not None and is_free else 0
        removed = Removed(Kind.BLOB, REASON, row.digest, repository=repository.name, bytes=size, objects=int(is_free))
        self._context.ledger.remove(removed)

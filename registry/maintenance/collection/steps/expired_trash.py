"""*Expired trash*: what was deleted before the undelete window leaves the trash (step 3 of proposal 0013).

Tests: ``tests/maintenance/collection/test_run.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry.database import repositories
from registry.database.collection import trash
from registry.images.layout import TRASH, Layout
from registry.images.trash.trash_expiry import PAGE, TrashExpiry
from registry.images.trash.trash_files import TrashFiles
from registry.maintenance.collection.finding import Kind, Removed
from registry.oci.digest import Digest
from registry.oci.errors import DigestInvalid

if TYPE_CHECKING:
    from registry.database.collection.trash import ExpiredRow
    from registry.database.repositories import RepositoryRow
    from registry.maintenance.collection.context import Context

REASON = "it was deleted longer ago than gc.undelete_window"
ABANDONED = "no manifest of the trash needs the file"


class ExpiredTrash:
    """A step of a collection. For one thread; several processes at once are harmless."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._backends = context.registry.backends
        self._expiry = TrashExpiry(self._backends)
        self._files = TrashFiles(self._backends)
        self._counted: set[str] = set()
        """Files that a dry run has counted, where each repository has its own."""

    def run(self) -> None:
        """Raises StorageError, DatabaseError, Stopped: what is left is there for the next run."""
        before = self._context.now - self._backends.policy.undelete_window
        after = trash.FIRST
        while True:
            self._context.budget.look()
            with self._backends.database.autocommit() as connection:
                page = trash.expired(connection, before=before, after=after, count=PAGE).get()
            for row in page:
                self._remove(row, before)
            if len(page) < PAGE:
                break
            after = page[-1].place
        if self._backends.layout.per_repository:
            self._find_abandoned()

    def _find_abandoned(self) -> None:
        """Files whose rows are gone: the process that was to delete them was killed, or the database was lost."""
        repository: RepositoryRow | None = None
        for key, _ in self._backends.driver.list(TRASH):
            self._context.budget.look()
            name, text = Layout.trashed(key)
            try:
                digest = Digest.parse(text)
            except DigestInvalid:  # an operator's file
                continue
            if repository is None or repository.name != name:
                with self._backends.database.autocommit() as connection:
                    repository = repositories.find(connection, name).get()
            if repository is not None and not repository.is_unread and name not in self._context.unsafe:
                self._remove_abandoned(repository, digest, key)

    def _remove_abandoned(self, repository: RepositoryRow, digest: Digest, key: str) -> None:
        with self._backends.database.autocommit() as connection:
            is_needed = trash.kept_since(connection, repository.id, digest).get() > 0
        is_aside = key == self._backends.layout.leaving_trash(repository.name, digest)
        if is_needed and not is_aside:
            return
        file = self._context.names.look(key)
        if not self._context.dry:
            self._context.budget.take(1)
            if is_needed:
                self._files.bring_back(repository.name, digest)
                self._backends.driver.delete([key])
            else:
                self._files.leave(repository.id, repository.name, [digest])
        if file is not None and not is_needed:
            size = self._context.names.free(file)
            removed = Removed(Kind.TRASH, ABANDONED, digest, repository=repository.name, bytes=size, objects=1)
            self._context.ledger.remove(removed)

    def _remove(self, row: ExpiredRow, before: float) -> None:
        files = self._expiry.files(row, before)
        looked = [self._context.names.look(key) for key in files if key not in self._counted]
        if self._context.dry:
            self._counted.update(files)
        else:
            self._context.budget.take(max(1, len(files)))
            if not self._expiry.leave(row, before):
                return
        found = [file for file in looked if file is not None]
        size = sum(self._context.names.free(file) for file in found)
        removed = Removed(Kind.TRASH, REASON, row.digest, repository=row.repository, bytes=size, objects=len(found))
        self._context.ledger.remove(removed)

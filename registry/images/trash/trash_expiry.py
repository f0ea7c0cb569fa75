"""Trash expiry: what was deleted before the window leaves the trash, page by page (proposal 0013)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry.database.collection import trash
from registry.images.trash.trash_files import TrashFiles
from registry.oci.digest import Digest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from registry.database.collection.trash import ExpiredRow
    from registry.images.backends import Backends

PAGE = 100
"""Manifests that one look finds."""


class TrashExpiry:
    """Any thread, any process: two at once are harmless. Killed in the middle, the next run goes on."""

    def __init__(self, backends: Backends) -> None:
        self._backends = backends
        self._files = TrashFiles(backends)

    def run(self) -> int:
        """Returns how many manifests left it. Raises StorageError, DatabaseError."""
        left = 0
        before = self._backends.clock() - self._backends.policy.undelete_window
        while True:
            with self._backends.database.autocommit() as connection:
                rows = trash.expired(connection, before=before, count=PAGE).get()
            left += sum(self.leave(row, before) for row in rows)
            if len(rows) < PAGE:
                return left

    def files(self, row: ExpiredRow, before: float) -> list[str]:
        """The keys of the files that go with a manifest, because nothing else of the trash needs them."""
        layout = self._backends.layout
        return [layout.trash(row.repository, digest) for digest in self._unneeded(row, self._digests(row), before)]

    def leave(self, row: ExpiredRow, before: float) -> bool:
        """Remove a manifest's row; then the files that nothing needs, so that no row misses its file.

        False if it was deleted again after ``before``.
        """
        digests = self._digests(row)
        with self._backends.database.transaction() as connection:
            if not trash.remove(connection, row.repository_id, row.blob_id, before=before):
                return False
        self._files.leave(row.repository_id, row.repository, digests, before=before)
        return True

    # ----

    def _digests(self, row: ExpiredRow) -> list[Digest]:
        """The manifest and what it named, where the trash has files of them."""
        if not self._backends.layout.per_repository:
            return []
        with self._backends.database.autocommit() as connection:
            named = trash.references(connection, row.repository_id, row.blob_id).get()
        return [Digest(row.digest), *(Digest(each.digest) for each in named)]

    def _unneeded(self, row: ExpiredRow, digests: Sequence[Digest], before: float) -> Iterator[Digest]:
        for digest in digests:
            with self._backends.database.autocommit() as connection:
                since = trash.kept_since(connection, row.repository_id, digest).get()
            if since <= before:
                yield digest

"""Trash files: where each repository has its own blobs, bytes that it can have again are moved out of its layout.

A file that stayed there would be the repository's own, as what another tool puts there is.

Tests: ``tests/images/trash/test_trash_expiry.py``.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from registry.database.collection import trash
from registry.storage.errors import PathNotFound

if TYPE_CHECKING:
    from collections.abc import Sequence

    from registry.database.repositories import RepositoryRow
    from registry.database.transaction import Transaction
    from registry.images.backends import Backends
    from registry.oci.digest import Digest


class TrashFiles:
    """Any thread, any process; doing it twice is the same as once. Nothing is done where all share one location."""

    def __init__(self, backends: Backends) -> None:
        self._backends = backends

    def keep(self, repository: RepositoryRow, digest: Digest) -> None:
        """Have the bytes in the trash as well, while a manifest there is this digest or names it.

        The caller then deletes them from the repository, so that a kill leaves them in both places.
        """
        backends = self._backends
        if not backends.layout.per_repository:
            return
        with backends.database.autocommit() as connection:
            if not self.is_wanted(connection, repository, digest):
                return
        with contextlib.suppress(PathNotFound):  # by another process, or never there
            backends.driver.link(
                backends.layout.blob(repository.name, digest), backends.layout.trash(repository.name, digest)
            )
        # The trash may have been emptied meanwhile, perhaps before there was this file.
        self.leave(repository.id, repository.name, [digest])

    def leave(self, repository_id: int, repository: str, digests: Sequence[Digest], *, before: float = 0.0) -> None:
        """Delete the bytes that no manifest of the trash needs which was deleted after ``before``.

        They are set aside first: a manifest that is deleted after the first look is seen by the second, and has them
        back. Killed between, the next collection finds what was set aside.
        """
        backends, layout = self._backends, self._backends.layout
        going = [] if not layout.per_repository else self._unneeded(repository_id, digests, before)
        for digest in going:
            with contextlib.suppress(PathNotFound):
                backends.driver.link(layout.trash(repository, digest), layout.leaving_trash(repository, digest))
        backends.driver.delete([layout.trash(repository, digest) for digest in going])
        for digest in set(going).difference(self._unneeded(repository_id, going, before)):
            self.bring_back(repository, digest)
        backends.driver.delete([layout.leaving_trash(repository, digest) for digest in going])

    def bring_back(self, repository: str, digest: Digest) -> None:
        """Have what was set aside in the trash again, unless it is there anew."""
        driver, layout = self._backends.driver, self._backends.layout
        key = layout.trash(repository, digest)
        try:
            driver.stat(key)
        except PathNotFound:
            with contextlib.suppress(PathNotFound):
                driver.link(layout.leaving_trash(repository, digest), key)

    def _unneeded(self, repository_id: int, digests: Sequence[Digest], before: float) -> list[Digest]:
        with self._backends.database.autocommit() as connection:
            kept = [trash.kept_since(connection, repository_id, digest) for digest in digests]
            return [digest for digest, since in zip(digests, kept, strict=True) if since.get() <= before]

    def is_wanted(self, connection: Transaction, repository: RepositoryRow, digest: str) -> bool:
        """Whether a manifest that can be restored is this digest or names it."""
        since = trash.kept_since(connection, repository.id, digest).get()
        return since > self._backends.clock() - self._backends.policy.undelete_window

    def remove(self, repository: str, digest: Digest) -> None:
        """Delete the bytes from the trash, whatever needs them there."""
        if self._backends.layout.per_repository:
            layout = self._backends.layout
            keys = [layout.trash(repository, digest), layout.leaving_trash(repository, digest)]
            self._backends.driver.delete(keys)

"""References: what manifests name, noted again where a release before this one has left out what it did not need (I13).

Such a release put manifests without rows for foreign and non-distributable layers, and perhaps still does, beside this
one. Their rows are completed from their bytes: by a job, by ``registry rebuild``, and before a blob is deleted.
"""

from __future__ import annotations

import time
from itertools import groupby
from typing import TYPE_CHECKING

from registry.database import references, repositories
from registry.images.manifest_store import FoundManifest, ManifestBytes
from registry.images.omissions import Kind, Omission
from registry.oci.digest import Digest
from registry.oci.errors import ManifestInvalid, ManifestUnknown, Unavailable
from registry.oci.manifest import parse_manifest
from registry.parallel import map_parallel
from registry.storage.errors import PathRefused

if TYPE_CHECKING:
    from collections.abc import Sequence

    from registry.database.references import IncompleteRow
    from registry.images.backends import Backends

PAGE = 64
"""Manifests that are read before their rows are written."""
PAGE_BYTES = 8 << 20
"""Bytes of them all, but for a single one that is larger."""


class References:
    """Any thread, any process; several at once for one manifest are harmless."""

    def __init__(self, backends: Backends) -> None:
        self._backends = backends
        self._bytes = ManifestBytes(backends)

    def complete_next(self, after: tuple[int, int]) -> tuple[tuple[int, int] | None, list[Omission]]:
        """Complete a page of manifests after ``after``, of whichever repositories.

        The last of them, None if there was none; and those that could not be read, which stay as they are.
        Raises StorageError, DatabaseError with some of the page completed.
        """
        with self._backends.database.autocommit() as connection:
            page = _bounded(references.incomplete(connection, after=after, count=PAGE).get())
        return (page[-1].repository_id, page[-1].blob_id) if page else None, self._complete(page)

    def complete_repository(self, repository_id: int, *, seconds: float | None = None) -> list[Omission]:
        """Complete every manifest of a repository; returns those that could not be read.

        Raises StorageError, DatabaseError, and Unavailable after ``seconds``: the same again goes on from there.
        """
        deadline = None if seconds is None else time.monotonic() + seconds
        omissions: list[Omission] = []
        after = -1
        while True:
            with self._backends.database.autocommit() as connection:
                page = _bounded(references.incomplete_of(connection, repository_id, after=after, count=PAGE).get())
            if not page:
                return omissions
            if deadline is not None and time.monotonic() > deadline:
                message = "what the manifests of the repository name is still being read; try again"
                raise Unavailable(message, headers={"Retry-After": "5"})
            omissions += self._complete(page)
            after = page[-1].blob_id

    def _complete(self, page: Sequence[IncompleteRow]) -> list[Omission]:
        """No transaction is open while storage is read."""
        read = map_parallel(self._backends.driver.capabilities, self._optional, page)
        omissions = []
        for repository_id, several in groupby(zip(page, read, strict=True), lambda pair: pair[0].repository_id):
            with self._backends.database.transaction() as connection:
                repositories.lock(connection, repository_id)  # so that none of the manifests goes meanwhile
                for row, optional in several:
                    if isinstance(optional, Omission):
                        omissions.append(optional)
                    else:
                        references.complete(connection, repository_id, row.blob_id, optional)
        return omissions

    def _optional(self, row: IncompleteRow) -> list[str] | Omission:
        """What a manifest names and need not have."""
        digest = Digest(row.digest)
        key = self._backends.layout.blob(row.repository, digest)
        try:
            body = self._bytes.read(FoundManifest(digest, row.media_type, row.size, key, 0))
            manifest = parse_manifest(body, row.media_type)
        except PathRefused as error:
            return Omission(Kind.UNREADABLE, row.repository, row.digest, error.reason)
        except (ManifestUnknown, ManifestInvalid) as error:
            return Omission(Kind.MANIFEST, row.repository, row.digest, error.message)
        needed = {blob.digest for blob in manifest.needed_blobs()} | {child.digest for child in manifest.children()}
        return [blob.digest for blob in manifest.named_blobs() if blob.digest not in needed]


def _bounded(page: list[IncompleteRow]) -> list[IncompleteRow]:
    """As many of the first as are PAGE_BYTES together, and at least one."""
    room = PAGE_BYTES
    for count, row in enumerate(page):
        room -= row.size
        if room < 0:
            return page[: max(count, 1)]
    return page

"""References: what manifests name, noted again where a release before this one has left out what it did not need (I13).

Such a release put manifests without rows for foreign and non-distributable layers, and perhaps still does, beside this
one. Their rows are completed from their bytes: by a job, by ``registry rebuild``, and before a blob is deleted.

It also put manifests whose repository lacked what they need, where the settings allowed that, and wrote nothing down of
it. As long as the rows tell so it is written down now, so that no database that is lost makes it a right (I12).
"""

from __future__ import annotations

import time
from itertools import groupby
from typing import TYPE_CHECKING

from registry.database import manifests, memberships, references, repositories, withheld
from registry.images.manifest_store import FoundManifest, ManifestBytes
from registry.images.omissions import Kind, Omission
from registry.images.records import withholding
from registry.oci.digest import Digest
from registry.oci.errors import ManifestInvalid, ManifestUnknown, Unavailable
from registry.oci.manifest import parse_manifest
from registry.oci.moment import whole
from registry.oci.withheld import Withheld
from registry.parallel import map_parallel
from registry.storage.errors import PathRefused

if TYPE_CHECKING:
    from collections.abc import Sequence

    from registry.database.references import IncompleteRow
    from registry.database.repositories import RepositoryRow
    from registry.database.transaction import Transaction
    from registry.images.backends import Backends
    from registry.images.records.folding import Folding
    from registry.images.records.journal import PendingChange
    from registry.images.write_gate import WriteGate
    from registry.oci.manifest import Manifest

PAGE = 64
"""Manifests that are read before their rows are written."""
PAGE_BYTES = 8 << 20
"""Bytes of them all, but for a single one that is larger."""


class References:
    """Any thread, any process; several at once for one manifest are harmless."""

    def __init__(self, backends: Backends, write_gate: WriteGate, folding: Folding) -> None:
        self._backends = backends
        self._write_gate = write_gate
        self._folding = folding
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
        read = map_parallel(self._backends.driver.capabilities, self._read, page)
        omissions = []
        for repository_id, several in groupby(zip(page, read, strict=True), lambda pair: pair[0].repository_id):
            changes: list[PendingChange] = []
            with self._backends.database.transaction() as connection:
                # Alone: so that none of the manifests goes meanwhile, and nothing comes that they lack.
                repository = repositories.lock_alone(connection, repository_id).get()
                for row, manifest in several:
                    if isinstance(manifest, Omission):
                        omissions.append(manifest)
                    elif repository is not None:
                        changes += self._complete_one(connection, repository, row, manifest)
            for change in changes:
                self._folding.record(change)
        return omissions

    def _complete_one(
        self, connection: Transaction, repository: RepositoryRow, row: IncompleteRow, manifest: Manifest
    ) -> list[PendingChange]:
        """Complete a manifest; returns what has to be recorded. It stays as it is while no change may commit."""
        needed = {blob.digest for blob in manifest.needed_blobs()} | {child.digest for child in manifest.children()}
        optional = {blob.digest for blob in manifest.named_blobs()} - needed
        lacks = self._lacking(connection, repository, row, manifest) - Withheld(blobs=frozenset(optional))
        if lacks and self._write_gate.is_read_only(connection):
            return []
        references.complete(connection, repository.id, row.blob_id, optional)
        return withholding.withhold(connection, repository, row, lacks, whole(self._backends.clock()))

    def _lacking(
        self, connection: Transaction, repository: RepositoryRow, row: IncompleteRow, manifest: Manifest
    ) -> Withheld:
        """What a manifest names, its repository lacks, and no row withholds; nothing where the directory tells."""
        if self._backends.layout.per_repository or repository.is_unread:
            return Withheld()
        if manifests.by_digest(connection, repository.id, row.digest).get() is None:
            return Withheld()
        named = [descriptor.digest for descriptor in (*manifest.named_blobs(), *manifest.children())]
        members = memberships.find_all(connection, repository.id, named).get()
        children = {
            child.digest: manifests.by_digest(connection, repository.id, child.digest) for child in manifest.children()
        }
        found = {digest for digest, child in children.items() if child.get() is not None}
        known = withheld.collected(withheld.named(connection, repository.id, named).get().values())
        return withholding.lacking(manifest, members, found) - known

    def _read(self, row: IncompleteRow) -> Manifest | Omission:
        digest = Digest(row.digest)
        key = self._backends.layout.blob(row.repository, digest)
        try:
            body = self._bytes.read(FoundManifest(digest, row.media_type, row.size, key, 0))
            return parse_manifest(body, row.media_type)
        except PathRefused as error:
            return Omission(Kind.UNREADABLE, row.repository, row.digest, error.reason)
        except (ManifestUnknown, ManifestInvalid) as error:
            return Omission(Kind.MANIFEST, row.repository, row.digest, error.message)


def _bounded(page: list[IncompleteRow]) -> list[IncompleteRow]:
    """As many of the first as are PAGE_BYTES together, and at least one."""
    room = PAGE_BYTES
    for count, row in enumerate(page):
        room -= row.size
        if room < 0:
            return page[: max(count, 1)]
    return page

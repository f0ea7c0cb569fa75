"""Blob deletion: objects are claimed in their rows, and deleted without a lock that a publisher would wait for (I7).

The table of the protocol is in ``registry.images.blob_publication``.

Tests: ``tests/images/test_blob_publication.py``.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, NamedTuple

from registry.database import blob_locations, blobs
from registry.images.omissions import Kind, Omission, Source
from registry.storage.errors import PathRefused

if TYPE_CHECKING:
    from registry.database.blob_locations import LocationRow
    from registry.database.blobs import BlobRow
    from registry.database.repositories import RepositoryRow
    from registry.database.transaction import Transaction
    from registry.images.backends import Backends
    from registry.oci.digest import Digest

CLAIM_SECONDS = 60.0
"""How long a deletion may take; a process that meets its claim later may finish it."""

DELETE_SECONDS = 30.0
"""How long one delete may take at most: with less than this left of its claim, a deleter does not begin."""


class Claim(NamedTuple):
    """The right to delete one object, until a deadline."""

    key: str
    token: str
    deadline: float


class BlobDeletion:
    """Deletes objects of blobs that were claimed. Any thread, any process."""

    def __init__(self, backends: Backends) -> None:
        self._backends = backends

    def in_progress(self, blob: BlobRow | None, there: LocationRow | None) -> bool:
        """Whether a deleter holds the blob or the location: a publisher waits, HEAD and mount say no."""
        now = self._backends.clock()
        if blob is not None and blob.state == blobs.CLAIMED:
            return blob.claim_deadline is None or blob.claim_deadline > now
        return there is not None and there.state == blob_locations.DELETING and (there.claim_deadline or 0) > now

    def claim(self, connection: Transaction, blob_id: int, key: str) -> Claim | None:
        """Claim the location ``key`` in the caller's transaction. None if nothing is there, or another deletes it."""
        claim, now = self._new_claim(key)
        claimed = blob_locations.claim(
            connection,
            blob_id,
            store=self._backends.driver.name,
            key=key,
            token=claim.token,
            now=now,
            deadline=claim.deadline,
        )
        return claim if claimed else None

    def delete(self, claim: Claim) -> None:
        """Delete the claimed object, then forget its location. Does nothing if the claim ends soon (I7)."""
        if self._backends.clock() + DELETE_SECONDS > claim.deadline:
            return
        self._backends.driver.delete([claim.key])
        with self._backends.database.transaction() as connection:
            blob_locations.remove(connection, store=self._backends.driver.name, key=claim.key, token=claim.token)

    def delete_orphan(self, repository: RepositoryRow, digest: Digest) -> None:
        """Delete a repository's own bytes of ``digest`` unless it has the blob (again)."""
        backends = self._backends
        if not backends.layout.per_repository:
            return
        claim, now = self._new_claim(backends.layout.blob(repository.name, digest))
        with backends.database.transaction() as connection:
            blob = blobs.lock(connection, digest).get()
            claimed = blob is not None and blob_locations.claim_orphan(
                connection,
                repository.id,
                blob.id,
                store=backends.driver.name,
                key=claim.key,
                token=claim.token,
                now=now,
                deadline=claim.deadline,
            )
        if claimed:
            self.delete(claim)

    def finish_abandoned(self) -> int:
        """Finish deletions whose deleter was killed. Returns how many. What was published again meanwhile is kept."""
        backends, finished = self._backends, 0
        refused: list[Omission] = []
        with backends.database.autocommit() as connection:
            abandoned = blob_locations.expired_claims(connection, backends.driver.name, now=backends.clock()).get()
        for location in abandoned:
            claim, now = self._new_claim(location.key)
            with backends.database.transaction() as connection:
                claimed = blob_locations.claim_expired(
                    connection,
                    location,
                    store=backends.driver.name,
                    token=claim.token,
                    now=now,
                    deadline=claim.deadline,
                )
            if not claimed:
                continue
            try:
                self.delete(claim)
                finished += 1
            except PathRefused as error:  # the claim ends, and then it is tried again
                refused.append(Omission(Kind.BLOB, location.key, "", f"cannot be deleted: {error.reason}"))
        backends.omissions.note(Source.REMOVAL, "removal", refused)
        return finished

    def _new_claim(self, key: str) -> tuple[Claim, float]:
        now = self._backends.clock()
        return Claim(key, uuid.uuid4().hex, now + CLAIM_SECONDS), now

"""Blob deletion: objects are claimed in their rows, and deleted without a lock that a publisher would wait for (I7).

The protocol, its states and its clocks are in ``docs/proposals/0011-the-deletion-protocol.md``.
"""

from __future__ import annotations

import enum
import uuid
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

import structlog

from registry.database import blob_locations, blobs
from registry.database.blob_locations import Claiming
from registry.database.errors import DatabaseError
from registry.images.omissions import Kind, Omission, Source
from registry.storage.errors import (
    NotSent,
    PathNotFound,
    PathRefused,
    PreconditionFailed,
    StorageError,
    StorageUnavailable,
    Throttled,
)

if TYPE_CHECKING:
    from registry.database.blob_locations import LocationRow
    from registry.database.repositories import RepositoryRow
    from registry.database.transaction import Transaction
    from registry.images.backends import Backends
    from registry.oci.digest import Digest
    from registry.storage.driver import ObjectStat

PRUNED = 100
"""Tombstones that one transaction forgets."""

log = structlog.get_logger(__name__)


class Claim(NamedTuple):
    """The right to delete one object, until a deadline."""

    blob_id: int
    key: str
    etag: str
    """The version of the object that is meant."""
    token: str
    deadline: float
    """By this machine's ``clocks.boot``, and no later than the database has it."""


class Standing(enum.Enum):
    """What a deletion means for every process but its deleter."""

    OPEN = "open"
    """There is none, or nothing of it can happen any more."""
    HELD = "held"
    """A deleter may act: a publisher waits, HEAD and mount say no."""
    UNCLEAR = "unclear"
    """A delete was sent, its answer was not seen, and the store may still carry it out."""


class OrphanKnown(StorageError):
    """There is a row of what was taken for an orphan; nothing was written."""


class BlobDeletion:
    """Deletes objects of blobs that were claimed. Any thread, any process."""

    def __init__(self, backends: Backends) -> None:
        self._backends = backends
        self._store = backends.driver.name
        policy, is_late = backends.policy, backends.driver.capabilities.late_deletes
        self.unclear = policy.unclear if is_late else 0.0
        """Seconds after a claim in which the store may carry out a delete whose answer was not seen."""
        # Former releases compare with their own clocks, which on one machine are the same.
        self._margin = self.unclear if backends.database.is_sqlite else policy.unclear

    def standing(self, location: LocationRow | None) -> Standing:
        """What a deletion of this location means for a publisher, as its row was read."""
        if location is None or location.state != blob_locations.DELETING:
            return Standing.OPEN
        left = location.claim_left or 0.0
        if left > 0:
            return Standing.HELD
        return Standing.UNCLEAR if location.claim_sent and left > -self.unclear else Standing.OPEN

    def in_progress(self, location: LocationRow | None) -> bool:
        """Whether a delete may still be carried out: a publisher waits, HEAD and mount say no."""
        return self.standing(location) is not Standing.OPEN

    def wanted(self, key: str) -> tuple[Claiming, float]:
        """What is asked for by a statement that is sent after this, and until when it may be used.

        The deadline is by this machine's ``clocks.boot``.
        """
        seconds = self._backends.policy.claim
        wanted = Claiming(self._store, key, uuid.uuid4().hex, seconds, self.unclear, self._margin)
        return wanted, self._now() + seconds

    def claim(self, connection: Transaction, blob_id: int, key: str) -> Claim | None:
        """Claim the location ``key`` in the caller's transaction. None if nothing is there, or another deletes it."""
        wanted, deadline = self.wanted(key)
        return _made(blob_id, wanted, deadline, blob_locations.claim(connection, blob_id, wanted))

    def claim_orphan(self, key: str, digest: Digest, stat: ObjectStat) -> Claim | None:
        """Claim an object that no row knows, as it was found. None if there is a row of it by now.

        From then on a publisher that looked before begins again. The caller has made sure that nothing names the
        digest, not even a manifest whose blobs have no rows yet.
        """
        wanted, deadline = self.wanted(key)
        try:
            with self._backends.database.transaction() as connection:
                made = claim_orphan(connection, wanted, digest, stat)
        except OrphanKnown:
            return None
        return None if made is None else Claim(made, key, stat.etag, wanted.token, deadline)

    def delete(self, claim: Claim) -> bool:
        """Delete the claimed object, then forget its location (I7). False if it is too late for that, or was another's.

        Raises StorageError when it was not deleted, or when nothing says whether it was: the claim is unclear then,
        where it still may be.
        """
        driver = self._backends.driver
        if claim.deadline - self._now() < self._backends.policy.claim / 2:
            return False
        if driver.capabilities.late_deletes and not self._say_sent(claim):
            return False
        try:
            driver.delete_once(claim.key, etag=claim.etag, deadline=claim.deadline)
        except PreconditionFailed:
            self.take_etag(claim)
            return False
        except StorageError as error:
            is_late = driver.capabilities.late_deletes and may_come(error)
            self._end(claim, unclear=self.unclear if is_late else None)
            if not is_late or not self._is_absent(claim.key):
                raise
        self._forget(claim.blob_id, claim.key, claim.token)
        return True

    def take_etag(self, claim: Claim) -> None:
        """The object is another one than was noted: the next claim means that. Raises StorageError."""
        try:
            etag = self._backends.driver.stat(claim.key).etag
        except PathNotFound:
            self._forget(claim.blob_id, claim.key, claim.token)
            return
        with self._backends.database.transaction() as connection:
            blob_locations.set_etag(connection, store=self._store, key=claim.key, etag=etag)
        self._end(claim, unclear=None)

    def settle(self, location: LocationRow) -> bool:
        """Look whether a delete that is unclear was carried out. Then its location is forgotten; False if it was not.

        One that finds the object says nothing: the delete may come. Raises StorageError.
        """
        if location.claim_token is None or not self._is_absent(location.key):
            return False
        self._forget(location.blob_id, location.key, location.claim_token)
        return True

    def delete_unheld(self, repository: RepositoryRow, digest: Digest) -> None:
        """Delete a repository's own bytes of ``digest`` unless it has the blob (again)."""
        backends = self._backends
        if not backends.layout.per_repository:
            return
        wanted, deadline = self.wanted(backends.layout.blob(repository.name, digest))
        with backends.database.transaction() as connection:
            blob = blobs.lock(connection, digest).get()
            if blob is None:
                return
            etag = blob_locations.claim_unheld(connection, repository.id, blob.id, wanted)
        claim = _made(blob.id, wanted, deadline, etag)
        if claim is not None:
            self.delete(claim)

    def finish_abandoned(self) -> int:
        """Finish deletions whose deleter was killed. Returns how many. What was published again meanwhile is kept."""
        finished, after = 0, ""
        refused: list[Omission] = []
        while True:
            with self._backends.database.autocommit() as connection:
                abandoned = blob_locations.expired_claims(connection, self._store, after=after).get()
            for location in abandoned:
                try:
                    finished += self._finish(location)
                except PathRefused as error:  # the claim has ended, and it is tried again
                    refused.append(Omission(Kind.BLOB, location.key, "", f"cannot be deleted: {error.reason}"))
                except StorageError as error:
                    log.warning("a deletion could not be finished yet", key=location.key, reason=str(error))
            if not abandoned:
                break
            after = abandoned[-1].key
        self._backends.omissions.note(Source.REMOVAL, "removal", refused)
        return finished

    def prune(self) -> int:
        """Forget tombstones whose time is over. Returns how many."""
        pruned, seconds = 0, self._backends.policy.tombstone
        while True:
            with self._backends.database.autocommit() as connection:
                stale = blobs.stale(connection, seconds=seconds, count=PRUNED).get()
            if not stale:
                return pruned
            with self._backends.database.transaction(durable=False) as connection:
                count = blobs.prune(connection, stale, seconds=seconds)
            pruned += count
            if not count or len(stale) < PRUNED:  # another process has what is left in hand
                return pruned

    # ----

    def _finish(self, location: LocationRow) -> bool:
        if location.claim_sent and self.unclear:
            if self.settle(location):
                return True
            if self.standing(location) is Standing.UNCLEAR:
                return False
        wanted, deadline = self.wanted(location.key)
        with self._backends.database.transaction() as connection:
            etag = blob_locations.claim_expired(connection, location.blob_id, wanted)
        claim = _made(location.blob_id, wanted, deadline, etag)
        return claim is not None and self.delete(claim)

    def _now(self) -> float:
        return self._backends.database.clocks.boot()

    def _say_sent(self, claim: Claim) -> bool:
        """Have it in the row, durably, before the delete is sent. False if the claim has ended."""
        with self._backends.database.transaction() as connection:
            return blob_locations.set_sent(connection, store=self._store, key=claim.key, token=claim.token)

    def _end(self, claim: Claim, *, unclear: float | None) -> None:
        with suppress(DatabaseError), self._backends.database.transaction() as connection:  # it ends by itself
            blob_locations.end_claim(connection, store=self._store, key=claim.key, token=claim.token, unclear=unclear)

    def _is_absent(self, key: str) -> bool:
        try:
            self._backends.driver.stat(key)
        except PathNotFound:
            return True
        return False

    def _forget(self, blob_id: int, key: str, token: str) -> None:
        with self._backends.database.transaction() as connection:
            blob_locations.remove(connection, blob_id, store=self._store, key=key, token=token)


def may_come(error: StorageError) -> bool:
    """Whether the store may carry a delete out that failed so (see ``StorageDriver.delete_once``)."""
    return isinstance(error, StorageUnavailable | Throttled) and not isinstance(error, PathRefused | NotSent)


def _made(blob_id: int, wanted: Claiming, deadline: float, etag: str | None) -> Claim | None:
    return None if etag is None else Claim(blob_id, wanted.key, etag, wanted.token, deadline)


def claim_orphan(connection: Transaction, wanted: Claiming, digest: Digest, stat: ObjectStat) -> int | None:
    """Make the rows of an object that no row knows, claimed; the id of its blob, None if there is a row of it.

    Raises OrphanKnown: then the transaction may not commit.
    """
    if blob_locations.find(connection, wanted.store, wanted.key).get() is not None:
        return None
    waits = wanted.seconds + wanted.margin
    made = blobs.claim_new(connection, digest, size=stat.size, token=wanted.token, seconds=waits).get()
    if made is not None and not blob_locations.claim_new(connection, made, wanted, size=stat.size, etag=stat.etag):
        raise OrphanKnown(wanted.key, "a row of it came while it was claimed")
    return made

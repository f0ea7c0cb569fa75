"""Blob publication: verified bytes first, then the rows, and no lock across storage (I1, I7, proposal 0001).

A publisher and a deleter (``registry.images.blob_deletion``) of one digest meet in the rows alone, by the table of
``docs/proposals/0011-the-deletion-protocol.md``: a claim raises the blob's generation, and a commit needs the
generation that the publisher began with. Both lock the blob's row, so that of the two one comes first. A row that a
deleter has made meanwhile begins at another generation than one that a publisher makes.
"""

from __future__ import annotations

import time
from itertools import takewhile
from typing import TYPE_CHECKING

from registry.database import blob_locations, blobs, memberships, publications, repositories, withheld
from registry.database.transaction import Known, Later
from registry.images.blob_deletion import BlobDeletion, Standing
from registry.images.publication.blob_placement import BlobPlacement
from registry.images.publication.new_blob import Keep, KeepMore, Look
from registry.images.quotas.usage import Crowded, QuotaUsage
from registry.images.records import withholding
from registry.images.repositories import RemovedMeanwhile, require_row, unread
from registry.oci.errors import QuotaExceeded, Unavailable

if TYPE_CHECKING:
    from registry.database.blob_locations import LocationRow
    from registry.database.blobs import BlobRow, PutBlob
    from registry.database.transaction import Transaction
    from registry.images.backends import Backends
    from registry.images.publication.blob_placement import Placed
    from registry.images.publication.new_blob import NewBlob
    from registry.images.records.folding import Folding
    from registry.images.records.journal import PendingChange
    from registry.images.write_gate import WriteGate
    from registry.oci.digest import Digest
    from registry.storage.driver import ObjectStat

_TAKE = {
    Keep.HELD: repositories.lock_shared,
    Keep.LOCKED: repositories.lock,
    Keep.ALONE: repositories.lock_alone,
}

ATTEMPTS = 200
"""How often a publisher may lose against deleters before it gives up with 503."""
POLL = 0.05
"""Seconds between two looks at a deletion in progress."""
UNCLEAR_RETRY = 10
"""Seconds after which a client may try again whose digest a late delete may still take."""


class _Overtaken(Exception):
    """A deleter came between the look and the rows; nothing was written."""


class BlobPublication:
    """Makes blobs members of repositories. Any thread, any process."""

    def __init__(self, backends: Backends, write_gate: WriteGate, folding: Folding) -> None:
        self._backends = backends
        self._write_gate = write_gate
        self._folding = folding
        self._deletion = BlobDeletion(backends)
        self._placement = BlobPlacement(backends)
        self.quota_usage = QuotaUsage(backends, write_gate)
        """To be asked before bytes are placed in vain."""

    def publish(self, blob: NewBlob, *, found: Look | None = None) -> PendingChange | None:
        """Make a blob a member of its repository.

        The bytes are durable first; then blob, location, membership and lease are written in one transaction, together
        with what ``blob.commit`` adds. ``found`` is what ``look`` has just said.
        Returns what the caller has to ``record`` before its client hears of the blob: the change of ``blob.commit``, or
        that the blob came, which a manifest names and which was withheld (I12).
        Raises RemovedMeanwhile if the repository is gone of which nothing was recorded.
        Raises Unavailable when deleters of the same digest do not let go or a delete of it is unclear, and where no
        change may commit; QuotaExceeded if the blob is under quotas.
        """
        keep, key = blob.keep, self._backends.layout.blob(blob.repository.name, blob.digest)
        for _ in range(ATTEMPTS):
            look = found or self._look(blob)
            found = None
            before, there = look.blob, look.location
            if self._must_wait(there):
                time.sleep(POLL)
                continue
            placed = self._placement.join(blob.source, key, blob.size) or self._placement.put(key, blob, before, there)
            try:
                older, change = self._commit(blob, placed, look, keep)
            except _Overtaken:
                continue
            except KeepMore as more:
                keep = more.keep
                continue
            except Crowded:
                self._require_room(blob, placed)
                continue
            if placed.own:
                self._placement.converge(older, key)
            return change
        raise Unavailable(headers={"Retry-After": "1"})

    def record(self, change: PendingChange | None) -> None:
        """Make durable what ``publish`` returned; the client may be answered then. Raises Unavailable, StorageError."""
        if change is not None:
            self._folding.record(change)

    def write_down(self, repository_id: int, digest: Digest) -> PendingChange | None:
        """Record that a blob came which a row withholds, unless it is recorded or not there. Returns the change.

        Raises Unavailable where no change may commit, StorageError.
        """
        with self._backends.database.transaction() as connection:
            is_open = self._write_gate.require_open(connection)
            repository = require_row(repositories.lock(connection, repository_id).get())
            row = withheld.named(connection, repository_id, [digest]).get().get((digest, withheld.BLOB))
            member = memberships.find(connection, repository_id, digest).get()
            change = None
            if row is not None and member is not None and not repository.is_unread:
                change = withholding.release(connection, repository, row, self._backends.clock())
            is_open.get()
        self.record(change)
        return change

    def look(self, connection: Transaction, repository: str, digest: Digest) -> Later[Look]:
        """Reads the rows that ``publish`` needs, so that a caller can batch them with its own queries.

        A stale result is safe: ``publish`` checks it again when it commits.
        """
        at, key = self._now(), self._backends.layout.blob(repository, digest)
        found = blob_locations.blob_at(connection, digest, store=self._backends.driver.name, key=key)
        return Later(lambda: Look(*found.get(), at))

    def _now(self) -> float:
        return self._backends.database.clocks.boot()

    def _must_wait(self, there: LocationRow | None) -> bool:
        """Whether a deleter may act. Raises Unavailable where a delete may still come, by a look at the object."""
        standing = self._deletion.standing(there)
        if there is not None and standing is Standing.UNCLEAR and not self._deletion.settle(there):
            message = "an earlier delete of these bytes may still be carried out by the store; push them again later"
            raise Unavailable(message, headers={"Retry-After": str(UNCLEAR_RETRY)})
        return standing is not Standing.OPEN

    def _look(self, blob: NewBlob) -> Look:
        with self._backends.database.autocommit() as connection:
            return self.look(connection, blob.repository.name, blob.digest).get()

    def _commit(
        self, blob: NewBlob, placed: Placed, look: Look, keep: Keep
    ) -> tuple[list[LocationRow], PendingChange | None]:
        """Write the rows. Returns the locations that had these bytes before this one did, and what is to be recorded.

        Raises _Overtaken, KeepMore, Crowded.

        What does not depend on what is found is sent before that is read: where nothing comes between, the whole waits
        for the server once, and once more for the commit.
        """
        backends, repository, digest = self._backends, blob.repository, blob.digest
        store, now, (key, stat, _, joined) = backends.driver.name, backends.clock(), placed
        with backends.database.transaction() as connection:
            is_open = self._write_gate.require_open(connection)
            asked = self._ask(connection, blob, key, keep)
            put = blobs.put(connection, digest, size=stat.size, lease=backends.policy.lease)
            write = blob.commit(connection, keep) if blob.commit is not None else None
            is_open.get()
            has_repository, row, there, naming = asked.get()
            if not has_repository:
                raise RemovedMeanwhile(headers={"Retry-After": "1"}) if repository.is_bare else unread()
            if not blob.is_plain:
                naming = None
            if naming is not None and keep is Keep.HELD:
                raise KeepMore(Keep.LOCKED)
            made = put.get()
            self._require_unmoved(look, row, there, made)
            blob_id = made.id
            if joined:
                _require_noted(there, stat)
            else:
                is_verified = blob.source is None or blob.source.is_verified
                verified_at = now if is_verified else (there.verified_at if there is not None else None)
                blob_locations.put(
                    connection,
                    blob_id,
                    store=store,
                    key=key,
                    size=stat.size,
                    etag=stat.etag,
                    verified_at=verified_at,
                )
            self.quota_usage.add(connection, repository.name, digest, stat.size, asks=blob.under_quota)
            memberships.add(connection, repository.id, blob_id, now=now)
            change = write(blob_id) if write is not None else None
            if naming is not None:
                change = withholding.release(connection, repository, naming, now)
            if not self._placement.shares or (row is None and backends.database.serial_writes):
                return [], change
            locations = blob_locations.current_of_blob(connection, blob_id, store).get()
            older = takewhile(lambda location: location.key != key, locations)
            return [location for location in older if location.verified_at], change

    def _ask(self, connection: Transaction, blob: NewBlob, key: str, keep: Keep) -> Later[publications.Joining]:
        """Ask for what the rows depend on, and keep it from other transactions until this one ends."""
        repository, digest, store = blob.repository.id, blob.digest, self._backends.driver.name
        if self._backends.database.serial_writes:
            return Known(publications.joining(connection, repository, digest, store=store, key=key))
        current = _TAKE[keep](connection, repository)
        locked = blob_locations.lock_blob_at(connection, digest, store=store, key=key)
        named = withheld.named(connection, repository, [digest]) if blob.is_plain else None

        def get() -> publications.Joining:
            naming = named.get().get((digest, withheld.BLOB)) if named is not None else None
            return publications.Joining(current.get() is not None, *locked.get(), naming)

        return Later(get)

    def _require_room(self, blob: NewBlob, placed: Placed) -> None:
        """Return if a new count shows room for the blob. Raises QuotaExceeded, and its bytes are not left behind."""
        try:
            self.quota_usage.require(blob.repository.name, blob.digest, placed.stat.size, session=blob.session)
        except QuotaExceeded:
            if placed.own:
                self._retract(blob, placed)
            raise

    def _retract(self, blob: NewBlob, placed: Placed) -> None:
        """Leave of bytes that were placed what an ended membership leaves: nothing, or a row for the collection."""
        key, stat, *_ = placed
        with self._backends.database.transaction() as connection:
            row = blobs.adopt(connection, blob.digest, size=stat.size)
            store = self._backends.driver.name
            blob_locations.adopt(connection, row.id, store=store, key=key, size=stat.size, etag=stat.etag)
        self._deletion.delete_unheld(blob.repository, blob.digest)

    def _require_unmoved(self, look: Look, row: BlobRow | None, there: LocationRow | None, made: PutBlob) -> None:
        """Raises _Overtaken.

        A tombstone may have come and gone since a look that is old. A row that was not there is compared as it was put:
        a deleter of an orphan may have made it while this transaction waited for it.
        """
        before = look.blob
        is_old = self._now() - look.at > self._backends.policy.tombstone / 2
        has_gone = before is not None and row is None
        moved = made.generation != (before.generation if before is not None else 0)
        if is_old or has_gone or moved or self._deletion.in_progress(there):
            raise _Overtaken


def _require_noted(there: LocationRow | None, stat: ObjectStat) -> None:
    """Raises _Overtaken where the row of a location that is shared has changed since it was chosen."""
    if there is None or there.state not in blob_locations.READABLE or there.etag != stat.etag:
        raise _Overtaken

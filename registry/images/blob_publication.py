"""Blob publication: verified bytes first, then the rows, and no lock across storage (I1, I7, proposal 0001).

A publisher and a deleter of one digest meet in the rows alone. Each deletion *claims* the location in its row (a token,
a deadline) and raises the blob's *generation* in the same transaction; the publisher's commit needs the generation that
it began with. Both lock the blob's row, so that of the two one comes first:

==================  ====================================  =======================================================
row of the blob     publisher (this module)               deleter (``registry.images.blob_deletion``)
==================  ====================================  =======================================================
absent, lost        puts the bytes, commits               nothing to claim
``current``         looks whether the object is as        claims: ``deleting``, token, deadline, generation + 1;
                    noted, or puts it; commits            the membership ends in the same transaction
``deleting``,       waits: HEAD and mount say no          deletes once, if DELETE_SECONDS are left before the
before deadline                                           deadline; then removes the row that has its token
``deleting``,       puts the bytes and commits, which     the next process claims it anew (generation + 1); if it
after deadline      clears the claim                      was published again meanwhile, there is nothing to claim
==================  ====================================  =======================================================

At the commit: the generation is the one read before the bytes were put, and no claim is in force: the rows are written
and the location is ``current``. Otherwise a deleter came between, which may have deleted what was put: nothing is
written, and the publisher begins again. A deleter that is late does not send its delete, and one that was overtaken
removes no row: its token is not there any more.
"""

from __future__ import annotations

import contextlib
import enum
import time
from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING, NamedTuple, Protocol

from registry.database import blob_locations, blobs, memberships, repositories, withheld
from registry.images.blob_deletion import BlobDeletion
from registry.images.records import withholding
from registry.images.repositories import require_row
from registry.oci.errors import Unavailable
from registry.storage.errors import PathNotFound

if TYPE_CHECKING:
    from collections.abc import Callable

    from registry.database.blob_locations import Found, LocationRow
    from registry.database.blobs import BlobRow
    from registry.database.repositories import RepositoryRow
    from registry.database.transaction import Later, Transaction
    from registry.images.backends import Backends
    from registry.images.blob_locations import Location
    from registry.images.records.folding import Folding
    from registry.images.records.journal import PendingChange
    from registry.images.write_gate import WriteGate
    from registry.oci.digest import Digest
    from registry.storage.driver import ObjectStat

    class Put(Protocol):
        """Puts the verified bytes at a key, durably and atomically; can be repeated.

        Unless ``replace``, an object of the same size that is there may be taken for these bytes.
        """

        def __call__(self, key: str, *, replace: bool) -> ObjectStat:
            """Raises StorageError."""
            ...

    Write = Callable[[int], PendingChange | None]
    """Writes more rows, given the blob's id; returns what is to be recorded. Raises what makes the whole undone."""
    Commit = Callable[[Transaction, "Keep"], Write]
    """More rows of the same transaction: asks for what they depend on, and waits for nothing."""


class Keep(enum.Enum):
    """How a transaction keeps the row of the repository."""

    HELD = "held"
    """It stays, and other transactions may change it."""
    LOCKED = "locked"
    """No other changes it: what is decided depends on rows of the repository."""
    ALONE = "alone"
    """Nor does one that holds it go on: what is decided depends on blobs that the repository lacks."""


class KeepMore(Exception):
    """What a transaction found has to be decided with the repository kept otherwise; nothing was written."""

    def __init__(self, keep: Keep) -> None:
        super().__init__(keep)
        self.keep = keep


_TAKE = {
    Keep.HELD: repositories.lock_shared,
    Keep.LOCKED: repositories.lock,
    Keep.ALONE: repositories.lock_alone,
}

ATTEMPTS = 200
"""How often a publisher may lose against deleters before it gives up with 503."""
POLL = 0.05
"""Seconds between two looks at a deletion in progress."""
SOURCES = 3
"""Places to try as the source of a link before the bytes that were uploaded are used."""


@dataclass(frozen=True, slots=True)
class NewBlob:
    """What is to become a member of a repository."""

    repository: RepositoryRow
    digest: Digest
    size: int
    """Bytes."""
    put: Put
    """Is called if the bytes are not in place already; raises PathNotFound if it has none."""
    commit: Commit | None = None
    """More rows of the transaction."""
    keep: Keep = Keep.HELD
    """How ``commit`` needs the repository; it may raise KeepMore, and is called again then. HELD for all but manifests,
    which say by themselves what came that was withheld."""
    source: Location | None = None
    """Where ``put`` takes bytes from that may be unverified; where repositories share locations, it is shared."""

    @property
    def is_plain(self) -> bool:
        """It is no manifest: that it came may have to be recorded, since a manifest may name it that lacked it."""
        return self.keep is Keep.HELD


class _Overtaken(Exception):
    """A deleter came between the look and the rows; nothing was written."""


class _Placed(NamedTuple):
    """Where the bytes are by now."""

    key: str
    stat: ObjectStat
    own: bool = False
    """They are of an inode of our own."""
    joined: bool = False
    """The location was noted before, and stays as it is."""


class BlobPublication:
    """Makes blobs members of repositories. Any thread, any process."""

    def __init__(self, backends: Backends, write_gate: WriteGate, folding: Folding) -> None:
        self._backends = backends
        self._write_gate = write_gate
        self._folding = folding
        self._deletion = BlobDeletion(backends)

    def publish(self, blob: NewBlob, *, found: Found | None = None) -> PendingChange | None:
        """Make a blob a member of its repository.

        The bytes are durable first; then blob, location, membership and lease are written in one transaction, together
        with what ``blob.commit`` adds. ``found`` is what ``look`` has just said.
        Returns what the caller has to ``record`` before its client hears of the blob: the change of ``blob.commit``, or
        that the blob came, which a manifest names and which was withheld (I12).
        Raises Unavailable when deleters of the same digest do not let go, and where no change may commit.
        """
        keep, key = blob.keep, self._backends.layout.blob(blob.repository.name, blob.digest)
        for _ in range(ATTEMPTS):
            before, there = found or self._look(blob)
            found = None
            if self._deletion.in_progress(before, there):
                time.sleep(POLL)
                continue
            placed = self._join(blob.source, key, blob.size) or self._place(key, blob, before, there)
            try:
                older, change = self._commit(blob, placed, before, keep)
            except _Overtaken:
                continue
            except KeepMore as more:
                keep = more.keep
                continue
            if placed.own:
                self._converge(older, key)
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

    def look(self, connection: Transaction, repository: str, digest: Digest) -> Later[Found]:
        """Reads the rows that ``publish`` needs, so that a caller can batch them with its own queries.

        A stale result is safe: ``publish`` checks it again when it commits.
        """
        key = self._backends.layout.blob(repository, digest)
        return blob_locations.blob_at(connection, digest, store=self._backends.driver.name, key=key)

    def _look(self, blob: NewBlob) -> Found:
        with self._backends.database.autocommit() as connection:
            return self.look(connection, blob.repository.name, blob.digest).get()

    def _others(self, blob: BlobRow, key: str) -> list[LocationRow]:
        """Other locations with the same bytes."""
        if not self._shares:
            return []
        with self._backends.database.autocommit() as connection:
            locations = blob_locations.current_of_blob(connection, blob.id, self._backends.driver.name).get()
        return [location for location in locations if location.key != key]

    @property
    def _shares(self) -> bool:
        return self._backends.policy.dedupe and self._backends.driver.capabilities.links

    def _join(self, source: Location | None, key: str, size: int) -> _Placed | None:
        """Share a location that is noted, without an object of our own. Raises PathNotFound if it is not as noted.

        None if it is that of the key, whose row is written as for any other.
        """
        if source is None or source.id is None or self._backends.layout.per_repository:
            return None
        stat = self._backends.driver.stat(source.key)
        if stat.size == size and stat.signature == source.signature:
            return _Placed(source.key, stat, joined=True)
        if source.key == key:
            return None
        raise PathNotFound(source.key, "it was replaced since it was noted")

    def _place(self, key: str, blob: NewBlob, row: BlobRow | None, there: LocationRow | None) -> _Placed:
        """Get the bytes to ``key``, unless another location that is verified will do."""
        driver, size = self._backends.driver, blob.size
        healthy = row if row is not None and row.state == blobs.PRESENT else None
        if healthy and there is not None and there.verified_at is not None:
            try:
                stat = driver.stat(key)
            except PathNotFound:
                pass
            else:
                if stat.size == size and stat.signature == there.signature:
                    return _Placed(key, stat)
        shared = self._shared(healthy, key, size)
        if shared is not None:
            return shared
        for other in self._others(healthy, key)[:SOURCES] if healthy else ():
            if other.verified_at is None or other.size != size:
                continue
            try:
                if self._is_as_noted(other):
                    return _Placed(key, driver.link(other.key, key))
            except PathNotFound:
                continue
        # What is known and did not pass may be damaged; an object without a row can only have the wrong size.
        return _Placed(key, blob.put(key, replace=row is not None), own=True)

    def _shared(self, blob: BlobRow | None, key: str, size: int) -> _Placed | None:
        """A verified location with another key, where repositories share locations: that of a source registry."""
        if blob is None or self._backends.layout.per_repository:
            return None
        with self._backends.database.autocommit() as connection:
            locations = blob_locations.of_blob(connection, blob.id, store=self._backends.driver.name).get()
        for location in locations:
            if location.key == key or location.verified_at is None or location.size != size:
                continue
            with contextlib.suppress(PathNotFound):
                stat = self._backends.driver.stat(location.key)
                if stat.size == size and stat.signature == location.signature:
                    return _Placed(location.key, stat, joined=True)
        return None

    def _commit(
        self, blob: NewBlob, placed: _Placed, before: BlobRow | None, keep: Keep
    ) -> tuple[list[LocationRow], PendingChange | None]:
        """Write the rows. Returns the locations that had these bytes before this one did, and what is to be recorded.

        Raises _Overtaken, KeepMore.

        What does not depend on what is found is sent before that is read: where nothing comes between, the whole waits
        for the server once, and once more for the commit.
        """
        backends, repository, digest = self._backends, blob.repository, blob.digest
        store, now, (key, stat, _, joined) = backends.driver.name, backends.clock(), placed
        with backends.database.transaction() as connection:
            is_open = self._write_gate.require_open(connection)
            current = _TAKE[keep](connection, repository.id)
            locked = blob_locations.lock_blob_at(connection, digest, store=store, key=key)
            put = blobs.put(connection, digest, size=stat.size, leased_until=now + backends.policy.lease)
            named = withheld.named(connection, repository.id, [digest]) if blob.is_plain else None
            write = blob.commit(connection, keep) if blob.commit is not None else None
            is_open.get()
            require_row(current.get())
            naming = named.get().get((digest, withheld.BLOB)) if named is not None else None
            if naming is not None and keep is Keep.HELD:
                raise KeepMore(Keep.LOCKED)
            row, there = locked.get()
            self._require_unmoved(before, row, there)
            blob_id = put.get()
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
                    signature=stat.signature,
                    verified_at=verified_at,
                )
            memberships.add(connection, repository.id, blob_id, now=now)
            change = write(blob_id) if write is not None else None
            if naming is not None:
                change = withholding.release(connection, repository, naming, now)
            if not self._shares or (row is None and backends.database.serial_writes):
                return [], change
            locations = blob_locations.current_of_blob(connection, blob_id, store).get()
            older = takewhile(lambda location: location.key != key, locations)
            return [location for location in older if location.verified_at], change

    def _require_unmoved(self, before: BlobRow | None, row: BlobRow | None, there: LocationRow | None) -> None:
        """Raises _Overtaken."""
        if row is None:
            return
        moved = row.generation != (before.generation if before is not None else 0)
        if moved or self._deletion.in_progress(row, there):
            raise _Overtaken

    def _converge(self, older: list[LocationRow], key: str) -> None:
        """Two publishers of one digest met: the later one replaces its inode by that of the earlier."""
        driver = self._backends.driver
        for location in older:
            try:
                if not self._is_as_noted(location):
                    continue
                signature = driver.link(location.key, key).signature
            except PathNotFound:
                continue  # it was deleted meanwhile
            with self._backends.database.transaction() as connection:
                blob_locations.set_signature(connection, store=driver.name, key=key, signature=signature)
            return

    def _is_as_noted(self, location: LocationRow) -> bool:
        """Whether the object is the one whose bytes were known to be right. Raises PathNotFound."""
        stat = self._backends.driver.stat(location.key)
        return stat.size == location.size and stat.signature == location.signature


def _require_noted(there: LocationRow | None, stat: ObjectStat) -> None:
    """Raises _Overtaken where the row of a location that is shared has changed since it was chosen."""
    if there is None or there.state not in blob_locations.READABLE or there.signature != stat.signature:
        raise _Overtaken

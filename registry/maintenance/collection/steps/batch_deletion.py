"""Batch deletion: the deletion protocol for many objects at once (proposal 0011).

Each step is one transaction for all of them; the deletes themselves go side by side.

Tests: ``tests/maintenance/collection/test_run.py``.
"""

from __future__ import annotations

import contextlib
import enum
from typing import TYPE_CHECKING, NamedTuple

from registry.database.collection import claims
from registry.database.collection.claims import ClaimedRow
from registry.database.errors import DatabaseError
from registry.images.blob_deletion import Claim, claim_orphan, may_come
from registry.parallel import map_parallel
from registry.storage.errors import PathNotFound, PreconditionFailed, StorageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from registry.database.transaction import Transaction
    from registry.images.backends import Backends
    from registry.images.blob_deletion import BlobDeletion
    from registry.oci.digest import Digest
    from registry.storage.driver import ObjectStat


class Batch(NamedTuple):
    """Objects that were claimed by one transaction."""

    rows: list[ClaimedRow]
    token: str
    deadline: float
    """By this machine's ``clocks.boot``."""


class _End(enum.Enum):
    """What became of one object."""

    GONE = "gone"
    KEPT = "kept"
    """It was not deleted, and will not be."""
    OTHER = "other"
    """As KEPT: another object than was noted is there, which the next claim means."""
    UNCLEAR = "unclear"


class _Tried(NamedTuple):
    row: ClaimedRow
    end: _End
    problem: str | None


class Deleted(NamedTuple):
    """What became of a batch."""

    gone: list[ClaimedRow]
    problems: list[str]
    """What could not be deleted, and why; a later run does it."""


class BatchDeletion:
    """Any thread, any process."""

    def __init__(self, backends: Backends, deletion: BlobDeletion) -> None:
        self._backends = backends
        self._deletion = deletion

    def claim(self, connection: Transaction, keys: Sequence[str]) -> Batch:
        """Claim what is current and no migration's of these keys, whose blobs the caller has locked."""
        wanted, deadline = self._deletion.wanted("")
        return Batch(claims.claim(connection, wanted, keys), wanted.token, deadline)

    def claim_orphans(self, found: Sequence[tuple[str, Digest, ObjectStat]]) -> Batch:
        """Claim objects that no row knows, as ``BlobDeletion.claim_orphan`` does; those of which there is none yet."""
        wanted, deadline = self._deletion.wanted("")
        rows = []
        with self._backends.database.transaction() as connection:
            for key, digest, stat in sorted(found, key=lambda each: each[1]):  # as other transactions take these rows
                made = claim_orphan(connection, wanted._replace(key=key), digest, stat)
                if made is not None:
                    rows.append(ClaimedRow(made, key, stat.size, stat.etag))
        return Batch(rows, wanted.token, deadline)

    def delete(self, batch: Batch) -> Deleted:
        """Delete the claimed objects, then forget their locations. Raises DatabaseError: then a later run goes on."""
        sendable = self._sendable(batch)
        tried = self._try_all([row for row in batch.rows if row.key in sendable], batch.deadline)
        self._settle(batch, tried)
        for each in tried:
            if each.end is _End.OTHER:
                with contextlib.suppress(StorageError):
                    row = each.row
                    self._deletion.take_etag(Claim(row.blob_id, row.key, row.etag, batch.token, batch.deadline))
        return Deleted(
            [each.row for each in tried if each.end is _End.GONE],
            [f"{each.row.key}: {each.problem}" for each in tried if each.problem is not None],
        )

    # ----

    def _sendable(self, batch: Batch) -> set[str]:
        """The keys whose deletes may be sent: in time, and said to be sent where one may come late."""
        keys = [row.key for row in batch.rows]
        if not keys or batch.deadline - self._backends.database.clocks.boot() < self._backends.policy.claim / 2:
            return set()
        driver = self._backends.driver
        if not driver.capabilities.late_deletes:
            return set(keys)
        with self._backends.database.transaction() as connection:
            return claims.set_sent(connection, keys, store=driver.name, token=batch.token).get()

    def _try_all(self, rows: list[ClaimedRow], deadline: float) -> list[_Tried]:
        driver = self._backends.driver

        def try_one(row: ClaimedRow) -> StorageError | None:
            try:
                driver.delete_once(row.key, etag=row.etag, deadline=deadline)
            except StorageError as error:
                return error
            return None

        if driver.capabilities.stat_is_local:
            errors = driver.delete_several([(row.key, row.etag) for row in rows], deadline=deadline)
        else:
            errors = map_parallel(driver.capabilities, try_one, rows)
        return [self._end_of(row, error) for row, error in zip(rows, errors, strict=True)]

    def _end_of(self, row: ClaimedRow, error: StorageError | None) -> _Tried:
        if error is None:
            return _Tried(row, _End.GONE, None)
        if isinstance(error, PreconditionFailed):
            return _Tried(row, _End.OTHER, "it is another object than was noted; a later run deletes it")
        if not (self._backends.driver.capabilities.late_deletes and may_come(error)):
            return _Tried(row, _End.KEPT, str(error))
        return _Tried(row, _End.GONE, None) if self._is_absent(row.key) else _Tried(row, _End.UNCLEAR, str(error))

    def _is_absent(self, key: str) -> bool:
        with contextlib.suppress(StorageError):
            try:
                self._backends.driver.stat(key)
            except PathNotFound:
                return True
        return False

    def _settle(self, batch: Batch, tried: list[_Tried]) -> None:
        store = self._backends.driver.name
        gone = [each.row for each in tried if each.end is _End.GONE]
        if gone:
            with self._backends.database.transaction() as connection:
                claims.remove(
                    connection,
                    [row.blob_id for row in gone],
                    [row.key for row in gone],
                    store=store,
                    token=batch.token,
                )
        unclear = [each.row.key for each in tried if each.end is _End.UNCLEAR]
        kept = {row.key for row in batch.rows} - {row.key for row in gone} - set(unclear)
        for keys, seconds in ((list(kept), None), (unclear, self._deletion.unclear)):
            if keys:
                with contextlib.suppress(DatabaseError), self._backends.database.transaction() as connection:
                    claims.end(connection, keys, store=store, token=batch.token, unclear=seconds)  # else by themselves

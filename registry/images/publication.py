"""Putting a blob into a repository: verified bytes first, then the rows, and no lock across storage (proposal 0001).

The deleter's half of the protocol is in ``registry.images.removal``.
"""

from __future__ import annotations

import time
from itertools import takewhile
from typing import TYPE_CHECKING, Protocol

from registry.database import blobs as blob_rows
from registry.database import repositories as repository_rows
from registry.images.repositories import present
from registry.oci.errors import Unavailable
from registry.storage.errors import PathNotFound

if TYPE_CHECKING:
    from collections.abc import Callable

    from registry.database.blobs import BlobRow, LocationRow
    from registry.database.repositories import RepositoryRow
    from registry.database.transaction import Transaction
    from registry.images.removal import Removal
    from registry.images.stores import Stores
    from registry.oci.digest import Digest
    from registry.storage.driver import ObjectStat

    class Put(Protocol):
        """Puts the verified bytes at a key, durably and atomically; can be repeated.

        Unless ``replace``, an object of the same size that is there may be taken for these bytes.
        """

        def __call__(self, key: str, *, replace: bool) -> ObjectStat:
            """Raises StorageError."""
            ...

    Commit = Callable[[Transaction, RepositoryRow, int], None]
    """More rows of the same transaction, given the repository and the blob's id."""

ATTEMPTS = 200
"""How often a publisher may lose against deleters before it gives up with 503."""
POLL = 0.05
"""Seconds between two looks at a deletion in progress."""
SOURCES = 3
"""Places to try as the source of a link before the bytes that were uploaded are used."""


class Publication:
    """Makes blobs members of repositories. Any thread, any process."""

    def __init__(self, stores: Stores, removal: Removal) -> None:
        self._stores = stores
        self._removal = removal

    def publish(
        self,
        repository: RepositoryRow,
        digest: Digest,
        size: int,
        put: Put,
        commit: Commit | None = None,
        *,
        is_verified: bool = True,
        decides: bool = False,
    ) -> None:
        """Make ``digest`` a member of ``repository``.

        The bytes are durable first; then blob, location, membership and lease are written in one transaction, together
        with what ``commit`` adds.
        ``put`` is called when the bytes are not in place already; it may raise PathNotFound when it has none. Unless
        ``is_verified`` nobody has hashed what it puts. ``decides``: what ``commit`` does depends on rows of the
        repository, which nobody else may change then.
        Raises Unavailable when deleters of the same digest do not let go.
        """
        key = self._stores.layout.blob(repository.name, digest)
        for _ in range(ATTEMPTS):
            before, there, others = self._look(digest, key)
            if self._removal.in_progress(before, there):
                time.sleep(POLL)
                continue
            stat, own = self._place(key, size, put, before, there, others)
            older = self._commit(
                repository, digest, key, stat, before, commit, is_verified=is_verified, decides=decides
            )
            if older is None:
                continue
            if own:
                self._converge(older, key)
            return
        raise Unavailable(headers={"Retry-After": "1"})

    def _look(self, digest: Digest, key: str) -> tuple[BlobRow | None, LocationRow | None, list[LocationRow]]:
        store = self._stores.driver.name
        with self._stores.database.look() as connection:
            blob, there = blob_rows.at(connection, digest, store=store, key=key)
        others: list[LocationRow] = []
        if blob is not None and self._shares:
            with self._stores.database.look() as connection:
                others = blob_rows.locations(connection, blob.id, store)
        return blob, there, [other for other in others if other.key != key]

    @property
    def _shares(self) -> bool:
        return self._stores.rules.dedupe and self._stores.driver.capabilities.links

    def _place(
        self, key: str, size: int, put: Put, blob: BlobRow | None, there: LocationRow | None, others: list[LocationRow]
    ) -> tuple[ObjectStat, bool]:
        """Get the bytes to ``key``. The flag: they are of an inode of our own."""
        driver = self._stores.driver
        healthy = blob is not None and blob.state == blob_rows.PRESENT
        if healthy and there is not None and there.verified_at is not None:
            try:
                stat = driver.stat(key)
            except PathNotFound:
                pass
            else:
                if stat.size == size and stat.signature == there.signature:
                    return stat, False
        for other in others[:SOURCES] if healthy else ():
            if other.verified_at is None or other.size != size:
                continue
            try:
                if self._is_as_noted(other):
                    return driver.link(other.key, key), False
            except PathNotFound:
                continue
        # What is known and did not pass may be damaged; of an object that nobody knows only its size can be wrong.
        return put(key, replace=blob is not None), True

    def _commit(
        self,
        repository: RepositoryRow,
        digest: Digest,
        key: str,
        stat: ObjectStat,
        before: BlobRow | None,
        commit: Commit | None,
        *,
        is_verified: bool,
        decides: bool,
    ) -> list[LocationRow] | None:
        """Write the rows. Returns the places that had these bytes before ``key`` did.

        None: a deleter came between, do it again.
        """
        stores = self._stores
        store, now = stores.driver.name, stores.clock()
        with stores.database.write() as connection:
            take = repository_rows.lock if decides else repository_rows.hold
            current = present(take(connection, repository.id))
            row, there = blob_rows.lock_at(connection, digest, store=store, key=key)
            if row is not None:
                moved = row.generation != (before.generation if before is not None else 0)
                if moved or self._removal.in_progress(row, there):
                    return None
            until = now + stores.rules.lease
            blob_id = blob_rows.put(connection, digest, size=stat.size, leased_until=until)
            verified_at = now if is_verified else (there.verified_at if there is not None else None)
            blob_rows.put_location(
                connection,
                blob_id,
                store=store,
                key=key,
                size=stat.size,
                signature=stat.signature,
                verified_at=verified_at,
            )
            blob_rows.join(connection, repository.id, blob_id, now=now)
            if commit is not None:
                commit(connection, current, blob_id)
            if not self._shares or (row is None and stores.database.serial_writes):
                return []
            places = blob_rows.locations(connection, blob_id, store)
            return [place for place in takewhile(lambda place: place.key != key, places) if place.verified_at]

    def _converge(self, older: list[LocationRow], key: str) -> None:
        """Two publishers of one digest met: the later one gives its inode up for that of the earlier."""
        driver = self._stores.driver
        for place in older:
            try:
                if not self._is_as_noted(place):
                    continue
                signature = driver.link(place.key, key).signature
            except PathNotFound:
                continue  # it was deleted meanwhile
            with self._stores.database.write() as connection:
                blob_rows.set_signature(connection, store=driver.name, key=key, signature=signature)
            return

    def _is_as_noted(self, place: LocationRow) -> bool:
        """Whether nobody has touched the object since its bytes were known to be right. Raises PathNotFound."""
        stat = self._stores.driver.stat(place.key)
        return stat.size == place.size and stat.signature == place.signature

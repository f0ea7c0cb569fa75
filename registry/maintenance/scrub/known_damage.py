"""*Known damage*: blobs that were found missing or wrong before, by a read or a scrub, and are so still.

Tests: ``tests/maintenance/scrub/test_repair.py``.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from registry.database import blob_locations, blobs
from registry.database.collection import scrub
from registry.maintenance.scrub.object_check import Verdict
from registry.maintenance.scrub.report import Outcome
from registry.oci.digest import Digest
from registry.oci.errors import RegistryError
from registry.storage.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from registry.database.collection.scrub import MemberRow, ScrubRow
    from registry.images.registry import Registry
    from registry.maintenance.scrub.findings import Findings
    from registry.maintenance.scrub.quarantine import Quarantine
    from registry.maintenance.scrub.repair import Repair

WINDOW: Final = 20_000
"""Ids that one statement looks through."""
MEMBERS: Final = 1000
"""Memberships that one statement looks at."""


class KnownDamage:
    """For one thread."""

    def __init__(self, registry: Registry, quarantine: Quarantine, repair: Repair, findings: Findings) -> None:
        self._backends = registry.backends
        self._quarantine = quarantine
        self._repair = repair
        self._findings = findings
        self._store = registry.backends.driver.name

    def work(self) -> Iterator[None]:
        """Tell of each, and repair it if this scrub repairs; yields after each statement.

        Raises StorageError if the store fails, DatabaseError, Interrupted.
        """
        if self._backends.layout.per_repository:
            self._quarantine.clear()
            yield from self._members()
        else:
            yield from self._lost()
            yield from self._without_location()

    def _members(self) -> Iterator[None]:
        after = (-1, -1)
        while page := self._page_of_members(after):
            after = page[-1].repository_id, page[-1].blob_id
            for row in page:
                if row.state is None:
                    self._tell_of_member(row)
            yield

    def _page_of_members(self, after: tuple[int, int]) -> list[MemberRow]:
        with self._backends.database.autocommit() as connection:
            return scrub.members(connection, store=self._store, after=after, count=MEMBERS).get()

    def _tell_of_member(self, row: MemberRow) -> None:
        digest = Digest(row.digest)
        key = self._backends.layout.blob(row.repository, digest)
        try:
            if self._repair.in_place(row.repository, digest, row.size):
                return
            verdict = Verdict.WRONG if self._quarantine.is_kept(key) else Verdict.MISSING
        except (StorageError, RegistryError) as error:
            self._findings.unreadable(key, error)
            return
        repair = partial(self._repair.own, row.repository, digest, row.size)
        self._findings.damage(
            row.blob_id, row.digest, key, row.size, verdict, Outcome.NOT_SERVED, repair, only=row.repository
        )

    def _lost(self) -> Iterator[None]:
        with self._backends.database.autocommit() as connection:
            last = scrub.last_location(connection).get()
        for after in range(0, last, WINDOW):
            with self._backends.database.autocommit() as connection:
                rows = scrub.lost(connection, store=self._store, after=after, until=after + WINDOW).get()
            for row in rows:
                self._tell_of_lost(row)
                yield
            yield

    def _tell_of_lost(self, row: ScrubRow) -> None:
        """An object that is right again, since an operator has brought it back, is served again."""
        with self._backends.database.autocommit() as connection:
            is_wanted = scrub.is_wanted(connection, row.blob_id).get()
            blob = blobs.find(connection, row.digest).get()
            elsewhere = blob_locations.of_blob(connection, row.blob_id, store=self._store).get()
        try:
            if self._repair.is_right_again(row):
                return
        except (StorageError, RegistryError) as error:
            self._findings.unreadable(row.key, error)
            return
        if not is_wanted:
            return  # told of when it was found; it is for collection
        is_missing = blob is not None and blob.state == blobs.MISSING
        self._findings.damage(
            row.blob_id,
            row.digest,
            row.key,
            row.size,
            Verdict.MISSING if is_missing else Verdict.WRONG,
            Outcome.ELSEWHERE if elsewhere else Outcome.NOT_SERVED,
            partial(self._repair.shared, row),
        )

    def _without_location(self) -> Iterator[None]:
        with self._backends.database.autocommit() as connection:
            last = scrub.last_blob(connection).get()
        for after in range(0, last, WINDOW):
            with self._backends.database.autocommit() as connection:
                rows = scrub.without_location(connection, store=self._store, after=after, until=after + WINDOW).get()
                wanted = [row for row in rows if scrub.is_wanted(connection, row.id).get()]
            for row in wanted:
                verdict = Verdict.MISSING if row.state == blobs.MISSING else Verdict.WRONG
                key = self._backends.layout.blob("", Digest(row.digest))
                self._findings.damage(row.id, row.digest, key, row.size, verdict, Outcome.NOT_SERVED, None)
            yield

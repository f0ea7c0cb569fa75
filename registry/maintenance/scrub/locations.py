"""*Locations*: each is read whole, the one that was read longest ago first, and taken out of service if it is wrong.

Names that share an inode are read once.

Tests: ``tests/maintenance/scrub/test_run.py``, ``tests/maintenance/scrub/test_order.py``.
"""

from __future__ import annotations

import contextlib
import math
from functools import partial
from typing import TYPE_CHECKING, Final

from registry.database import blob_locations, blobs
from registry.database.collection import scrub
from registry.maintenance.due import SKEW
from registry.maintenance.scrub.object_check import Verdict
from registry.maintenance.scrub.quarantine import repository_of
from registry.maintenance.scrub.report import Outcome
from registry.oci.digest import Digest
from registry.storage.errors import PathNotFound, StorageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from registry.database.collection.scrub import ScrubRow
    from registry.images.registry import Registry
    from registry.maintenance.scrub.findings import Findings
    from registry.maintenance.scrub.object_check import ObjectCheck
    from registry.maintenance.scrub.quarantine import Quarantine
    from registry.maintenance.scrub.repair import Repair

PAGE: Final = 100
"""Rows of one read or write transaction."""
NAMES: Final = 1000
"""Names of one blob that are looked at together."""
WINDOW: Final = 20_000
"""Ids that one statement looks through."""
GREATEST_ID: Final = (1 << 63) - 1
"""No id of a location is above it."""
ATTEMPTS: Final = 5
"""How often a location may change while it is read."""
PLACED_SECONDS: Final = 3600.0
"""Age from which a file of another tool counts as written to its end."""


class Locations:
    """For one thread. Two scrubs at once are harmless: each step is conditional on the row that was read."""

    def __init__(
        self,
        registry: Registry,
        check: ObjectCheck,
        quarantine: Quarantine,
        repair: Repair,
        findings: Findings,
        *,
        began: float,
    ) -> None:
        """``began``: when the round began. What was read whole since then is done."""
        self._backends = registry.backends
        self._check = check
        self._quarantine = quarantine
        self._repair = repair
        self._findings = findings
        self._began = self._latest = began
        self._store = registry.backends.driver.name
        self._passed: set[int] = set()
        """Blobs with names that stay due, since they are damaged or cannot be read."""
        self._noted = 0
        """Names that were found right."""

    def count_due(self) -> int:
        """How many locations the round has still to read. Raises DatabaseError."""
        due = 0
        for after in range(0, self._last(), WINDOW):
            with self._backends.database.autocommit() as connection:
                due += scrub.count_due(
                    connection,
                    store=self._store,
                    before=self._began,
                    ahead=self._now() + SKEW,
                    after=after,
                    until=after + WINDOW,
                ).get()
        return due

    def work(self) -> Iterator[int]:
        """Read what is due; yields the locations that are done after each object.

        Raises StorageError if the store fails, DatabaseError, Interrupted.
        """
        for page in self._pages():
            done: set[int] = set()
            for row in page:
                if row.blob_id in done or row.blob_id in self._passed:
                    continue
                if self._backends.driver.capabilities.links:
                    done.add(row.blob_id)
                    yield from self._read_names(row.blob_id)
                else:
                    self._read(row)
                    yield 1

    # ---- the order

    def _pages(self) -> Iterator[list[ScrubRow]]:
        for start in range(0, self._last(), WINDOW):
            after = start
            while page := self._never_scrubbed(after, start + WINDOW):
                yield page
                after = page[-1].id
        yield from self._by_age(math.inf, lambda: self._now() + SKEW)  # a clock was ahead: when, is not known
        yield from self._by_age(self._began, lambda: -1.0)

    def _by_age(self, before: float, since: Callable[[], float]) -> Iterator[list[ScrubRow]]:
        """What was last read in that time, the oldest first. ``since`` may move: what is noted meanwhile is done."""
        behind = (since(), GREATEST_ID)
        while page := self._oldest(behind, before):
            yield page
            behind = max((page[-1].scrubbed_at or 0.0, page[-1].id), (since(), GREATEST_ID))

    def _never_scrubbed(self, after: int, until: int) -> list[ScrubRow]:
        with self._backends.database.autocommit() as connection:
            return scrub.never_scrubbed(connection, store=self._store, after=after, until=until, count=PAGE).get()

    def _oldest(self, behind: tuple[float, int], before: float) -> list[ScrubRow]:
        with self._backends.database.autocommit() as connection:
            return scrub.oldest(connection, store=self._store, before=before, after=behind, count=PAGE).get()

    def _now(self) -> float:
        """The latest moment that this run has seen: what it has noted itself never lies ahead."""
        self._latest = max(self._latest, self._backends.clock())
        return self._latest

    def _is_done(self, row: ScrubRow) -> bool:
        """Whether the round has read it."""
        return row.scrubbed_at is not None and self._began <= row.scrubbed_at <= self._now() + SKEW

    def _last(self) -> int:
        with self._backends.database.autocommit() as connection:
            return scrub.last_location(connection).get()

    # ---- one object for all repositories

    def _read(self, row: ScrubRow) -> None:
        current: ScrubRow | None = row
        for _ in range(ATTEMPTS):
            if current is None or current.state not in blob_locations.READABLE:
                return
            try:
                checked = self._check.check(current.key, current.digest, current.size)
                if checked.verdict is Verdict.RIGHT:
                    self._note([current], checked.etag)
                    return
                state = blobs.MISSING if checked.verdict is Verdict.MISSING else blobs.QUARANTINED
                if self._quarantine.take_out(current, state):
                    self._tell(current, checked.verdict)
                    return
            except StorageError as error:
                self._findings.unreadable(current.key, error)
                return
            current = self._again(current)
        self._findings.unreadable(row.key, StorageError(row.key, "it changes faster than it can be read"))

    def _tell(self, row: ScrubRow, verdict: Verdict) -> None:
        with self._backends.database.autocommit() as connection:
            elsewhere = blob_locations.of_blob(connection, row.blob_id, store=self._store).get()
        outcome = Outcome.ELSEWHERE if elsewhere else Outcome.NOT_SERVED
        lost = self._again(row) or row
        repair = partial(self._repair.shared, lost)
        self._findings.damage(row.blob_id, row.digest, row.key, row.size, verdict, outcome, repair)

    # ---- names of files

    def _read_names(self, blob_id: int) -> Iterator[int]:
        """Read each inode that has the bytes of a blob, whatever names it has."""
        damaged: list[tuple[ScrubRow, Verdict]] = []
        known: dict[str, Verdict] = {}  # what was found of inodes, by their etags
        due, noted, after = 0, self._noted, 0
        while rows := self._names(blob_id, after):
            after = rows[-1].id
            is_read = [row for row in rows if self._is_done(row)]
            known.update(dict.fromkeys((row.etag for row in is_read), Verdict.RIGHT))
            waiting = [row for row in rows if not self._is_done(row)]
            due += len(waiting)
            for etag, names in self._by_inode(waiting, damaged).items():
                damaged += self._judge(etag, names, known)
                yield len(names)
        if self._noted - noted < due:
            self._passed.add(blob_id)
        for row, verdict in damaged:
            self._tell_of_name(row, verdict)

    def _names(self, blob_id: int, after: int) -> list[ScrubRow]:
        with self._backends.database.autocommit() as connection:
            return scrub.of_blob(connection, blob_id, store=self._store, after=after, count=NAMES).get()

    def _by_inode(self, rows: Iterable[ScrubRow], damaged: list[tuple[ScrubRow, Verdict]]) -> dict[str, list[ScrubRow]]:
        """Names by the etag of their file; those that are missing are added to ``damaged``."""
        inodes: dict[str, list[ScrubRow]] = {}
        for row in rows:
            try:
                inodes.setdefault(self._backends.driver.stat(row.key).etag, []).append(row)
            except PathNotFound:
                if self._is_missing(row):
                    damaged.append((row, Verdict.MISSING))
            except StorageError as error:
                self._findings.unreadable(row.key, error)
        return inodes

    def _judge(self, etag: str, names: list[ScrubRow], known: dict[str, Verdict]) -> Iterable[tuple[ScrubRow, Verdict]]:
        """Read the bytes that these names share, unless they were; those that are damaged are out of service then."""
        first, was_read = names[0], etag in known
        if not was_read:
            try:
                checked = self._check.check(first.key, first.digest, first.size)
            except StorageError as error:
                self._findings.unreadable(first.key, error)
                return ()
            if checked.verdict is Verdict.MISSING or checked.etag != etag:
                return ()  # a client or tool was faster: the next round reads what is there then
            known[etag] = checked.verdict
        if known[etag] is Verdict.RIGHT:
            self._note(names, etag, read=not was_read)
            return ()
        return [(row, Verdict.WRONG) for row in names if self._is_taken_out(row, etag)]

    def _is_taken_out(self, row: ScrubRow, etag: str) -> bool:
        """Whether a wrong file is to be told of; it is out of service then, or a problem says why not."""
        if row.verified_at is None:  # hashed before it is served, and perhaps not written to its end
            return self._is_settled(row.key)
        try:
            return self._take_out(row, etag)
        except StorageError as error:
            self._findings.unreadable(row.key, error)
            return True

    def _take_out(self, row: ScrubRow, etag: str) -> bool:
        """Take a file out of service while it is the one that was read; False if it is not, or was gone.

        A push that took it for its own has changed the row meanwhile, and the file is as wrong as before.
        Raises StorageError.
        """
        current: ScrubRow | None = row
        for _ in range(ATTEMPTS):
            if current is None or current.state not in blob_locations.READABLE:
                return False
            with contextlib.suppress(PathNotFound):
                if self._backends.driver.stat(current.key).etag != etag:
                    return False
                if self._quarantine.take_out(current, blobs.QUARANTINED):
                    return True
            current = self._again(current)
        raise StorageError(row.key, "it changes faster than it can be taken out of service")

    def _is_settled(self, key: str) -> bool:
        try:
            modified = self._backends.driver.stat(key).modified
        except StorageError:
            return False
        return modified < self._backends.clock() - PLACED_SECONDS

    def _is_missing(self, row: ScrubRow) -> bool:
        """Whether a file is gone that its row still says is there: a deletion takes the row first."""
        again = self._again(row)
        if again is None or again.state not in blob_locations.READABLE:
            return False
        try:
            self._backends.driver.stat(row.key)
        except PathNotFound:
            return True
        return False

    def _tell_of_name(self, row: ScrubRow, verdict: Verdict) -> None:
        repository = repository_of(row.key)
        again = self._again(row)
        is_served = verdict is Verdict.WRONG and again is not None and again.verified_at is not None
        is_served = is_served and again is not None and again.state in blob_locations.READABLE
        outcome = Outcome.SERVED if is_served else Outcome.NOT_SERVED
        repair = None if is_served else partial(self._repair.own, repository, Digest(row.digest), row.size)
        self._findings.damage(row.blob_id, row.digest, row.key, row.size, verdict, outcome, repair, only=repository)

    # ---- rows

    def _note(self, rows: list[ScrubRow], etag: str, *, read: bool = True) -> None:
        """Note that these are right; without ``read`` because another name of the same bytes was read."""
        now = self._now()
        for start in range(0, len(rows), PAGE):
            with self._backends.database.transaction(durable=False) as connection:
                scrub.set_right(connection, rows[start : start + PAGE], etag=etag, now=now)
        self._noted += len(rows)
        if read:
            self._findings.right(len(rows))
        else:
            self._findings.share(len(rows))

    def _again(self, row: ScrubRow) -> ScrubRow | None:
        with self._backends.database.autocommit() as connection:
            return scrub.get(connection, row.id, store=self._store).get()

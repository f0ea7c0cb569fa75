"""Journal: the changes of a repository, and their records on storage."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import orjson
import structlog

from registry.database import changes, repositories
from registry.oci.descriptor import Descriptor
from registry.oci.moment import to_text
from registry.oci.record import Operation, Record
from registry.oci.withheld import NOTHING, Withheld
from registry.parallel import AT_ONCE, map_parallel
from registry.storage.errors import AlreadyExists, PathNotFound, StorageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from registry.database.repositories import RepositoryRow
    from registry.database.transaction import Transaction
    from registry.images.backends import Backends
    from registry.oci.digest import Digest
    from registry.oci.index import Index

MAX_SEGMENT = 512 << 20
"""Bytes of one journal object at most; larger means that it is not ours."""

log = structlog.get_logger(__name__)


class UnreadableRecord(StorageError):
    """A record is whole and not understood: its repository waits for a release that does, or for its repair (I11)."""


class NumberTaken(Exception):
    """Storage has another record of that number: the database that gave it is behind storage."""


class Journal:
    """Records by repository. Writing one twice is harmless: readers take each sequence number once."""

    def __init__(self, backends: Backends) -> None:
        self._driver = backends.driver
        self._layout = backends.layout

    def write(self, repository: str, sequence: int, line: bytes) -> None:
        """Make a record durable. Raises NumberTaken, where records are objects of their own."""
        key = self._layout.record(repository, sequence)
        if self._driver.capabilities.appends:
            self._driver.append(key, line)
            return
        try:
            self._driver.write(key, line, if_absent=True)
        except AlreadyExists as error:
            if self._driver.read(key, max_bytes=MAX_SEGMENT)[0] != line:
                raise NumberTaken(repository, sequence) from error

    def after(self, repository: str, sequence: int) -> dict[int, bytes]:
        """The lines of every record above ``sequence``, in the order of their numbers. Raises UnreadableRecord.

        A line that is no JSON is one whose writer was killed: no client was answered, so it is no record.
        """
        found: dict[int, bytes] = {}
        for names in self._batches(repository, sequence):
            for records in map_parallel(self._driver.capabilities, partial(self._records, repository), names):
                found.update({record.sequence: line for record, line in records if record.sequence > sequence})
        return dict(sorted(found.items()))

    def history(self, repository: str, after: int, last: int) -> Iterator[Record]:
        """Every record above ``after`` up to ``last``, folded or not, in the order of their numbers.

        They are read as they are asked for: a repository may have millions. Raises UnreadableRecord.
        """
        for names in self._batches(repository, after):
            if self._layout.first_of(names[0]) > last:
                return
            for records in map_parallel(self._driver.capabilities, partial(self._records, repository), names):
                once = {record.sequence: record for record, _ in records}
                yield from (once[number] for number in sorted(once) if after < number <= last)

    def note(self, repository: str, index: Index) -> bool:
        """Have ``index`` say what records say that are folded into it and that it has not noted; False for none.

        Raises UnreadableRecord.
        """
        if index.noted == index.folded:
            return False
        for record in self.history(repository, index.noted, index.folded):
            record.note(index)
        index.noted = index.folded
        return True

    def last(self, repository: str) -> int:
        """The highest sequence number that storage knows; 0 when there is none."""
        for name in reversed(self._names(repository)):
            highest = max((record.sequence for record, _ in self._records(repository, name)), default=0)
            if highest:
                return highest
        return 0

    def has_records(self, repository: str) -> bool:
        """Whether storage has any record of a repository."""
        return next(iter(self._driver.list(self._layout.journal(repository))), None) is not None

    def _names(self, repository: str, *, after: int = 0) -> list[str]:
        prefix = self._layout.journal(repository)
        if self._driver.capabilities.appends:
            names = [child.name for child in self._driver.children(prefix) if not (child.is_prefix or child.is_link)]
        else:
            found = self._driver.list(prefix, after=self._layout.record(repository, after))
            names = [key.removeprefix(f"{prefix}/") for key, _ in found]
        return [name for name in names if self._layout.first_of(name) >= 0]

    def _batches(self, repository: str, after: int) -> Iterator[list[str]]:
        """The names of the objects that can hold records above ``after``, as many as are read side by side."""
        names = self._names(repository, after=after)
        following = [*map(self._layout.first_of, names[1:]), after + 1]
        wanted = [name for name, first in zip(names, following, strict=True) if first > after] if names else []
        at_once = 1 if self._driver.capabilities.appends else AT_ONCE
        for start in range(0, len(wanted), at_once):
            yield wanted[start : start + at_once]

    def _records(self, repository: str, name: str) -> list[tuple[Record, bytes]]:
        """With the line of each. Raises UnreadableRecord."""
        key = f"{self._layout.journal(repository)}/{name}"
        try:
            data, _ = self._driver.read(key, max_bytes=MAX_SEGMENT)
        except PathNotFound:
            return []
        found = []
        for line in data.splitlines():
            try:
                found.append((Record.parse(line), line + b"\n"))
            except ValueError as error:
                if not (self._driver.capabilities.appends and _is_torn(line)):
                    raise UnreadableRecord(key, f"a record of it is not understood: {error}") from error
                log.warning("a journal line is cut short and was skipped", repository=repository, journal=name)
        return found


def understood(repository: str, line: bytes) -> Record:
    """The record of a change that the database has; perhaps of a later release. Raises UnreadableRecord."""
    try:
        return Record.parse(line)
    except ValueError as error:
        raise UnreadableRecord(repository, f"a change in the database is not understood: {error}") from error


def _is_torn(line: bytes) -> bool:
    """Whether a line was cut short: the beginning of a JSON object is none."""
    try:
        orjson.loads(line)
    except ValueError:
        return True
    return False


class PendingChange(NamedTuple):
    """A change that is committed as pending; its record must reach storage before the client hears of it."""

    repository: RepositoryRow
    """With the new sequence number and version."""
    line: bytes
    """The record."""


@dataclass(frozen=True, slots=True)
class Change:
    """What is to happen, without its number."""

    operation: Operation
    digest: Digest | None
    descriptor: Descriptor | None
    tags: tuple[str, ...]
    actor: str
    old: dict[str, str] = field(default_factory=dict)
    withheld: Withheld = NOTHING
    released: Withheld = NOTHING
    pushed: str | None = None
    tagged: dict[str, str] = field(default_factory=dict)

    @classmethod
    def put(
        cls,
        digest: Digest,
        media_type: str,
        size: int,
        tags: Sequence[str],
        *,
        actor: str,
        old: dict[str, str] | None = None,
    ) -> Change:
        """A manifest is put, with tags or without."""
        return cls("put", digest, Descriptor(media_type, digest, size), tuple(tags), actor, old or {})

    def allot(self, connection: Transaction, repository: RepositoryRow, now: float) -> PendingChange:
        """Allot the number and keep the change as pending, in the caller's transaction. Raises LookupError."""
        row = repositories.next_sequence(connection, repository.id).get()
        if row is None:
            raise LookupError(repository.id)
        return self.keep(connection, row, now)

    def keep(self, connection: Transaction, row: RepositoryRow, now: float) -> PendingChange:
        """Keep the change as pending under the number that ``row`` was allotted in the same transaction."""
        record = Record(
            sequence=row.sequence,
            time=to_text(now),
            actor=self.actor,
            operation=self.operation,
            digest=self.digest,
            descriptor=self.descriptor,
            tags=self.tags,
            old=self.old,
            withheld=self.withheld,
            released=self.released,
            pushed=self.pushed,
            tagged=self.tagged,
        )
        line = record.to_line()
        changes.add(connection, row.id, row.sequence, line, state=changes.PENDING, now=now)
        return PendingChange(row, line)

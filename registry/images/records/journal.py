"""Journal: the changes of a repository, and their records on storage."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from heapq import merge
from itertools import takewhile
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple

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
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from registry.database.repositories import RepositoryRow
    from registry.database.transaction import Transaction
    from registry.images.backends import Backends
    from registry.images.layout import Span
    from registry.oci.digest import Digest
    from registry.oci.index import Index

NO_TAGS: Final[Mapping[str, str]] = MappingProxyType({})
MAX_SEGMENT = 512 << 20
"""Bytes of one journal object at most; larger means that it is not ours."""
PAGE = 1000
"""Records that a reader from the end lists at a time, where each is an object."""

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
        for names in self._batches(self._listed(repository, after=sequence)):
            for records in map_parallel(self._driver.capabilities, partial(self._records, repository), names):
                found.update({record.sequence: line for record, line in records if record.sequence > sequence})
        return dict(sorted(found.items()))

    def history(self, repository: str, after: int, last: int) -> Iterator[Record]:
        """Every record above ``after`` up to ``last``, folded or not, in the order of their numbers.

        They are read as they are asked for: a repository may have millions. Raises UnreadableRecord.
        """
        packs = [name for name in self._packs(repository) if self._span(name).last > after]
        others = (name for name in self._listed(repository, after=after) if not self._layout.is_pack(name))
        wanted = takewhile(lambda name: self._span(name).first <= last, merge(packs, others, key=self._span))
        for names in self._batches(wanted):
            once: dict[int, Record] = {}
            for records in map_parallel(self._driver.capabilities, partial(self._records, repository), names):
                once.update({record.sequence: record for record, _ in records if after < record.sequence <= last})
            yield from (once[number] for number in sorted(once))
            after = max(once, default=after)

    def backwards(self, repository: str, before: int | None = None) -> Iterator[Record]:
        """Every record below ``before``, or every record if that is None, folded or not, the last first.

        They are read as they are asked for. Raises UnreadableRecord.
        """
        end = self.last(repository) + 1 if before is None else before
        for names in self._downwards(repository, end):
            once: dict[int, Record] = {}
            for records in map_parallel(self._driver.capabilities, partial(self._records, repository), names):
                once.update({record.sequence: record for record, _ in records if record.sequence < end})
            yield from (once[number] for number in sorted(once, reverse=True))
            end = min(once, default=end)

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
        for name in sorted(self._listed(repository), key=self._last_first):
            highest = max((record.sequence for record, _ in self._records(repository, name)), default=0)
            if highest:
                return highest
        return 0

    def has(self, repository: str, sequence: int) -> bool:
        """Whether storage has the record of this number. Raises UnreadableRecord."""
        found = next(self.backwards(repository, sequence + 1), None)
        return found is not None and found.sequence == sequence

    def has_records(self, repository: str) -> bool:
        """Whether storage has any record of a repository."""
        return next(iter(self._driver.list(self._layout.journal(repository))), None) is not None

    def _listed(self, repository: str, *, after: int = 0) -> Iterator[str]:
        """The names of the objects that can hold records above ``after``: packs last, the rest in their order."""
        prefix = self._layout.journal(repository)
        if self._driver.capabilities.appends:
            names = (child.name for child in self._driver.children(prefix) if not (child.is_prefix or child.is_link))
        else:
            found = self._driver.list(prefix, after=self._layout.record(repository, after))
            names = (key.removeprefix(f"{prefix}/") for key, _ in found)
        return (name for name in names if (span := self._layout.span_of(name)) is not None and span.last > after)

    def _packs(self, repository: str) -> list[str]:
        """The names of the packs, in their order. A pack has every record of its numbers that there was."""
        if self._driver.capabilities.appends:
            return sorted(filter(self._layout.is_pack, self._listed(repository)))
        prefix = self._layout.journal(repository)
        found = self._driver.list(prefix, after=self._layout.before_packs(repository))
        names = (key.removeprefix(f"{prefix}/") for key, _ in found)
        return [name for name in names if self._layout.is_pack(name)]

    def _batches(self, names: Iterable[str]) -> Iterator[list[str]]:
        """Objects that are read side by side: single records, or one of many with all that may have some of its own."""
        several: list[str] = []
        low = high = 0
        for name in names:
            first, last = self._span(name)
            are_single = first == last and high - low < AT_ONCE and len(several) < AT_ONCE
            if several and (first > high or last < low) and not are_single:
                yield several
                several = []
            low, high = (min(low, first), max(high, last)) if several else (first, last)
            several.append(name)
        if several:
            yield several

    def _downwards(self, repository: str, end: int) -> Iterator[list[str]]:
        """The names of the objects that can hold records below ``end``, the last first, as they are read."""
        if self._driver.capabilities.appends:
            names = sorted(self._listed(repository), key=self._last_first)
            yield from self._batches(name for name in names if self._span(name).first < end)
            return
        packs = self._packs(repository)
        while end > 1:
            spans = [span for span in map(self._span, packs) if span.first < end]
            around = [span for span in spans if span.last >= end - 1]
            if around:
                lowest = min(around)
                yield [self._layout.pack(repository, lowest).rpartition("/")[2]]
                end = lowest.first
                continue
            begin = max(0, end - 1 - PAGE, *(span.last for span in spans))
            below = takewhile(lambda name: self._span(name).first < end, self._listed(repository, after=begin))  # noqa: B023 - taken at once
            page = [name for name in below if not self._layout.is_pack(name)]
            yield from (page[max(0, stop - AT_ONCE) : stop] for stop in range(len(page), 0, -AT_ONCE))
            end = begin + 1

    def _span(self, name: str) -> Span:
        span = self._layout.span_of(name)
        if span is None:
            raise UnreadableRecord(name, "it is no object of a journal")
        return span

    def _last_first(self, name: str) -> tuple[int, int]:
        span = self._span(name)
        return -span.last, -span.first

    def _records(self, repository: str, name: str) -> list[tuple[Record, bytes]]:
        """With the line of each. Raises UnreadableRecord."""
        key = f"{self._layout.journal(repository)}/{name}"
        try:
            data, _ = self._driver.read(key, max_bytes=MAX_SEGMENT)
        except PathNotFound:
            return []
        found = []
        may_be_torn = self._driver.capabilities.appends and not self._layout.is_pack(name)
        for line in data.splitlines():
            try:
                found.append((Record.parse(line), line + b"\n"))
            except ValueError as error:
                if not (may_be_torn and _is_torn(line)):
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
    old: Mapping[str, str] = NO_TAGS
    """The digest that each of its tags had before."""


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
    address: str | None = None
    """The address of an actor that is a name."""
    cause: str | None = None
    """See Record."""
    batch: int | None = None
    lacked: tuple[Digest, ...] | None = None
    purged: bool = False
    root: Digest | None = None

    @classmethod
    def put(
        cls,
        digest: Digest,
        media_type: str,
        size: int,
        tags: Sequence[str],
        *,
        actor: str,
        address: str | None = None,
    ) -> Change:
        """A manifest is put, with tags or without."""
        return cls("put", digest, Descriptor(media_type, digest, size), tuple(tags), actor, address=address)

    def allot(self, connection: Transaction, repository: RepositoryRow, now: float) -> PendingChange:
        """Allot the number and keep the change as pending, in the caller's transaction. Raises LookupError."""
        row = repositories.next_sequence(connection, repository.id).get()
        if row is None:
            raise LookupError(repository.id)
        return self.keep(connection, row, now)

    def keep(
        self,
        connection: Transaction,
        row: RepositoryRow,
        now: float,
        *,
        old: dict[str, str] | None = None,
        withheld: Withheld | None = None,
        released: Withheld | None = None,
    ) -> PendingChange:
        """Keep the change as pending under the number that ``row`` was allotted in the same transaction.

        ``old``, ``withheld`` and ``released`` are those of the change, unless given.
        """
        old = self.old if old is None else old
        record = Record(
            sequence=row.sequence,
            time=to_text(now),
            actor=self.actor,
            operation=self.operation,
            digest=self.digest,
            descriptor=self.descriptor,
            tags=self.tags,
            old=old,
            withheld=self.withheld if withheld is None else withheld,
            released=self.released if released is None else released,
            pushed=self.pushed,
            tagged=self.tagged,
            address=self.address,
            cause=self.cause,
            batch=self.batch,
            lacked=self.lacked,
            purged=self.purged,
            root=self.root,
        )
        line = record.to_line()
        changes.add(connection, row.id, row.sequence, line, state=changes.PENDING, now=now)
        return PendingChange(row, line, old)

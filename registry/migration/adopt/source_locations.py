"""Source locations: the objects with the bytes of blobs go into the journal first, then into the database.

Tests: ``tests/migration/adopt/test_adopt.py``.
"""

from __future__ import annotations

from functools import partial
from itertools import chain, groupby, islice
from typing import TYPE_CHECKING

from registry.database import migration_queries
from registry.images.migration_journal.documents import MAX_LOCATIONS, ShardEntry, SourceLocation
from registry.migration.progress import Progress
from registry.migration.report import Problem, ProblemKind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from registry.migration.context import Context
    from registry.oci.digest import Digest

_LINES = 2000
"""Lines of a shard that one transaction puts into the database."""


class Shards:
    """Notes the locations that an inventory has, and keeps what earlier passes found out about them."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._inventory = context.inventory
        self._journal = context.journal

    def note(self) -> list[Problem]:
        """Note all; noting them twice is the same as once. Returns the blobs that Stowage has with another size."""
        names = sorted({*self._inventory.location_shards(), *self._journal.shard_names()})
        problems: list[Problem] = []
        for done, lines in enumerate(self._context.workers.each(partial(self._write), names), 1):
            waiting = iter(lines)
            while batch := list(islice(waiting, _LINES)):
                problems += self._put(batch)
            self._context.on_progress(Progress("blobs", done, len(names)))
        return problems

    def _write(self, shard: str) -> list[ShardEntry]:
        """Write one shard; returns its lines."""
        before = {line.digest: line for line in self._journal.shard(shard)}
        lines = [_merge(line, before.pop(line.digest, None)) for line in self._found(shard)]
        lines += self._left(before)
        lines.sort()
        self._journal.write_shard(shard, lines)
        return lines

    def _found(self, shard: str) -> Iterator[ShardEntry]:
        for digest, objects in groupby(self._inventory.locations(shard), key=lambda found: found.digest):
            first = next(objects)
            locations = (
                SourceLocation(found.key, found.etag, verified=found.is_hashed)
                for found in chain((first,), objects)
                if found.size == first.size
            )
            yield ShardEntry(digest, first.size, tuple(islice(locations, MAX_LOCATIONS)))

    def _left(self, before: dict[Digest, ShardEntry]) -> Iterator[ShardEntry]:
        """The lines of blobs that no manifest names any more, as long as an object or a copy of them is there."""
        for line in before.values():
            locations = tuple(
                location for location in line.locations if self._inventory.etag(location.key) == location.etag
            )
            if locations or line.copy is not None:
                yield line._replace(locations=locations)

    def _put(self, lines: list[ShardEntry]) -> list[Problem]:
        backends = self._context.registry.backends
        found = [
            migration_queries.SourceObject(line.digest, line.size, location.key, location.etag, location.verified)
            for line in lines
            for location in line.locations
        ]
        with backends.database.transaction() as connection:
            refused = migration_queries.put(
                connection, self._journal.id, found, store=backends.driver.name, now=backends.clock()
            )
        detail = "Stowage has a blob of this digest with another size"
        return [Problem(ProblemKind.SIZE_CONFLICT, "", "", digest, detail) for digest in refused]


def _merge(line: ShardEntry, before: ShardEntry | None) -> ShardEntry:
    """A line as the listing has it, with what earlier passes have hashed and copied."""
    if before is None or before.size != line.size:
        return line
    hashed = {(location.key, location.etag) for location in before.locations if location.verified}
    locations = tuple(
        location._replace(verified=location.verified or (location.key, location.etag) in hashed)
        for location in line.locations
    )
    return line._replace(locations=locations, copy=before.copy)

"""Where the blobs of the original are: into the journal first, then into the database."""

from __future__ import annotations

from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

from registry.database import migration_queries
from registry.images.migration_journal.documents import PLACES, ShardEntry, SourceLocation
from registry.migration.progress import Progress
from registry.migration.report import Problem, ProblemKind
from registry.oci.digest import Digest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from registry.migration.context import Context

_LINES = 2000
"""That are put into the database by one transaction."""
_BEGINNINGS = "SELECT DISTINCT replace(substr(digest, 1, instr(digest, ':') + 2), ':', '-') FROM place"
_FOUND = (
    "SELECT l.digest, l.size, l.key, o.signature, coalesce(h.signature = o.signature, 0) FROM place l"
    " JOIN object o ON o.key = l.key LEFT JOIN hashed h ON h.key = l.key"
    " WHERE l.digest >= ? AND l.digest < ? ORDER BY l.digest, l.key"
)


class Shards:
    """Notes the places that an inventory has, and keeps what was found out of them before."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._inventory = context.inventory
        self._journal = context.journal

    def note(self) -> list[Problem]:
        """All of them. Noting them twice is the same as once. Returns what Stowage knows otherwise."""
        names = sorted({*(name for (name,) in self._inventory.rows(_BEGINNINGS)), *self._journal.shard_names()})
        problems: list[Problem] = []
        for done, lines in enumerate(self._context.workers.each(partial(self._write), names), 1):
            waiting = iter(lines)
            while batch := list(islice(waiting, _LINES)):
                problems += self._put(batch)
            self._context.on_progress(Progress("blobs", done, len(names)))
        return problems

    def _write(self, shard: str) -> list[ShardEntry]:
        """The lines of one shard, once it has them."""
        before = {line.digest: line for line in self._journal.shard(shard)}
        lines = [_merge(line, before.pop(line.digest, None)) for line in self._found(shard)]
        lines += self._left(before)
        lines.sort()
        self._journal.write_shard(shard, lines)
        return lines

    def _found(self, shard: str) -> Iterator[ShardEntry]:
        algorithm, _, begin = shard.partition("-")
        low, high = f"{algorithm}:{begin}", f"{algorithm}:{begin}g"
        digest, size = "", 0
        places: list[SourceLocation] = []
        for name, length, key, signature, is_hashed in self._inventory.each(_FOUND, low, high):
            if name != digest:
                if places:
                    yield ShardEntry(Digest(digest), size, tuple(places))
                digest, size, places = name, length, []
            if length == size and len(places) < PLACES:
                places.append(SourceLocation(key, signature, verified=bool(is_hashed)))
        if places:
            yield ShardEntry(Digest(digest), size, tuple(places))

    def _left(self, before: dict[Digest, ShardEntry]) -> Iterator[ShardEntry]:
        """Lines of blobs that no manifest of the original names any more: as long as there is something of them."""
        for line in before.values():
            places = tuple(
                place
                for place in line.places
                if self._inventory.value("SELECT signature FROM object WHERE key = ?", place.key) == place.signature
            )
            if places or line.copy is not None:
                yield line._replace(places=places)

    def _put(self, lines: list[ShardEntry]) -> list[Problem]:
        backends = self._context.registry.backends
        found = [
            migration_queries.Original(line.digest, line.size, place.key, place.signature, place.verified)
            for line in lines
            for place in line.places
        ]
        with backends.database.transaction() as connection:
            refused = migration_queries.put(
                connection, self._journal.id, found, store=backends.driver.name, now=backends.clock()
            )
        detail = "Stowage has a blob of this digest with another size"
        return [Problem(ProblemKind.SIZE_CONFLICT, "", "", digest, detail) for digest in refused]


def _merge(line: ShardEntry, before: ShardEntry | None) -> ShardEntry:
    """A line as the listing has it, with what was hashed and copied before."""
    if before is None or before.size != line.size:
        return line
    hashed = {(place.key, place.signature) for place in before.places if place.verified}
    places = tuple(
        place._replace(verified=place.verified or (place.key, place.signature) in hashed) for place in line.places
    )
    return line._replace(places=places, copy=before.copy)

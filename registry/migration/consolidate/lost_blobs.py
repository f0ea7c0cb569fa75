"""Lost blobs: those without a location that has their bytes, by the database, so that a kill forgets none.

Tests: ``tests/migration/consolidate/test_consolidate.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry.database import blobs, migration_queries
from registry.database.blob_locations import LOST, READABLE
from registry.migration.report import Problem, ProblemKind
from registry.migration.source.listing import bounds
from registry.oci.digest import Digest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from registry.database.blob_locations import LocationRow
    from registry.images.registry import Registry


def placed(registry: Registry, shard: str) -> dict[str, list[LocationRow]]:
    """Every location of the blobs of a shard, by digest; those of a blob by key. Raises DatabaseError."""
    low, high = bounds(shard)
    with registry.backends.database.snapshot() as connection:
        rows = migration_queries.placed(connection, store=registry.backends.driver.name, low=low, high=high).get()
    found: dict[str, list[LocationRow]] = {}
    for blob, location in rows:  # rows of one blob differ in what is left of its lease
        found.setdefault(blob.digest, []).append(location)
    return found


def unreadable(registry: Registry, found: Mapping[str, Sequence[LocationRow]]) -> list[Problem]:
    """A problem for each blob that a repository needs and whose locations in ``found`` are all lost.

    Blobs that the source registry has deleted and collected since they were adopted are not needed.
    """
    problems = (_problem(registry, digest, rows) for digest, rows in found.items())
    return [problem for problem in problems if problem is not None]


def _problem(registry: Registry, digest: str, rows: Sequence[LocationRow]) -> Problem | None:
    lost = [row.key for row in rows if row.state == LOST]
    if not lost or any(row.state in READABLE for row in rows):
        return None
    with registry.backends.database.snapshot() as connection:
        blob = blobs.find(connection, digest).get()
        name = migration_queries.needing(connection, blob.id, digest).get() if blob is not None else None
    if blob is None or name is None:
        return None
    is_gone = blob.state == blobs.MISSING
    kind = ProblemKind.MISSING_BLOB if is_gone else ProblemKind.WRONG_DIGEST
    detail = "it was there, and has gone" if is_gone else "no object has the bytes of this digest"
    return Problem(kind, name, min(lost), Digest(digest), detail)

"""Lost blobs: those without a location that has their bytes, by the database, so that a kill forgets none.

Tests: ``tests/migration/consolidate/test_consolidate.py``.
"""

from __future__ import annotations

from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING

from registry.database import blobs, migration_queries
from registry.database.blob_locations import LOST, READABLE
from registry.migration.report import Problem, ProblemKind
from registry.migration.source.listing import bounds
from registry.oci.digest import Digest

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from registry.database.blob_locations import LocationRow
    from registry.database.blobs import BlobRow
    from registry.images.registry import Registry


def placed(registry: Registry, shard: str) -> list[tuple[BlobRow, LocationRow]]:
    """Every location of the blobs of a shard, by digest and key. Raises DatabaseError."""
    low, high = bounds(shard)
    with registry.backends.database.snapshot() as connection:
        return migration_queries.placed(connection, store=registry.backends.driver.name, low=low, high=high).get()


def unreadable(registry: Registry, rows: Iterable[tuple[BlobRow, LocationRow]]) -> list[Problem]:
    """A problem for each blob that a repository needs and whose locations in ``rows`` are all lost.

    Blobs that the source registry has deleted and collected since they were adopted are not needed.
    """
    found = (_problem(registry, blob.digest, [at for _, at in own]) for blob, own in groupby(rows, key=itemgetter(0)))
    return [problem for problem in found if problem is not None]


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

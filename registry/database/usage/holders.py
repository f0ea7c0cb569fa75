"""Rows for usage: every blob of the database, page by page, and what a range of repositories has of it.

A range is that of the names from ``low`` on and below ``high``, byte for byte.

Tests: ``tests/database/usage/test_queries.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from registry.database.statement import Statement
from registry.database.usage import blobs
from registry.database.usage.blobs import OBJECTS, BlobUse, there_is, use_of

if TYPE_CHECKING:
    from registry.database.transaction import Later, Transaction


class Range(NamedTuple):
    """Repositories by their names."""

    low: str
    high: str
    """Greater than the name of each."""


class LocationUse(NamedTuple):
    """An object of a blob."""

    blob_id: int
    id: int
    key: str
    size: int
    etag: str


_IN = "h.name >= :low AND h.name < :high"
_OUT = "(h.name < :low OR h.name >= :high)"


def _whose(table: str, where: str) -> str:
    """Whether the repository of a row is one of these; looked up by its id, and never the other way round."""
    return there_is(f"FROM repository h WHERE h.id = {table}.repository_id AND {where}")


def _holder(where: str, more: str = "") -> str:
    return there_is(f"FROM membership o WHERE o.blob_id = b.id AND {_whose('o', where)}{more}")


def _in_trash(where: str) -> str:
    named = there_is(f"FROM trash_reference x WHERE x.digest = b.digest AND {_whose('x', where)}")
    itself = there_is(f"FROM trash_manifest t WHERE t.blob_id = b.id AND {_whose('t', where)}")
    return f"({named} OR {itself})"


_IS_REFERENCED = there_is("FROM reference r WHERE r.repository_id = o.repository_id AND r.digest = b.digest")
_IS_MANIFEST = there_is("FROM manifest n WHERE n.repository_id = o.repository_id AND n.blob_id = b.id")
_IS_DOOMED = there_is(f"FROM doomed d WHERE d.blob_id = b.id AND (d.repository_id = 0 OR {_whose('d', _IN)})")
_PAGE = Statement(
    f"SELECT b.id, b.digest, {OBJECTS}, {_holder(_IN)}, {_holder(_IN, f' AND ({_IS_REFERENCED} OR {_IS_MANIFEST})')},"  # noqa: S608 - constants
    f" {_IS_DOOMED}, {_in_trash(_IN)}, {_holder(_OUT)}, {_in_trash(_OUT)}"
    " FROM blob b WHERE b.id > :after ORDER BY b.id LIMIT :count"
)
_LOCATIONS = Statement(
    # The store as an expression: a planner that knows nothing of the tables would read all that is in the store.
    "SELECT l.blob_id, l.id, l.key, l.size, l.signature FROM blob_location l"
    " WHERE l.blob_id >= :blob AND l.blob_id <= :last AND (l.blob_id > :blob OR l.id > :id)"
    " AND l.store || '' = :store AND l.state <> 'lost' ORDER BY l.blob_id, l.id LIMIT :count"
)
_TRASH = Statement(
    "SELECT h.id, h.name FROM repository h WHERE h.id > :after AND h.id IN"  # noqa: S608 - constants
    " (SELECT x.repository_id FROM trash_reference x WHERE x.digest = :digest"
    " UNION SELECT t.repository_id FROM trash_manifest t WHERE t.blob_id = :blob)"
    f" AND {_IN} ORDER BY h.id LIMIT :count"
)


def page(connection: Transaction, within: Range, *, store: str, after: int) -> Later[list[BlobUse]]:
    """A page of all blobs with ids above ``after``, by id: what the repositories of the range have of each, together.

    One that no repository has and no trash needs is doomed if a run of the collection has found it so.
    """
    values = {**within._asdict(), "store": store, "after": after, "count": blobs.PAGE}
    return connection.execute(_PAGE, values).all_as(use_of)


def locations(connection: Transaction, *, store: str, after: tuple[int, int], last: int) -> Later[list[LocationUse]]:
    """A page of the objects of blobs up to the id ``last``, whose blob and id come after ``after``, in that order."""
    values = {"store": store, "blob": after[0], "id": after[1], "last": last, "count": blobs.PAGE}
    return connection.execute(_LOCATIONS, values).all_as(LocationUse)


def trash(connection: Transaction, within: Range, use: BlobUse, *, after: int) -> Later[list[tuple[int, str]]]:
    """A page of the repositories of the range whose trash needs a blob: ids above ``after``, and their names."""
    values = {**within._asdict(), "digest": use.digest, "blob": use.id, "after": after, "count": blobs.PAGE}
    return connection.execute(_TRASH, values).later(lambda rows: [(row[0], row[1]) for row in rows.all()])

"""Rows for usage: locations that are read no more, and whose wrong bytes may still take room.

Tests: ``tests/maintenance/usage/test_quarantine_usage.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry.database.statement import Statement
from registry.database.usage import blobs
from registry.database.usage.blobs import there_is

if TYPE_CHECKING:
    from collections.abc import Sequence

    from registry.database.transaction import Later, Row, Transaction
    from registry.database.usage.holders import Range

_LOST = "l.state = 'lost' AND l.migration IS NULL AND l.store || '' = :store"
_OF_REPOSITORY = Statement(
    "SELECT m.blob_id, l.key FROM (SELECT blob_id FROM membership WHERE repository_id = :repository"  # noqa: S608 - constant
    " AND blob_id > :after ORDER BY blob_id LIMIT :count) m"
    f" LEFT JOIN blob_location l ON l.blob_id = m.blob_id AND {_LOST} ORDER BY m.blob_id"
)
_LAST = Statement("SELECT COALESCE(MAX(id), 0) FROM blob_location")
_IS_HELD = there_is(
    "FROM membership o WHERE o.blob_id = l.blob_id AND "
    + there_is("FROM repository h WHERE h.id = o.repository_id AND h.name >= :low AND h.name < :high")
)
_ALL = Statement(
    f"SELECT l.key FROM blob_location l WHERE l.id > :after AND l.id <= :until AND {_LOST} ORDER BY l.id"  # noqa: S608
)
_WITHIN = Statement(
    f"SELECT l.key FROM blob_location l WHERE l.id > :after AND l.id <= :until AND {_LOST} AND {_IS_HELD}"  # noqa: S608
    " ORDER BY l.id"
)


def of_repository(
    connection: Transaction, repository_id: int, *, store: str, after: int
) -> Later[tuple[list[str], int | None]]:
    """The keys of the next members of a repository, and the id of the last of these; None after the last page."""
    values = {"repository": repository_id, "store": store, "after": after, "count": blobs.PAGE}
    return connection.execute(_OF_REPOSITORY, values).later(lambda rows: _page(rows.all()))


def last(connection: Transaction) -> Later[int]:
    """The greatest id of a location, 0 without any."""
    return connection.execute(_LAST, {}).one_as(int)


def within(connection: Transaction, wanted: Range | None, *, store: str, after: int, until: int) -> Later[list[str]]:
    """The keys of ids in that span, of blobs that a repository of the range has; of all blobs without a range."""
    values = {"store": store, "after": after, "until": until}
    if wanted is None:
        return connection.execute(_ALL, values).all_as(str)
    return connection.execute(_WITHIN, {**values, **wanted._asdict()}).all_as(str)


def _page(rows: Sequence[Row]) -> tuple[list[str], int | None]:
    return [key for _, key in rows if key is not None], rows[-1][0] if rows else None

"""Rows of files whose repository does not have their blob any more: their deletion was not begun, or not finished.

Tests: ``tests/maintenance/collection/steps/test_left_files.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from registry.database.statement import Statement

if TYPE_CHECKING:
    from registry.database.transaction import Transaction


class LeftRow(NamedTuple):
    """A file at the key of a blob of a repository that does not have it."""

    blob_id: int
    digest: str
    key: str


_END = Statement("SELECT id FROM blob_location WHERE id > :after ORDER BY id LIMIT 1 OFFSET :count")
_LEFT = (
    "SELECT l.blob_id, b.digest, l.key FROM blob_location l JOIN blob b ON b.id = l.blob_id"
    " WHERE l.id > :after{until} AND l.store = :store AND l.state IN ('current', 'lost') AND l.migration IS NULL"
    " AND NOT EXISTS (SELECT 1 FROM membership m JOIN repository r ON r.id = m.repository_id"
    " WHERE m.blob_id = l.blob_id AND substr(l.key, 1, length(r.name) + 7) = r.name || '/blobs/') ORDER BY l.id"
)
_PAGE = Statement(_LEFT.format(until=" AND l.id <= :last"))
_REST = Statement(_LEFT.format(until=""))


def page(connection: Transaction, store: str, *, after: int, count: int) -> tuple[list[LeftRow], int | None]:
    """Such files among the next ``count`` locations after that one, and the one to go on after; None at the end."""
    last = connection.execute(_END, {"after": after, "count": count - 1}).first()
    values = {"store": store, "after": after}
    if last is None:
        return connection.execute(_REST, values).all_as(LeftRow).get(), None
    return connection.execute(_PAGE, {**values, "last": last[0]}).all_as(LeftRow).get(), last[0]

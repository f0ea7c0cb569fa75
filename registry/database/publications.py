"""*Publications*: what the publication of a blob depends on, read in one statement where there would be several.

Tests: ``tests/database/test_queries.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeVar

from registry.database import blob_locations, blobs, repositories, upload_sessions
from registry.database.blob_locations import LocationRow
from registry.database.blobs import BlobRow
from registry.database.repositories import RepositoryRow
from registry.database.statement import Statement
from registry.database.upload_sessions import SessionRow
from registry.database.withheld import BLOB, WithheldRow

if TYPE_CHECKING:
    from collections.abc import Callable

    from registry.database.transaction import Later, Row, Rows, Transaction

T = TypeVar("T")


class Closing(NamedTuple):
    """What is known of a session, its repository, and the blob that it is closed with; None for what there is not."""

    session: SessionRow | None
    repository: RepositoryRow | None
    is_known: bool
    """There is a row of the blob."""


class Joining(NamedTuple):
    """What is known of a repository and of a blob that is to be a member of it; None for what there is not."""

    has_repository: bool
    blob: BlobRow | None
    location: LocationRow | None
    withheld: WithheldRow | None
    """The row that withholds the blob from the repository."""


_CLOSING = Statement(
    f"SELECT {upload_sessions.COLUMNS}, {repositories.COLUMNS}, b.id"  # noqa: S608 - constant columns
    " FROM (SELECT 1 AS one) o LEFT JOIN upload_session s ON s.id = :session"
    " LEFT JOIN repository r ON r.name = :name LEFT JOIN blob b ON b.digest = :digest"
)
_MEETING = Statement(
    "SELECT r.id, b.id, w.digest FROM (SELECT 1 AS one) o LEFT JOIN repository r ON r.id = :repository"  # noqa: S608
    " LEFT JOIN blob b ON b.digest = :digest"
    f" LEFT JOIN withheld w ON w.repository_id = r.id AND w.digest = :digest AND w.kind = '{BLOB}'"
)
"""Most blobs are new, and each column costs Python's module for SQLite as much as some steps of SQLite."""
_JOINING = Statement(
    f"SELECT {blobs.COLUMNS}, {blob_locations.COLUMNS}, w.digest, w.kind, w.released"  # noqa: S608 - constant columns
    " FROM (SELECT 1 AS one) o LEFT JOIN blob b ON b.digest = :digest"
    " LEFT JOIN blob_location l ON l.store = :store AND l.key = :key"
    f" LEFT JOIN withheld w ON w.repository_id = :repository AND w.digest = :digest AND w.kind = '{BLOB}'"
)
_S, _B, _L = (len(kind._fields) for kind in (SessionRow, BlobRow, LocationRow))
_S -= len(SessionRow._field_defaults)  # which no column says


def closing(connection: Transaction, session_id: str, repository: str, digest: str) -> Later[Closing]:
    """Rows as of one moment: the session, the repository of this name, and whether the blob is known."""
    values = {"session": session_id, "name": repository, "digest": str(digest)}
    return connection.execute(_CLOSING, values).later(_closing)


def joining(connection: Transaction, repository_id: int, digest: str, *, store: str, key: str) -> Joining:
    """The repository, the blob, what is noted of ``key``, and the row that withholds the blob.

    Locks nothing: for a transaction that is the only one that writes.
    """
    values = {"repository": repository_id, "digest": str(digest), "store": store, "key": key}
    known, blob_id, naming = connection.execute(_MEETING, values).one()
    if blob_id is None and naming is None:
        return Joining(known is not None, None, None, None)
    row = connection.execute(_JOINING, values).one()
    # A location is told of a blob that is known alone, as by ``blob_locations.blob_at``.
    blob = _made(BlobRow, row[:_B])
    location = None if blob is None else _made(LocationRow, row[_B : _B + _L])
    withheld = None if known is None else _made(WithheldRow, row[_B + _L :])
    return Joining(known is not None, blob, location, withheld)


def _closing(rows: Rows) -> Closing:
    row = rows.one()
    return Closing(_made(SessionRow, row[:_S]), _made(RepositoryRow, row[_S:-1]), row[-1] is not None)


def _made(kind: Callable[..., T], columns: Row) -> T | None:
    return None if columns[0] is None else kind(*columns)

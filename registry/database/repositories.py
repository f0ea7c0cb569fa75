"""Rows of repositories: their versions, change numbers and what is known of their index.

Tests: ``tests/database/test_queries.py``.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, NamedTuple

from registry.database import manifest_bodies
from registry.database.statement import Statement

if TYPE_CHECKING:
    from registry.database.transaction import Later, Transaction


UNREAD = -1
"""The sequence of a repository that is on storage, and whose content was not read there yet."""


class RepositoryRow(NamedTuple):
    """A repository as the database knows it."""

    id: int
    name: str
    version: int
    """Raised by each change that a read could see."""
    sequence: int
    """The last change number allotted (I11)."""
    folded_sequence: int
    """The last change that ``index.json`` holds."""
    etag: str
    """The etag of ``index.json`` as this registry last wrote or read it."""
    compared_at: float
    """When a process last compared it with storage, where that costs a request (seconds since the epoch)."""
    missing_manifests: int
    """Manifests that storage named and did not have when it was read; a tool may still be writing them."""

    @property
    def is_unread(self) -> bool:
        """Nothing may be told or written from this row before storage has been read."""
        return self.sequence == UNREAD

    @property
    def is_bare(self) -> bool:
        """Nothing was ever recorded of it, nor written that is known: a collection may remove the row."""
        return self.sequence == 0 and not self.etag


COLUMNS = "r.id, r.name, r.version, r.sequence, r.folded, r.signature, r.looked_at, r.missing"
_RETURNED = COLUMNS.replace("r.", "")
_FIND = Statement(f"SELECT {COLUMNS} FROM repository r WHERE r.name = :name")  # noqa: S608 - constant columns
_GET = Statement(f"SELECT {COLUMNS} FROM repository r WHERE r.id = :id")  # noqa: S608 - constant columns
_CREATED_AT = Statement("SELECT created_at FROM repository WHERE id = :id")
_LOCK = Statement(f"SELECT {COLUMNS} FROM repository r WHERE r.id = :id", locking="r")  # noqa: S608 - constant columns
_LOCK_SHARED = Statement(f"SELECT {COLUMNS} FROM repository r WHERE r.id = :id", holding="r")  # noqa: S608 - constant columns
_LOCK_ALONE = Statement(f"SELECT {COLUMNS} FROM repository r WHERE r.id = :id", excluding="r")  # noqa: S608 - constant columns
_CREATE = Statement(
    "INSERT INTO repository (id, name, version, sequence, folded, signature, created_at, looked_at)"
    " VALUES (:id, :name, :version, :sequence, 0, :etag, :now, :now) ON CONFLICT (name) DO NOTHING"
)
_NEXT_SEQUENCE = Statement(
    f"UPDATE repository SET sequence = sequence + 1, version = version + 1 WHERE id = :id RETURNING {_RETURNED}"  # noqa: S608
)
_RAISE_VERSION = Statement("UPDATE repository SET version = version + 1 WHERE id = :id")
_HOLDERS_OF = (
    "SELECT r.id FROM repository r JOIN membership m ON m.repository_id = r.id"
    " JOIN blob b ON b.id = m.blob_id WHERE b.digest = :digest"
)
_LOCK_HOLDERS = Statement(f"{_HOLDERS_OF} ORDER BY r.id", locking="r")
_RAISE_VERSIONS = Statement(f"UPDATE repository SET version = version + 1 WHERE id IN ({_HOLDERS_OF})")  # noqa: S608
_SET_FOLDED = Statement(
    "UPDATE repository SET folded = :folded, signature = :etag WHERE id = :id AND folded <= :folded"
)
_SET_RECONCILED = Statement(
    "UPDATE repository SET sequence = :sequence, folded = :folded, signature = :etag, missing = :missing,"
    " version = version + 1 WHERE id = :id"
)
_SET_COMPARED = Statement("UPDATE repository SET looked_at = :now WHERE id = :id AND looked_at < :now")
_SET_ETAG = Statement("UPDATE repository SET signature = :etag WHERE id = :id")
_REPLACE_ETAG = Statement("UPDATE repository SET signature = :new WHERE name = :name AND signature = :old")
_SET_UPLOADED = Statement("UPDATE repository SET uploaded_at = :now WHERE id = :id AND uploaded_at < :now")
_PAGE = Statement("SELECT name FROM repository WHERE name > :last ORDER BY name LIMIT :count")
_LISTED = Statement(
    "SELECT name FROM (SELECT name FROM repository WHERE hidden = 0 AND name > :last ORDER BY name LIMIT :count) shown"
    " UNION SELECT name FROM"
    " (SELECT (SELECT r.name FROM repository r WHERE r.id = l.repository_id AND r.hidden = 1) AS name"
    " FROM listed_again l) again WHERE name > :last ORDER BY name LIMIT :count"
)
"""No join, for which a planner may read all repositories that are hidden."""
_NAMES = Statement("SELECT name FROM repository ORDER BY name")
_REMOVE = Statement("DELETE FROM repository WHERE id = :id")
_REMOVE_REFERENCES = Statement("DELETE FROM reference WHERE repository_id = :id")
_REMOVE_TRASH = Statement("DELETE FROM trash_reference WHERE repository_id = :id")
_REMOVE_DOOMED = Statement("DELETE FROM doomed WHERE repository_id = :id")
_UNFOLDED = Statement(
    "SELECT DISTINCT r.name FROM repository r JOIN change c ON c.repository_id = r.id WHERE c.created_at < :before"
)


def find(connection: Transaction, name: str) -> Later[RepositoryRow | None]:
    """The repository called ``name``, or None."""
    return connection.execute(_FIND, {"name": name}).first_as(RepositoryRow)


def created_at(connection: Transaction, repository_id: int) -> Later[float | None]:
    """When the row was made, in seconds since the epoch: what only rows say of the repository is younger. Or None."""
    return connection.execute(_CREATED_AT, {"id": repository_id}).first_as(float)


def get(connection: Transaction, repository_id: int) -> Later[RepositoryRow | None]:
    """The repository with this id, or None."""
    return connection.execute(_GET, {"id": repository_id}).first_as(RepositoryRow)


def lock(connection: Transaction, repository_id: int) -> Later[RepositoryRow | None]:
    """As ``get``, and until this transaction ends no other changes the repository, from before the next statement on.

    A transaction that decides by its rows locks first; and it is locked before blobs, so that two never wait for each
    other.
    """
    return connection.execute(_LOCK, {"id": repository_id}).first_as(RepositoryRow)


def lock_shared(connection: Transaction, repository_id: int) -> Later[RepositoryRow | None]:
    """As ``lock``, but other transactions may change the repository; none removes it."""
    return connection.execute(_LOCK_SHARED, {"id": repository_id}).first_as(RepositoryRow)


def lock_alone(connection: Transaction, repository_id: int) -> Later[RepositoryRow | None]:
    """As ``lock``, and a transaction with ``lock_shared`` ends before this one goes on, or begins after it.

    For what is decided by blobs that the repository lacks: transactions that bring them only have ``lock_shared``.
    """
    return connection.execute(_LOCK_ALONE, {"id": repository_id}).first_as(RepositoryRow)


def create(connection: Transaction, name: str, *, etag: str, now: float, sequence: int = 0) -> RepositoryRow:
    """The repository called ``name``, made when it is absent.

    The caller has looked for it on storage. Its version begins with the time and its id is random, so that a repository
    that was removed and made again, perhaps in another database, is never taken for the former one, nor for another.
    """
    own = {"id": secrets.randbits(62), "version": int(now * 1_000_000), "sequence": sequence}
    connection.execute(_CREATE, {**own, "name": name, "etag": etag, "now": now})
    row = find(connection, name).get()
    assert row is not None  # noqa: S101 - this transaction has just made sure of it
    return row


def next_sequence(connection: Transaction, repository_id: int) -> Later[RepositoryRow | None]:
    """Allot the next change number and raise the version; the row holds both (I11). None if there is no repository."""
    return connection.execute(_NEXT_SEQUENCE, {"id": repository_id}).first_as(RepositoryRow)


def raise_version(connection: Transaction, repository_id: int) -> None:
    """Tell every process that what it remembers of this repository is old."""
    connection.execute(_RAISE_VERSION, {"id": repository_id})


def raise_versions_of_holders(connection: Transaction, digest: str) -> None:
    """As ``raise_version``, for every repository that has this blob. Locks them in one order, before the blob."""
    connection.execute(_LOCK_HOLDERS, {"digest": digest})
    connection.execute(_RAISE_VERSIONS, {"digest": digest})


def set_folded(connection: Transaction, repository_id: int, *, folded: int, etag: str) -> None:
    """Note what ``index.json`` holds now, unless a later fold was noted already."""
    connection.execute(_SET_FOLDED, {"id": repository_id, "folded": folded, "etag": etag})


def set_reconciled(
    connection: Transaction, repository_id: int, *, sequence: int, folded: int, etag: str, missing: int
) -> None:
    """Note what a reconciliation found, and raise the version."""
    values = {"sequence": sequence, "folded": folded, "etag": etag, "missing": missing}
    connection.execute(_SET_RECONCILED, {"id": repository_id, **values})


def set_compared(connection: Transaction, repository_id: int, *, now: float) -> None:
    """Note that the repository was compared with storage."""
    connection.execute(_SET_COMPARED, {"id": repository_id, "now": now})


def set_uploaded(connection: Transaction, repository_id: int, *, now: float) -> None:
    """Note that an upload that took long ends; see ``upload_sessions.any_live``."""
    connection.execute(_SET_UPLOADED, {"id": repository_id, "now": now})


def page(connection: Transaction, *, last: str, count: int) -> Later[list[str]]:
    """At most ``count`` names after ``last``, in byte order."""
    return connection.execute(_PAGE, {"last": last, "count": count}).all_as(str)


def listed(connection: Transaction, *, last: str, count: int) -> Later[list[str]]:
    """As ``page``, without the repositories that a collection has found empty, and that are so."""
    return connection.execute(_LISTED, {"last": last, "count": count}).all_as(str)


def names(connection: Transaction) -> Later[list[str]]:
    """All names, in byte order."""
    return connection.execute(_NAMES, {}).all_as(str)


def remove(connection: Transaction, repository_id: int) -> None:
    """Forget a repository and everything in it."""
    connection.execute(_REMOVE_REFERENCES, {"id": repository_id})
    connection.execute(_REMOVE_TRASH, {"id": repository_id})
    connection.execute(_REMOVE_DOOMED, {"id": repository_id})
    manifest_bodies.remove_of_repository(connection, repository_id)
    connection.execute(_REMOVE, {"id": repository_id})


def unfolded(connection: Transaction, *, before: float) -> Later[list[str]]:
    """Names of the repositories with changes older than ``before`` that are not folded."""
    return connection.execute(_UNFOLDED, {"before": before}).all_as(str)


def set_etag(connection: Transaction, repository_id: int, etag: str) -> None:
    """Note that the index with this etag holds nothing that is not known."""
    connection.execute(_SET_ETAG, {"id": repository_id, "etag": etag})


def replace_etag(connection: Transaction, name: str, old: str, new: str) -> None:
    """Note that the index with the etag ``new`` says of content what ``old`` said, if that is what is noted."""
    connection.execute(_REPLACE_ETAG, {"name": name, "old": old, "new": new})

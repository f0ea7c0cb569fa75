"""Rows for usage: the blobs of one repository, page by page, with all that decides on whose account their bytes are.

Nothing is locked, and each page is a look of its own, so that no reader keeps SQLite's log from being begun anew.

Tests: ``tests/database/usage/test_queries.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from registry.database.statement import Statement, batches
from registry.database.transaction import Later

if TYPE_CHECKING:
    from collections.abc import Iterable

    from registry.database.transaction import Transaction

PAGE = 500
"""Rows of a page."""


class BlobUse(NamedTuple):
    """A blob on account of one repository: a member, or what its trash needs."""

    id: int
    digest: str
    bytes: int
    """Bytes of all its objects, where repositories share these."""
    removable: int
    """Bytes of those that a migration has not brought: nothing else removes the rest."""
    is_member: bool
    is_named: bool
    """A manifest of the repository names it, or it is one."""
    is_doomed: bool
    in_trash: bool
    """The trash of the repository needs it."""
    elsewhere: bool
    """Another repository has it."""
    in_trash_elsewhere: bool
    """The trash of another repository needs it."""


class UsesById(Protocol):
    """Reads a page of blobs by id: ``members``, ``trashed_manifests``."""

    def __call__(self, connection: Transaction, repository_id: int, *, store: str, after: int) -> Later[list[BlobUse]]:
        """Blobs with ids above ``after``, by id; PAGE of them unless it is the last page."""
        ...


class ManifestPage(NamedTuple):
    """Manifests of a repository, with ids above that of the page before."""

    last: int | None
    """The largest id; None if there are no more."""
    bytes: int
    """Bytes of the manifests themselves."""


_OBJECTS = (
    "(SELECT CAST(COALESCE(SUM({size}), 0) AS BIGINT) FROM blob_location l"
    " WHERE l.blob_id = b.id AND l.store || '' = :store AND l.state <> 'lost')"
)
OBJECTS = (
    f"{_OBJECTS.format(size='l.size')}, {_OBJECTS.format(size='CASE WHEN l.migration IS NULL THEN l.size ELSE 0 END')}"
)
"""Bytes of all objects of a blob ``b`` that are not known to be gone or wrong; and of those that may be removed.

The store is an expression, since a planner that knows nothing of the tables would read all that is in the store.
"""


def there_is(query: str) -> str:
    """Whether a query that depends on the row at hand finds anything.

    For EXISTS PostgreSQL may read the whole table once for each page, which costs the square of its rows.
    """
    return f"((SELECT 1 {query} LIMIT 1) IS NOT NULL)"


def _in_trash(whose: str) -> str:
    named = there_is(f"FROM trash_reference x WHERE x.digest = b.digest AND x.repository_id {whose} :repository")
    itself = there_is(f"FROM trash_manifest t WHERE t.blob_id = b.id AND t.repository_id {whose} :repository")
    return f"({named} OR {itself})"


# BETWEEN, so that PostgreSQL looks by the repository: to it all that have a blob are few, and of some there are not.
_IS_MEMBER = there_is("FROM membership o WHERE o.repository_id = :repository AND o.blob_id BETWEEN b.id AND b.id")
_IS_MANIFEST = there_is("FROM manifest n WHERE n.repository_id = :repository AND n.blob_id BETWEEN b.id AND b.id")
_IS_REFERENCED = there_is("FROM reference r WHERE r.repository_id = :repository AND r.digest = b.digest")
_IS_DOOMED = there_is("FROM doomed d WHERE d.repository_id = :repository AND d.blob_id = b.id")
_ELSEWHERE = there_is("FROM membership o WHERE o.blob_id = b.id AND o.repository_id <> :repository")
_COLUMNS = (
    f"b.id, b.digest, {OBJECTS}, {_IS_MEMBER}, ({_IS_MANIFEST} OR {_IS_REFERENCED}), {_IS_DOOMED}, {_in_trash('=')},"
    f" {_ELSEWHERE}, {_in_trash('<>')}"
)
_MEMBERS = Statement(
    f"SELECT {_COLUMNS} FROM membership m JOIN blob b ON b.id = m.blob_id"  # noqa: S608 - constants
    " WHERE m.repository_id = :repository AND m.blob_id > :after ORDER BY m.blob_id LIMIT :count"
)
_OF_DIGESTS = Statement(
    f"SELECT {_COLUMNS} FROM blob b WHERE b.digest IN :digests AND {_IS_MEMBER}",  # noqa: S608 - constants
    expanding="digests",
)
_TRASHED_MANIFESTS = Statement(
    f"SELECT {_COLUMNS} FROM trash_manifest z JOIN blob b ON b.id = z.blob_id"  # noqa: S608 - constants
    f" WHERE z.repository_id = :repository AND z.blob_id > :after AND NOT {_IS_MEMBER}"
    " ORDER BY z.blob_id LIMIT :count"
)
_FIRST = (
    "NOT EXISTS (SELECT 1 FROM trash_reference y WHERE y.digest = z.digest AND y.repository_id = :repository"
    " AND y.manifest_id < z.manifest_id)"
)
_TRASHED_BLOBS = Statement(
    f"SELECT z.manifest_id, {_COLUMNS} FROM trash_reference z JOIN blob b ON b.digest = z.digest"  # noqa: S608 - constants
    " WHERE z.repository_id = :repository AND (z.manifest_id, z.digest) > (:manifest, :digest)"
    f" AND {_FIRST} AND NOT {_IS_MEMBER}"
    " AND NOT EXISTS (SELECT 1 FROM trash_manifest t WHERE t.repository_id = :repository AND t.blob_id = b.id)"
    " ORDER BY z.manifest_id, z.digest LIMIT :count"
)
_MANIFESTS = Statement(
    "SELECT MAX(p.id), CAST(COALESCE(SUM(p.size), 0) AS BIGINT) FROM (SELECT b.id, b.size FROM manifest m"
    " JOIN blob b ON b.id = m.blob_id WHERE m.repository_id = :repository AND m.blob_id > :after"
    " ORDER BY m.blob_id LIMIT :count) p"
)
_NAMED_BYTES = Statement(
    "SELECT CAST(COALESCE(SUM(b.size), 0) AS BIGINT) FROM reference r JOIN blob b ON b.digest = r.digest"  # noqa: S608 - constants
    " WHERE r.repository_id = :repository AND r.kind IN ('blob', 'optional')"
    f" AND r.manifest_id > :after AND r.manifest_id <= :last AND {_IS_MEMBER}"
)


def members(connection: Transaction, repository_id: int, *, store: str, after: int) -> Later[list[BlobUse]]:
    """A page of the members of a repository with ids above ``after``, by id."""
    values = {"repository": repository_id, "store": store, "after": after, "count": PAGE}
    return connection.execute(_MEMBERS, values).all_as(use_of)


def of_digests(
    connection: Transaction, repository_id: int, digests: Iterable[str], *, store: str
) -> Later[list[BlobUse]]:
    """Those of ``digests`` that are members of the repository."""
    found = [
        connection.execute(_OF_DIGESTS, {"repository": repository_id, "store": store, "digests": batch}).all_as(use_of)
        for batch in batches(list(digests))
    ]
    return Later(lambda: [use for uses in found for use in uses.get()])


def trashed_manifests(connection: Transaction, repository_id: int, *, store: str, after: int) -> Later[list[BlobUse]]:
    """A page of the manifests in the trash of a repository that are no members, with ids above ``after``, by id."""
    values = {"repository": repository_id, "store": store, "after": after, "count": PAGE}
    return connection.execute(_TRASHED_MANIFESTS, values).all_as(use_of)


def trashed_blobs(
    connection: Transaction, repository_id: int, *, store: str, after: tuple[int, str]
) -> Later[list[tuple[int, BlobUse]]]:
    """A page of what manifests in the trash of a repository name, and is neither a member nor such a manifest itself.

    Each once, with the id of the manifest that names it first; those whose manifest and digest come after ``after``.
    """
    manifest, digest = after
    values = {"repository": repository_id, "store": store, "manifest": manifest, "digest": digest, "count": PAGE}
    return connection.execute(_TRASHED_BLOBS, values).all_as(lambda manifest, *row: (manifest, use_of(*row)))


def manifests(connection: Transaction, repository_id: int, *, after: int) -> Later[ManifestPage]:
    """The next manifests of a repository, with ids above ``after``."""
    values = {"repository": repository_id, "after": after, "count": PAGE}
    return connection.execute(_MANIFESTS, values).one_as(ManifestPage)


def named_bytes(connection: Transaction, repository_id: int, *, after: int, last: int) -> Later[int]:
    """The bytes of the blobs that manifests above ``after``, up to ``last``, name, each as often as it is named."""
    values = {"repository": repository_id, "after": after, "last": last}
    return connection.execute(_NAMED_BYTES, values).one_as(int)


def use_of(blob_id: int, digest: str, count: int, removable: int, *flags: object) -> BlobUse:
    """A row as it comes: SQLite has numbers for truth."""
    return BlobUse(blob_id, digest, count, removable, *map(bool, flags))

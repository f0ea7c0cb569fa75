"""Rows of what is purged: the trash that names it, what keeps it, and every object that has its bytes.

Tests: ``tests/images/trash/test_purge.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from registry.database.statement import Statement

if TYPE_CHECKING:
    from registry.database.transaction import Later, Transaction

NO_BLOB = -1
"""The id of none, for a digest that has no row."""
PAGE = 100
"""Repositories of a page."""


class HolderRow(NamedTuple):
    """A repository that has a blob, or whose trash needs it."""

    id: int
    name: str
    is_member: bool
    """It has the blob."""


class ObjectRow(NamedTuple):
    """An object with the bytes of a blob."""

    store: str
    key: str
    state: str
    migration: str | None
    """The migration that brought it: nothing else ever deletes it."""


_HOLDERS = Statement(
    "SELECT r.id, r.name,"
    " CASE WHEN EXISTS (SELECT 1 FROM membership m WHERE m.repository_id = r.id AND m.blob_id = :blob)"
    " THEN 1 ELSE 0 END FROM repository r WHERE r.id > :after AND r.id IN"
    " (SELECT m.repository_id FROM membership m WHERE m.blob_id = :blob"
    " UNION SELECT t.repository_id FROM trash_manifest t WHERE t.blob_id = :blob"
    " UNION SELECT x.repository_id FROM trash_reference x WHERE x.digest = :digest) ORDER BY r.id LIMIT :count"
)
_TRASH_NAMING = Statement(
    "SELECT b.digest FROM blob b JOIN trash_manifest t ON t.blob_id = b.id"
    " WHERE b.digest = :digest AND t.repository_id = :repository"
    " UNION SELECT m.digest FROM trash_reference x JOIN trash_manifest t"
    " ON t.repository_id = x.repository_id AND t.blob_id = x.manifest_id JOIN blob m ON m.id = t.blob_id"
    " WHERE x.digest = :digest AND x.repository_id = :repository ORDER BY digest"
)
"""Two parts, for one condition with OR looks at the whole trash of a repository for each blob."""
_NAMING = Statement(
    "SELECT r.name FROM repository r WHERE EXISTS"
    " (SELECT 1 FROM reference x WHERE x.repository_id = r.id AND x.digest = :digest) ORDER BY r.name LIMIT :count"
)
"""One look into each repository: no index has references by their digests alone."""
_OBJECTS = Statement(
    "SELECT l.store, l.key, l.state, l.migration FROM blob_location l WHERE l.blob_id = :blob AND l.state <> 'lost'"
    " ORDER BY l.id"
)


def holders(
    connection: Transaction, blob_id: int, digest: str, *, after: int = -1, count: int = PAGE
) -> Later[list[HolderRow]]:
    """A page of the repositories with ids above ``after`` that have a blob, or whose trash needs it."""
    values = {"blob": blob_id, "digest": digest, "after": after, "count": count}
    return connection.execute(_HOLDERS, values).all_as(
        lambda repository_id, name, is_member: HolderRow(repository_id, name, bool(is_member))
    )


def trash_naming(connection: Transaction, repository_id: int, digest: str) -> Later[list[str]]:
    """The manifests in the trash of a repository that are this digest or name it."""
    return connection.execute(_TRASH_NAMING, {"repository": repository_id, "digest": digest}).all_as(str)


def naming(connection: Transaction, digest: str, *, count: int) -> Later[list[str]]:
    """At most ``count`` repositories with a manifest that names a digest, whether they have it or not."""
    return connection.execute(_NAMING, {"digest": digest, "count": count}).all_as(str)


def objects(connection: Transaction, blob_id: int) -> Later[list[ObjectRow]]:
    """Every object of a blob that is not known to be gone, in any store."""
    return connection.execute(_OBJECTS, {"blob": blob_id}).all_as(ObjectRow)

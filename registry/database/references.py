"""Rows of references: what each manifest of a repository names.

A manifest is *complete* when there is a row for everything that it names. A release before this one left out blobs that
need not be there (I13), and does so while it runs beside this one.

Tests: ``tests/database/test_queries.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from registry.database.statement import Statement
from registry.oci.digest import Digest

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from registry.database.transaction import Later, Rows, Transaction

MANIFEST = "manifest"
"""The kind of what a manifest names: a manifest."""
FORMER = "former"
"""A manifest, named by an index that has lost its fallback tag, and with it every tag: this protects nothing."""
BLOB = "blob"
"""A blob that must be there for the manifest to be accepted."""
OPTIONAL = "optional"
"""A blob that need not be there, and is kept where it is (I13)."""
LISTED = 10
"""Manifests that ``referenced_by`` names at most."""
START = (-1, -1)
"""Before every manifest."""


class ReferenceRow(NamedTuple):
    """A manifest of a repository, and something that it names."""

    manifest: str
    digest: str
    kind: str
    """BLOB, OPTIONAL, MANIFEST or FORMER."""


class IncompleteRow(NamedTuple):
    """A manifest of which rows may be missing."""

    repository_id: int
    repository: str
    """Its name."""
    blob_id: int
    digest: str
    media_type: str
    size: int
    """Bytes."""
    pushed_at: float


_ADD = Statement(
    "INSERT INTO reference (repository_id, manifest_id, digest, kind) VALUES (:repository, :manifest, :digest, :kind)"
    " ON CONFLICT (repository_id, manifest_id, digest) DO UPDATE SET kind = excluded.kind"
)
_OF_REPOSITORY = Statement(
    "SELECT b.digest, r.digest, r.kind FROM reference r JOIN blob b ON b.id = r.manifest_id"
    " WHERE r.repository_id = :repository ORDER BY b.digest, r.digest"
)
_SET_FORMER = Statement(
    "UPDATE reference SET kind = 'former' WHERE repository_id = :repository AND kind = 'manifest'"
    " AND manifest_id = (SELECT id FROM blob WHERE digest = :digest) AND NOT EXISTS"
    " (SELECT 1 FROM tag t WHERE t.repository_id = :repository AND t.blob_id = reference.manifest_id)"
    " AND NOT EXISTS (SELECT 1 FROM reference o WHERE o.repository_id = :repository"
    " AND o.manifest_id = reference.manifest_id AND NOT EXISTS"
    " (SELECT 1 FROM blob b JOIN manifest m ON m.blob_id = b.id WHERE b.digest = o.digest"
    " AND m.repository_id = :repository AND m.subject BETWEEN :subject AND :end))"
)
_FORMERLY_LISTED_BY = Statement(
    "SELECT b.digest FROM reference r JOIN blob b ON b.id = r.manifest_id"
    " WHERE r.repository_id = :repository AND r.digest = :digest AND r.kind = 'former' AND NOT EXISTS"
    " (SELECT 1 FROM tag t WHERE t.repository_id = r.repository_id AND t.blob_id = r.manifest_id) ORDER BY b.digest"
)
_REFERENCED_BY = Statement(
    "SELECT b.digest FROM reference r JOIN blob b ON b.id = r.manifest_id"
    " WHERE r.repository_id = :repository AND r.digest = :digest AND (r.kind <> 'former' OR EXISTS"
    " (SELECT 1 FROM tag t WHERE t.repository_id = r.repository_id AND t.blob_id = r.manifest_id))"
    " ORDER BY b.digest LIMIT :count"
)
_CHILDREN_OF = Statement(
    "SELECT r.digest FROM reference r JOIN blob b ON b.id = r.manifest_id"
    " WHERE r.repository_id = :repository AND b.digest = :digest AND r.kind IN ('manifest', 'former')"
)
_CHILDREN_BY_DIGEST = Statement(
    "SELECT b.digest, r.digest FROM reference r JOIN blob b ON b.id = r.manifest_id"
    " WHERE r.repository_id = :repository AND r.kind IN ('manifest', 'former')"
)
_INCOMPLETE = (
    "SELECT m.repository_id, r.name, m.blob_id, b.digest, m.media_type, b.size, m.pushed_at FROM manifest m"
    " JOIN repository r ON r.id = m.repository_id JOIN blob b ON b.id = m.blob_id"
    " WHERE m.complete = 0 AND b.state = 'present'"
)
_INCOMPLETE_PAGE = Statement(
    f"{_INCOMPLETE} AND (m.repository_id, m.blob_id) > (:repository, :blob)"
    " ORDER BY m.repository_id, m.blob_id LIMIT :count"
)
_INCOMPLETE_OF = Statement(
    f"{_INCOMPLETE} AND m.repository_id = :repository AND m.blob_id > :blob ORDER BY m.blob_id LIMIT :count"
)
_ADD_OPTIONAL = Statement(
    "INSERT INTO reference (repository_id, manifest_id, digest, kind)"
    " SELECT m.repository_id, m.blob_id, :digest, 'optional' FROM manifest m"
    " WHERE m.repository_id = :repository AND m.blob_id = :blob"
    " ON CONFLICT (repository_id, manifest_id, digest) DO NOTHING"
)
_COMPLETE = Statement("UPDATE manifest SET complete = 1 WHERE repository_id = :repository AND blob_id = :blob")
_LACKING = Statement(
    "SELECT DISTINCT r.digest FROM reference r WHERE r.repository_id = :repository AND r.digest > :after"
    " AND r.kind = 'optional' AND NOT EXISTS (SELECT 1 FROM blob b JOIN membership m ON m.blob_id = b.id"
    " WHERE b.digest = r.digest AND m.repository_id = r.repository_id)"
    " AND NOT EXISTS (SELECT 1 FROM withheld w WHERE w.repository_id = r.repository_id AND w.digest = r.digest"
    " AND w.kind = 'blob') ORDER BY r.digest LIMIT :count"
)
_NAMED_BYTES = Statement(
    "SELECT r.manifest_id, CAST(SUM(b.size) AS BIGINT) FROM reference r JOIN blob b ON b.digest = r.digest"
    " WHERE r.repository_id = :repository AND r.manifest_id IN :manifests GROUP BY r.manifest_id",
    expanding="manifests",
)
_CHILDREN = Statement(
    "SELECT r.manifest_id, m.blob_id FROM reference r JOIN blob b ON b.digest = r.digest"
    " JOIN manifest m ON m.repository_id = r.repository_id AND m.blob_id = b.id"
    " WHERE r.repository_id = :repository AND r.manifest_id IN :manifests",
    expanding="manifests",
)


def add(connection: Transaction, repository_id: int, manifest_id: int, references: Iterable[tuple[str, str]]) -> None:
    """Note what a manifest names: pairs of a digest and its kind, the first of each digest counts."""
    kinds: dict[str, str] = {}
    for digest, kind in references:
        kinds.setdefault(digest, kind)
    rows = [
        {"repository": repository_id, "manifest": manifest_id, "digest": str(digest), "kind": kind}
        for digest, kind in kinds.items()
    ]
    connection.execute_many(_ADD, rows)


def of_repository(connection: Transaction, repository_id: int) -> Later[list[ReferenceRow]]:
    """Everything that the manifests of a repository name, by manifest."""
    return connection.execute(_OF_REPOSITORY, {"repository": repository_id}).all_as(ReferenceRow)


def referenced_by(connection: Transaction, repository_id: int, digest: str, *, count: int = LISTED) -> Later[list[str]]:
    """Digests of manifests of this repository that name ``digest``, at most ``count``; no former fallback indexes."""
    values = {"repository": repository_id, "digest": digest, "count": count}
    return connection.execute(_REFERENCED_BY, values).all_as(str)


def children_of(connection: Transaction, repository_id: int, digest: str) -> Later[list[str]]:
    """Digests of the manifests that the index ``digest`` lists."""
    return connection.execute(_CHILDREN_OF, {"repository": repository_id, "digest": digest}).all_as(str)


def children_by_digest(connection: Transaction, repository_id: int) -> Later[dict[str, list[str]]]:
    """As ``children_of``, of every index of the repository, by its digest."""
    return connection.execute(_CHILDREN_BY_DIGEST, {"repository": repository_id}).later(_by_parent)


def _by_parent(rows: Rows) -> dict[str, list[str]]:
    listed: dict[str, list[str]] = {}
    for parent, child in rows:
        listed.setdefault(parent, []).append(child)
    return listed


def set_former(connection: Transaction, repository_id: int, digest: str, *, subject: str) -> None:
    """Note that an index has lost its fallback tag, that of a ``subject`` whose digest begins so.

    Nothing changes where it has another tag, or lists anything but manifests of the repository with this subject: then
    it is no list of referrers, but content that was tagged by a hash.
    """
    values = {"repository": repository_id, "digest": digest, "subject": subject, "end": f"{subject}~"}
    connection.execute(_SET_FORMER, values)


def formerly_listed_by(connection: Transaction, repository_id: int, digest: str) -> Later[list[str]]:
    """Digests of the former fallback indexes of this repository that list ``digest``."""
    return connection.execute(_FORMERLY_LISTED_BY, {"repository": repository_id, "digest": digest}).all_as(str)


def incomplete(connection: Transaction, *, after: tuple[int, int], count: int) -> Later[list[IncompleteRow]]:
    """At most ``count`` manifests that are there and not complete, whose repository and id come after those."""
    values = {"repository": after[0], "blob": after[1], "count": count}
    return connection.execute(_INCOMPLETE_PAGE, values).all_as(IncompleteRow)


def incomplete_of(connection: Transaction, repository_id: int, *, after: int, count: int) -> Later[list[IncompleteRow]]:
    """As ``incomplete``, in one repository."""
    values = {"repository": repository_id, "blob": after, "count": count}
    return connection.execute(_INCOMPLETE_OF, values).all_as(IncompleteRow)


def complete(connection: Transaction, repository_id: int, blob_id: int, optional: Iterable[str]) -> None:
    """Add what a manifest names and need not be there. A row that is there stays as it is.

    Nothing is added where the repository, which is locked, has no such manifest any more.
    """
    values = {"repository": repository_id, "blob": blob_id}
    connection.execute_many(_ADD_OPTIONAL, [{**values, "digest": digest} for digest in sorted(optional)])
    connection.execute(_COMPLETE, values)


def lacking(connection: Transaction, repository_id: int, *, after: str, count: int) -> Later[list[Digest]]:
    """At most ``count`` digests after that one that need not be there, are not, and that no row withholds."""
    values = {"repository": repository_id, "after": after, "count": count}
    return connection.execute(_LACKING, values).all_as(Digest)


def named_bytes(connection: Transaction, repository_id: int, manifests: Sequence[int]) -> Later[dict[int, int]]:
    """The bytes of what each of these manifests, at most BATCH ids, names, as far as these are known."""
    rows = connection.execute(_NAMED_BYTES, {"repository": repository_id, "manifests": manifests})
    return rows.later(lambda rows: {row[0]: row[1] for row in rows.all()})


def children(connection: Transaction, repository_id: int, manifests: Sequence[int]) -> Later[list[tuple[int, int]]]:
    """Those of these manifests, at most BATCH ids, that list any, each with each that it lists, by their ids."""
    rows = connection.execute(_CHILDREN, {"repository": repository_id, "manifests": manifests})
    return rows.later(lambda rows: [(row[0], row[1]) for row in rows.all()])

"""Rows for usage: manifests of one repository, what they name, and what else names it.

Tests: ``tests/database/usage/test_queries.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from registry.database.statement import Statement, batches
from registry.database.transaction import Later
from registry.database.usage import blobs

if TYPE_CHECKING:
    from collections.abc import Collection

    from registry.database.transaction import Transaction


class ManifestUse(NamedTuple):
    """A manifest of the repository."""

    digest: str
    id: int
    subject: str | None
    """The digest of a manifest that the repository has."""


class NamedUse(NamedTuple):
    """Something that a manifest names."""

    manifest_id: int
    digest: str
    is_manifest: bool
    """By its kind: an index lists it."""


_MANIFESTS = Statement(
    "SELECT b.digest, m.blob_id, (SELECT s.digest FROM blob s JOIN manifest o ON o.blob_id = s.id"
    " WHERE s.digest = m.subject AND o.repository_id = :repository)"
    " FROM blob b JOIN manifest m ON m.blob_id = b.id WHERE m.repository_id = :repository AND b.digest IN :digests",
    expanding="digests",
)
_NAMED = Statement(
    "SELECT r.manifest_id, r.digest, CASE WHEN r.kind IN ('manifest', 'former') THEN 1 ELSE 0 END FROM reference r"
    " WHERE r.repository_id = :repository AND r.manifest_id = :manifest AND r.digest > :after"
    " ORDER BY r.digest LIMIT :count"
)
_NAMERS = Statement(
    "SELECT r.digest, count(*) FROM reference r"
    " WHERE r.repository_id = :repository AND r.digest IN :digests AND r.kind <> 'former'"
    " GROUP BY r.digest",
    expanding="digests",
)


_KEPT = Statement(
    "SELECT x.digest FROM trash_reference x WHERE x.repository_id = :repository AND x.digest IN :digests"
    " AND NOT EXISTS (SELECT 1 FROM manifest n WHERE n.repository_id = :repository AND n.blob_id = x.manifest_id)"
    " UNION SELECT b.digest FROM blob b JOIN trash_manifest t ON t.blob_id = b.id AND t.repository_id = :repository"
    " WHERE b.digest IN :digests"
    " AND NOT EXISTS (SELECT 1 FROM manifest n WHERE n.repository_id = :repository AND n.blob_id = b.id)",
    expanding="digests",
)


def manifests(connection: Transaction, repository_id: int, digests: Collection[str]) -> Later[dict[str, ManifestUse]]:
    """Those of ``digests`` that are manifests of the repository, by digest."""
    found = [
        connection.execute(_MANIFESTS, {"repository": repository_id, "digests": batch}).all_as(ManifestUse)
        for batch in batches(sorted(digests))
    ]
    return Later(lambda: {row.digest: row for rows in found for row in rows.get()})


def named(connection: Transaction, repository_id: int, manifest_id: int, *, after: str) -> Later[list[NamedUse]]:
    """A page of what a manifest names, by digests after that one."""
    values = {"repository": repository_id, "manifest": manifest_id, "after": after, "count": blobs.PAGE}
    return connection.execute(_NAMED, values).all_as(
        lambda manifest, digest, is_manifest: NamedUse(manifest, digest, bool(is_manifest))
    )


def namers(connection: Transaction, repository_id: int, digests: Collection[str]) -> Later[dict[str, int]]:
    """How many manifests of the repository name each of ``digests`` that any names."""
    found = [
        connection.execute(_NAMERS, {"repository": repository_id, "digests": batch}).later(lambda rows: rows.all())
        for batch in batches(sorted(digests))
    ]
    return Later(lambda: {digest: count for rows in found for digest, count in rows.get()})


def kept_by_trash(connection: Transaction, repository_id: int, digests: Collection[str]) -> Later[set[str]]:
    """Those of ``digests`` that the trash of the repository needs, for manifests that were not restored."""
    found = [
        connection.execute(_KEPT, {"repository": repository_id, "digests": batch}).all_as(str)
        for batch in batches(sorted(digests))
    ]
    return Later(lambda: {digest for digests in found for digest in digests.get()})

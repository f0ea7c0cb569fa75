"""Manifests: their rows and queries."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from registry.database import manifest_bodies
from registry.database.blobs import LEASE_LEFT
from registry.database.statement import Statement

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from registry.database.transaction import Later, Transaction


MOST_ANNOTATIONS = 64 << 10
"""Bytes of a manifest's annotations that its row has."""


class ManifestRow(NamedTuple):
    """A manifest of one repository."""

    blob_id: int
    digest: str
    size: int
    media_type: str
    state: str
    """The state of its blob."""
    lease_left: float
    """As BlobRow has it: the lease of a manifest is that of its blob."""


class ReferrerRow(NamedTuple):
    """A manifest that names a subject (distribution spec, "Listing Referrers")."""

    blob_id: int
    digest: str
    size: int
    media_type: str
    artifact_type: str | None
    annotations: str | None
    """A JSON object; None where it is longer than MOST_ANNOTATIONS, which only earlier releases wrote."""


_MANIFEST = f"b.id, b.digest, b.size, m.media_type, b.state, {LEASE_LEFT}"
_BY_TAG = Statement(
    f"SELECT {_MANIFEST} FROM tag t JOIN manifest m ON m.repository_id = t.repository_id AND m.blob_id = t.blob_id"  # noqa: S608 - constant columns
    " JOIN blob b ON b.id = t.blob_id WHERE t.repository_id = :repository AND t.name = :tag"
)
_BY_DIGEST = Statement(
    f"SELECT {_MANIFEST} FROM blob b JOIN manifest m ON m.blob_id = b.id"  # noqa: S608 - constant columns
    " WHERE b.digest = :digest AND m.repository_id = :repository"
)
_ALL = Statement(
    f"SELECT {_MANIFEST} FROM manifest m JOIN blob b ON b.id = m.blob_id WHERE m.repository_id = :repository"  # noqa: S608
)
_TARGETS = Statement(
    "SELECT b.digest, b.id,"
    " (SELECT m.pushed_at FROM manifest m WHERE m.repository_id = :repository AND m.blob_id = b.id)"
    " FROM blob b WHERE b.digest IN :digests",
    expanding="digests",
)
"""Not a join, of which a planner that knows nothing of the tables may read all manifests of the repository."""
_PUT = Statement(
    "INSERT INTO manifest"
    " (repository_id, blob_id, media_type, artifact_type, subject, annotations, pushed_at, complete)"
    " VALUES (:repository, :blob, :media_type, :artifact_type, :subject, :annotations, :now, 1)"
    " ON CONFLICT (repository_id, blob_id) DO UPDATE SET media_type = excluded.media_type,"
    " artifact_type = excluded.artifact_type, subject = excluded.subject, annotations = excluded.annotations,"
    " pushed_at = excluded.pushed_at, complete = 1"
)
_PUSHED_AT = Statement(
    "SELECT b.digest, m.pushed_at FROM manifest m JOIN blob b ON b.id = m.blob_id WHERE m.repository_id = :repository"
)
_SET_PUSHED_AT = Statement(
    "UPDATE manifest SET pushed_at = :now WHERE repository_id = :repository AND blob_id = :blob AND pushed_at <> :now"
)
# A row that a push has locked is passed over, so that neither waits for the other while more rows are locked here.
_SET_PULLED = Statement(
    "UPDATE manifest SET pulled_at = :at WHERE (repository_id, blob_id) IN"
    " (SELECT m.repository_id, m.blob_id FROM blob b JOIN manifest m ON m.blob_id = b.id"
    " JOIN repository r ON r.id = m.repository_id WHERE b.digest = :digest AND r.name = :name"
    " AND (m.pulled_at IS NULL OR m.pulled_at < :at) FOR NO KEY UPDATE OF m SKIP LOCKED)",
    sqlite=(" FOR NO KEY UPDATE OF m SKIP LOCKED", ""),
)
_REMOVE = Statement("DELETE FROM manifest WHERE repository_id = :repository AND blob_id = :blob")
_REMOVE_REFERENCES = Statement("DELETE FROM reference WHERE repository_id = :repository AND manifest_id = :blob")
_REFERRERS = Statement(
    "SELECT b.id, b.digest, b.size, m.media_type, m.artifact_type,"  # noqa: S608 - a constant
    f" CASE WHEN length(m.annotations) <= {MOST_ANNOTATIONS} THEN m.annotations END FROM manifest m"
    " JOIN blob b ON b.id = m.blob_id WHERE m.repository_id = :repository AND m.subject = :subject"
    " AND b.state = 'present' AND b.digest > :last AND (:any = 1 OR m.artifact_type = :artifact_type)"
    " ORDER BY b.digest LIMIT :count"
)
_UNNEEDED = Statement(
    f"SELECT {_MANIFEST} FROM manifest m JOIN blob b ON b.id = m.blob_id"  # noqa: S608 - constant columns
    f" WHERE m.repository_id = :repository AND m.blob_id > :after AND {LEASE_LEFT} <= 0"
    " AND m.pushed_at < :before AND coalesce(m.pulled_at, 0) < :before"
    " AND NOT EXISTS (SELECT 1 FROM tag t WHERE t.repository_id = :repository AND t.blob_id = m.blob_id)"
    " AND NOT EXISTS (SELECT 1 FROM reference r"
    " WHERE r.repository_id = :repository AND r.digest = b.digest AND r.kind <> 'former')"
    " AND NOT EXISTS (SELECT 1 FROM blob s JOIN manifest o ON o.blob_id = s.id"
    " WHERE s.digest = m.subject AND o.repository_id = :repository)"
    " ORDER BY m.blob_id LIMIT :count",
    locking="b",
)
_WITH_SUBJECT = Statement(
    "SELECT b.digest FROM manifest m JOIN blob b ON b.id = m.blob_id"
    " WHERE m.repository_id = :repository AND m.subject = :subject ORDER BY b.digest"
)
_REMOVE_TAGS_OF = Statement("DELETE FROM tag WHERE repository_id = :repository AND blob_id = :blob")


def by_tag(connection: Transaction, repository_id: int, tag: str) -> Later[ManifestRow | None]:
    """The manifest that the tag points at, or None."""
    return connection.execute(_BY_TAG, {"repository": repository_id, "tag": tag}).first_as(ManifestRow)


def by_digest(connection: Transaction, repository_id: int, digest: str) -> Later[ManifestRow | None]:
    """The manifest with this digest, or None."""
    return connection.execute(_BY_DIGEST, {"repository": repository_id, "digest": digest}).first_as(ManifestRow)


def of_repository(connection: Transaction, repository_id: int) -> Later[dict[str, ManifestRow]]:
    """Every manifest of the repository, by digest."""
    rows = connection.execute(_ALL, {"repository": repository_id})
    return rows.later(lambda rows: {row[1]: ManifestRow(*row) for row in rows})


def targets(connection: Transaction, repository_id: int, digests: Sequence[str]) -> Later[dict[str, tuple[int, float]]]:
    """The ids of those of ``digests``, at most BATCH, that the repository has, and when each was last pushed."""
    rows = connection.execute(_TARGETS, {"repository": repository_id, "digests": digests})
    return rows.later(lambda rows: {digest: (blob_id, at) for digest, blob_id, at in rows if at is not None})


def put(
    connection: Transaction,
    repository_id: int,
    blob_id: int,
    *,
    media_type: str,
    artifact_type: str | None,
    subject: str | None,
    annotations: str,
    now: float,
) -> None:
    """Make or replace the row of a manifest whose blob row exists; ``annotations`` of at most MOST_ANNOTATIONS.

    The caller notes with ``references.add`` everything that it names.
    """
    values = {"repository": repository_id, "blob": blob_id, "media_type": media_type, "artifact_type": artifact_type}
    connection.execute(_PUT, {**values, "subject": subject, "annotations": annotations, "now": now})


def pushed_at(connection: Transaction, repository_id: int) -> Later[dict[str, float]]:
    """When each manifest of the repository was last pushed, by digest."""
    return connection.execute(_PUSHED_AT, {"repository": repository_id}).later(lambda rows: dict(rows.all()))


def set_pushed(connection: Transaction, repository_id: int, times: Iterable[tuple[int, float]]) -> None:
    """Correct when manifests were pushed, by their ids."""
    rows = [{"repository": repository_id, "blob": blob_id, "now": pushed_at} for blob_id, pushed_at in times]
    connection.execute_many(_SET_PUSHED_AT, rows)


def unneeded(
    connection: Transaction, repository_id: int, *, before: float, after: int, count: int
) -> Later[list[ManifestRow]]:
    """At most ``count`` manifests that nothing needs, of ids above ``after``, by id: those that a collector may remove.

    No tag points at one, no manifest of the repository lists it, its subject is not there, no lease is left,
    and its last push and pull were before ``before``. What lists it, or is its subject, is unneeded first.
    These times say nothing of when it lost its tag: a caller takes what it has seen to be unneeded for long (I14).

    For a transaction that has locked the repository, has found no live upload (``upload_sessions.any_live``), and
    removes them: their blobs are locked, so that a lease comes before this look, or finds them gone.
    """
    values = {"repository": repository_id, "before": before, "after": after, "count": count}
    return connection.execute(_UNNEEDED, values).all_as(ManifestRow)


def set_pulled(connection: Transaction, repository: str, digest: str, *, at: float) -> Later[bool]:
    """Note that a manifest was pulled, unless a later pull is noted. Waits for no other transaction.

    False if nothing was noted: the manifest is gone, a later pull is noted, or another transaction changes the row.
    """
    rows = connection.execute(_SET_PULLED, {"name": repository, "digest": digest, "at": at})
    return rows.later(lambda rows: rows.rowcount > 0)


def remove(connection: Transaction, repository_id: int, blob_id: int) -> None:
    """Remove a manifest, what it references, and every tag that points at it."""
    values = {"repository": repository_id, "blob": blob_id}
    connection.execute(_REMOVE_TAGS_OF, values)
    connection.execute(_REMOVE_REFERENCES, values)
    connection.execute(_REMOVE, values)
    manifest_bodies.remove_unused(connection, blob_id)


def with_subject(connection: Transaction, repository_id: int, subject: str) -> Later[list[str]]:
    """Digests of all manifests with this subject, by digest."""
    return connection.execute(_WITH_SUBJECT, {"repository": repository_id, "subject": subject}).all_as(str)


def referrers(
    connection: Transaction, repository_id: int, subject: str, *, artifact_type: str | None, last: str, count: int
) -> Later[list[ReferrerRow]]:
    """At most ``count`` manifests with this subject whose digest is after ``last``, by digest."""
    values = {"repository": repository_id, "subject": subject, "last": last, "count": count}
    values |= {"any": int(artifact_type is None), "artifact_type": artifact_type or ""}
    return connection.execute(_REFERRERS, values).all_as(ReferrerRow)

"""Rows of manifests, what they reference, and the tags that point at them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from registry.database import manifest_bodies
from registry.database.statement import Statement

if TYPE_CHECKING:
    from collections.abc import Iterable

    from registry.database.transaction import Later, Transaction


MANIFEST = "manifest"
"""The kind of what a manifest names: a manifest."""
FORMER = "former"
"""A manifest, named by an index that has lost its fallback tag, and with it every tag: this protects nothing."""
BLOB = "blob"
"""A blob that must be there for the manifest to be accepted."""
OPTIONAL = "optional"
"""A blob that need not be there, and is kept where it is (I13)."""
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


class ReferrerRow(NamedTuple):
    """A manifest that names a subject (distribution spec, "Listing Referrers")."""

    blob_id: int
    digest: str
    size: int
    media_type: str
    artifact_type: str | None
    annotations: str | None
    """A JSON object; None where it is longer than MOST_ANNOTATIONS, which only earlier releases wrote."""


class TagRow(NamedTuple):
    """A tag and the manifest that it points at."""

    name: str
    digest: str
    sequence: int


_MANIFEST = "b.id, b.digest, b.size, m.media_type, b.state"
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
_PUT = Statement(
    "INSERT INTO manifest"
    " (repository_id, blob_id, media_type, artifact_type, subject, annotations, pushed_at, complete)"
    " VALUES (:repository, :blob, :media_type, :artifact_type, :subject, :annotations, :now, 1)"
    " ON CONFLICT (repository_id, blob_id) DO UPDATE SET media_type = excluded.media_type,"
    " artifact_type = excluded.artifact_type, subject = excluded.subject, annotations = excluded.annotations,"
    " pushed_at = excluded.pushed_at, complete = 1"
)
_PUSHED = Statement(
    "SELECT b.digest, m.pushed_at FROM manifest m JOIN blob b ON b.id = m.blob_id WHERE m.repository_id = :repository"
)
_TAGGED = Statement("SELECT name, updated_at FROM tag WHERE repository_id = :repository")
_SET_PUSHED = Statement(
    "UPDATE manifest SET pushed_at = :now WHERE repository_id = :repository AND blob_id = :blob AND pushed_at <> :now"
)
_REMOVE = Statement("DELETE FROM manifest WHERE repository_id = :repository AND blob_id = :blob")
_REMOVE_REFERENCES = Statement("DELETE FROM reference WHERE repository_id = :repository AND manifest_id = :blob")
_REFER = Statement(
    "INSERT INTO reference (repository_id, manifest_id, digest, kind) VALUES (:repository, :manifest, :digest, :kind)"
    " ON CONFLICT (repository_id, manifest_id, digest) DO UPDATE SET kind = excluded.kind"
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
    " ORDER BY b.digest LIMIT 10"
)
_CHILDREN_OF = Statement(
    "SELECT r.digest FROM reference r JOIN blob b ON b.id = r.manifest_id"
    " WHERE r.repository_id = :repository AND b.digest = :digest AND r.kind IN ('manifest', 'former')"
)
_REFERRERS = Statement(
    "SELECT b.id, b.digest, b.size, m.media_type, m.artifact_type,"  # noqa: S608 - a constant
    f" CASE WHEN length(m.annotations) <= {MOST_ANNOTATIONS} THEN m.annotations END FROM manifest m"
    " JOIN blob b ON b.id = m.blob_id WHERE m.repository_id = :repository AND m.subject = :subject"
    " AND b.state = 'present' AND b.digest > :last AND (:any = 1 OR m.artifact_type = :artifact_type)"
    " ORDER BY b.digest LIMIT :count"
)
_PUT_TAG = Statement(
    "INSERT INTO tag (repository_id, name, blob_id, sequence, updated_at)"
    " VALUES (:repository, :name, :blob, :sequence, :now)"
    " ON CONFLICT (repository_id, name) DO UPDATE SET blob_id = excluded.blob_id, sequence = excluded.sequence,"
    " updated_at = excluded.updated_at"
)
_TAGS_NAMED = Statement(
    "SELECT t.name, b.digest, t.sequence FROM tag t JOIN blob b ON b.id = t.blob_id"
    " WHERE t.repository_id = :repository AND t.name IN :names",
    expanding="names",
)
_TAGS_OF = Statement(
    "SELECT t.name, b.digest, t.sequence FROM tag t JOIN blob b ON b.id = t.blob_id"
    " WHERE t.repository_id = :repository AND t.blob_id = :blob ORDER BY t.name"
)
_ALL_TAGS = Statement(
    "SELECT t.name, b.digest, t.sequence FROM tag t JOIN blob b ON b.id = t.blob_id WHERE t.repository_id = :repository"
)
_TAG_PAGE = Statement(
    "SELECT name FROM tag WHERE repository_id = :repository AND name > :last ORDER BY name LIMIT :count"
)
_REMOVE_TAG = Statement("DELETE FROM tag WHERE repository_id = :repository AND name = :name")
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

    The caller notes with ``refer`` everything that it names.
    """
    values = {"repository": repository_id, "blob": blob_id, "media_type": media_type, "artifact_type": artifact_type}
    connection.execute(_PUT, {**values, "subject": subject, "annotations": annotations, "now": now})


def pushed(connection: Transaction, repository_id: int) -> Later[dict[str, float]]:
    """When each manifest of the repository was last pushed, by digest."""
    return connection.execute(_PUSHED, {"repository": repository_id}).later(lambda rows: dict(rows.all()))


def tagged(connection: Transaction, repository_id: int) -> Later[dict[str, float]]:
    """When each tag of the repository was last set, by name."""
    return connection.execute(_TAGGED, {"repository": repository_id}).later(lambda rows: dict(rows.all()))


def set_pushed(connection: Transaction, repository_id: int, times: Iterable[tuple[int, float]]) -> None:
    """Correct when manifests were pushed, by their ids."""
    rows = [{"repository": repository_id, "blob": blob_id, "now": pushed_at} for blob_id, pushed_at in times]
    connection.execute_many(_SET_PUSHED, rows)


def refer(connection: Transaction, repository_id: int, manifest_id: int, references: Iterable[tuple[str, str]]) -> None:
    """Note what a manifest names: pairs of a digest and its kind, the first of each digest counts."""
    kinds: dict[str, str] = {}
    for digest, kind in references:
        kinds.setdefault(digest, kind)
    rows = [
        {"repository": repository_id, "manifest": manifest_id, "digest": digest, "kind": kind}
        for digest, kind in kinds.items()
    ]
    connection.execute_many(_REFER, rows)


def remove(connection: Transaction, repository_id: int, blob_id: int) -> None:
    """Remove a manifest, what it references, and every tag that points at it."""
    values = {"repository": repository_id, "blob": blob_id}
    connection.execute(_REMOVE_TAGS_OF, values)
    connection.execute(_REMOVE_REFERENCES, values)
    connection.execute(_REMOVE, values)
    manifest_bodies.remove_unused(connection, blob_id)


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


def referenced_by(connection: Transaction, repository_id: int, digest: str) -> Later[list[str]]:
    """Digests of the manifests of this repository that name ``digest``, at most 10; of former fallback indexes none."""
    return connection.execute(_REFERENCED_BY, {"repository": repository_id, "digest": digest}).all_as(str)


def referrers(
    connection: Transaction, repository_id: int, subject: str, *, artifact_type: str | None, last: str, count: int
) -> Later[list[ReferrerRow]]:
    """At most ``count`` manifests with this subject whose digest is after ``last``, by digest."""
    values = {"repository": repository_id, "subject": subject, "last": last, "count": count}
    values |= {"any": int(artifact_type is None), "artifact_type": artifact_type or ""}
    return connection.execute(_REFERRERS, values).all_as(ReferrerRow)


def put_tag(connection: Transaction, repository_id: int, name: str, blob_id: int, *, sequence: int, now: float) -> None:
    """Point a tag at a manifest."""
    values = {"repository": repository_id, "name": name, "blob": blob_id, "sequence": sequence, "now": now}
    connection.execute(_PUT_TAG, values)


def tags_named(connection: Transaction, repository_id: int, names: list[str]) -> Later[list[TagRow]]:
    """Those of ``names`` that exist."""
    return connection.execute(_TAGS_NAMED, {"repository": repository_id, "names": names}).all_as(TagRow)


def tags_of(connection: Transaction, repository_id: int, blob_id: int) -> Later[list[TagRow]]:
    """The tags that point at a manifest, in byte order."""
    return connection.execute(_TAGS_OF, {"repository": repository_id, "blob": blob_id}).all_as(TagRow)


def all_tags(connection: Transaction, repository_id: int) -> Later[dict[str, TagRow]]:
    """Every tag of the repository, by name."""
    rows = connection.execute(_ALL_TAGS, {"repository": repository_id})
    return rows.later(lambda rows: {row[0]: TagRow(*row) for row in rows})


def tag_page(connection: Transaction, repository_id: int, *, last: str, count: int) -> Later[list[str]]:
    """At most ``count`` tags after ``last``, in byte order."""
    return connection.execute(_TAG_PAGE, {"repository": repository_id, "last": last, "count": count}).all_as(str)


def remove_tag(connection: Transaction, repository_id: int, name: str) -> None:
    """Remove a tag."""
    connection.execute(_REMOVE_TAG, {"repository": repository_id, "name": name})


def children_of(connection: Transaction, repository_id: int, digest: str) -> Later[list[str]]:
    """Digests of the manifests that the index ``digest`` lists."""
    return connection.execute(_CHILDREN_OF, {"repository": repository_id, "digest": digest}).all_as(str)

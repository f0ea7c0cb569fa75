"""Rows of tags: the manifest that each points at.

Tests: ``tests/database/test_queries.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from registry.database.statement import Statement

if TYPE_CHECKING:
    from collections.abc import Iterable

    from registry.database.transaction import Later, Transaction


class TagRow(NamedTuple):
    """A tag and the manifest that it points at."""

    name: str
    digest: str
    sequence: int


class JudgedTag(NamedTuple):
    """A tag with what decides whether it stays. Times are seconds since the epoch."""

    name: str
    digest: str
    sequence: int
    updated_at: float
    """When it was last set."""
    pulled_at: float | None
    """When its manifest was last pulled; None for never, as far as is known."""
    size: int
    """Bytes of its manifest."""
    blob_id: int
    """The manifest's."""


_PUT = Statement(
    "INSERT INTO tag (repository_id, name, blob_id, sequence, updated_at)"
    " VALUES (:repository, :name, :blob, :sequence, :now)"
    " ON CONFLICT (repository_id, name) DO UPDATE SET blob_id = excluded.blob_id, sequence = excluded.sequence,"
    " updated_at = excluded.updated_at"
)
_FIND_ALL = Statement(
    "SELECT t.name, b.digest, t.sequence FROM tag t JOIN blob b ON b.id = t.blob_id"
    " WHERE t.repository_id = :repository AND t.name IN :names",
    expanding="names",
)
_OF_MANIFEST = Statement(
    "SELECT t.name, b.digest, t.sequence FROM tag t JOIN blob b ON b.id = t.blob_id"
    " WHERE t.repository_id = :repository AND t.blob_id = :blob ORDER BY t.name",
    sqlite=("FROM tag t", "FROM tag t INDEXED BY ix_tag_repository_id_blob_id"),
)
"""By its own choice SQLite reads all tags of the repository, in the order of their names."""
_BEGINNING = Statement(
    "SELECT t.name, b.digest, t.sequence FROM tag t JOIN blob b ON b.id = t.blob_id"
    " WHERE t.repository_id = :repository AND t.name >= :prefix AND t.name < :end ORDER BY t.name"
)
_OF_REPOSITORY = Statement(
    "SELECT t.name, b.digest, t.sequence FROM tag t JOIN blob b ON b.id = t.blob_id WHERE t.repository_id = :repository"
)
_JUDGED = Statement(
    "SELECT t.name, b.digest, t.sequence, t.updated_at, m.pulled_at, b.size, b.id"
    " FROM tag t JOIN blob b ON b.id = t.blob_id"
    " LEFT JOIN manifest m ON m.repository_id = t.repository_id AND m.blob_id = t.blob_id"
    " WHERE t.repository_id = :repository AND t.name > :last ORDER BY t.name LIMIT :count"
)
_BY_MANIFEST = Statement(
    "SELECT t.blob_id, t.name, t.updated_at, m.pulled_at FROM tag t"
    " LEFT JOIN manifest m ON m.repository_id = t.repository_id AND m.blob_id = t.blob_id"
    " WHERE t.repository_id = :repository AND t.blob_id >= :blob AND (t.blob_id, t.name) > (:blob, :last)"
    " ORDER BY t.blob_id, t.name LIMIT :count",
    sqlite=("FROM tag t", "FROM tag t INDEXED BY ix_tag_repository_id_blob_id"),
)
_UPDATED_AT = Statement("SELECT name, updated_at FROM tag WHERE repository_id = :repository")
_PAGE = Statement("SELECT name FROM tag WHERE repository_id = :repository AND name > :last ORDER BY name LIMIT :count")
_REMOVE = Statement("DELETE FROM tag WHERE repository_id = :repository AND name = :name")


def find_all(connection: Transaction, repository_id: int, names: list[str]) -> Later[list[TagRow]]:
    """Those of ``names`` that exist."""
    return connection.execute(_FIND_ALL, {"repository": repository_id, "names": names}).all_as(TagRow)


def of_manifest(connection: Transaction, repository_id: int, blob_id: int) -> Later[list[TagRow]]:
    """The tags that point at a manifest, in byte order."""
    return connection.execute(_OF_MANIFEST, {"repository": repository_id, "blob": blob_id}).all_as(TagRow)


def beginning(connection: Transaction, repository_id: int, prefix: str) -> Later[list[TagRow]]:
    """The tags that begin so, in byte order; ``prefix`` is of ASCII."""
    values = {"repository": repository_id, "prefix": prefix, "end": f"{prefix}\x7f"}
    return connection.execute(_BEGINNING, values).all_as(TagRow)


def of_repository(connection: Transaction, repository_id: int) -> Later[dict[str, TagRow]]:
    """Every tag of the repository, by name."""
    rows = connection.execute(_OF_REPOSITORY, {"repository": repository_id})
    return rows.later(lambda rows: {row[0]: TagRow(*row) for row in rows})


def judged(connection: Transaction, repository_id: int, *, last: str, count: int) -> Later[list[JudgedTag]]:
    """At most ``count`` tags of the repository after ``last``, in byte order."""
    return connection.execute(_JUDGED, {"repository": repository_id, "last": last, "count": count}).all_as(JudgedTag)


def by_manifest(
    connection: Transaction, repository_id: int, *, after: tuple[int, str], count: int
) -> Later[list[tuple[int, str, float, float | None]]]:
    """At most ``count`` tags by the ids of their manifests: id, name, when it was set, when its manifest was pulled.

    They come after that id and name.
    """
    values = {"repository": repository_id, "blob": after[0], "last": after[1], "count": count}
    rows = connection.execute(_BY_MANIFEST, values)
    return rows.later(lambda rows: [(row[0], row[1], row[2], row[3]) for row in rows.all()])


def updated_at(connection: Transaction, repository_id: int) -> Later[dict[str, float]]:
    """When each tag of the repository was last set, by name."""
    return connection.execute(_UPDATED_AT, {"repository": repository_id}).later(lambda rows: dict(rows.all()))


def page(connection: Transaction, repository_id: int, *, last: str, count: int) -> Later[list[str]]:
    """At most ``count`` tags after ``last``, in byte order."""
    return connection.execute(_PAGE, {"repository": repository_id, "last": last, "count": count}).all_as(str)


def put(connection: Transaction, repository_id: int, name: str, blob_id: int, *, sequence: int, now: float) -> None:
    """Point a tag at a manifest."""
    values = {"repository": repository_id, "name": name, "blob": blob_id, "sequence": sequence, "now": now}
    connection.execute(_PUT, values)


def remove_all(connection: Transaction, repository_id: int, names: Iterable[str]) -> None:
    """Remove tags."""
    connection.execute_many(_REMOVE, [{"repository": repository_id, "name": name} for name in names])


def remove(connection: Transaction, repository_id: int, name: str) -> None:
    """Remove a tag."""
    connection.execute(_REMOVE, {"repository": repository_id, "name": name})

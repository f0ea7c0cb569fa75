"""Withheld: rows of references whose content the repository lacks; naming it gives no right to it (I12).

A row stays, *released*, from the change that says that the content has come until that change is folded: a client that
sends the content again in between is answered only when that record is on storage.

Tests: ``tests/images/records/test_withholding.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from registry.database.statement import Statement, batches
from registry.database.transaction import Later
from registry.oci.digest import Digest
from registry.oci.withheld import Withheld

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from registry.database.transaction import Transaction

BLOB = "blob"
"""The repository lacks the bytes."""
MANIFEST = "manifest"
"""The repository has no such manifest."""


class WithheldRow(NamedTuple):
    """A reference that was withheld in one repository."""

    digest: str
    kind: str
    """BLOB or MANIFEST."""
    released: int | None
    """The sequence number of the change that says that it has come; None while it is withheld."""


class NamingRow(NamedTuple):
    """A manifest that names something."""

    digest: str
    media_type: str
    size: int
    """Bytes."""
    pushed_at: float


class SeenRow(NamedTuple):
    """A blob that is withheld by its row."""

    repository_id: int
    digest: str
    has_come: bool
    """The repository has it, and a manifest of it names it, against what the row says."""


_COLUMNS = "digest, kind, released"
_NAMED = Statement(
    f"SELECT {_COLUMNS} FROM withheld WHERE repository_id = :repository AND digest IN :digests",  # noqa: S608 - constant
    expanding="digests",
)
_ALL = Statement(f"SELECT {_COLUMNS} FROM withheld WHERE repository_id = :repository")  # noqa: S608 - constant
_ARE_NAMED = Statement(
    f"SELECT {_COLUMNS} FROM withheld w WHERE repository_id = :repository AND EXISTS"  # noqa: S608 - constant
    " (SELECT 1 FROM reference r WHERE r.repository_id = w.repository_id AND r.digest = w.digest)"
)
_COUNT = Statement("SELECT count(*) FROM withheld WHERE repository_id = :repository AND released IS NULL")
_ADD = Statement(
    "INSERT INTO withheld (repository_id, digest, kind) VALUES (:repository, :digest, :kind)"
    " ON CONFLICT (repository_id, digest, kind) DO UPDATE SET released = NULL"
)
_RELEASE = Statement(
    "UPDATE withheld SET released = :sequence WHERE repository_id = :repository AND digest = :digest AND kind = :kind"
)
_REMOVE = Statement("DELETE FROM withheld WHERE repository_id = :repository AND digest = :digest AND kind = :kind")
_REMOVE_FOLDED = Statement("DELETE FROM withheld WHERE repository_id = :repository AND released <= :folded")
_REMOVE_ALL = Statement("DELETE FROM withheld WHERE repository_id = :repository")
_NAMING = Statement(
    "SELECT b.digest, m.media_type, b.size, m.pushed_at FROM reference r JOIN manifest m"
    " ON m.repository_id = r.repository_id AND m.blob_id = r.manifest_id JOIN blob b ON b.id = m.blob_id"
    " WHERE r.repository_id = :repository AND r.digest = :digest ORDER BY b.digest LIMIT 1"
)
_NAMED_BY_IT_ALONE = Statement(
    "SELECT w.digest, w.kind, w.released FROM reference r JOIN withheld w"
    " ON w.repository_id = r.repository_id AND w.digest = r.digest"
    " WHERE r.repository_id = :repository AND r.manifest_id = :manifest AND NOT EXISTS"
    " (SELECT 1 FROM reference o WHERE o.repository_id = r.repository_id AND o.digest = r.digest"
    " AND o.manifest_id <> r.manifest_id)"
)
_PAGE = Statement(
    "SELECT w.repository_id, w.digest, EXISTS (SELECT 1 FROM blob b JOIN membership m ON m.blob_id = b.id"
    " WHERE b.digest = w.digest AND m.repository_id = w.repository_id) AND EXISTS (SELECT 1 FROM reference r"
    " WHERE r.repository_id = w.repository_id AND r.digest = w.digest)"
    " FROM withheld w WHERE w.kind = 'blob' AND w.released IS NULL AND (w.repository_id, w.digest) > (:id, :digest)"
    " ORDER BY w.repository_id, w.digest LIMIT :count"
)


def named(
    connection: Transaction, repository_id: int, digests: Sequence[str]
) -> Later[dict[tuple[str, str], WithheldRow]]:
    """The rows of any of ``digests``, by digest and kind."""
    found = [
        connection.execute(_NAMED, {"repository": repository_id, "digests": batch}).all_as(WithheldRow)
        for batch in batches([str(digest) for digest in digests])
    ]
    return Later(lambda: {(row.digest, row.kind): row for rows in found for row in rows.get()})


def of_repository(connection: Transaction, repository_id: int, *, named: bool = False) -> Later[list[WithheldRow]]:
    """Every row of a repository; with ``named`` those that some manifest of it names."""
    return connection.execute(_ARE_NAMED if named else _ALL, {"repository": repository_id}).all_as(WithheldRow)


def count(connection: Transaction, repository_id: int) -> Later[int]:
    """How many references are withheld in a repository."""
    return connection.execute(_COUNT, {"repository": repository_id}).one_as(int)


def add(connection: Transaction, repository_id: int, withheld: Withheld) -> None:
    """Withhold these, also what was released before."""
    connection.execute_many(_ADD, list(_values(repository_id, withheld)))


def release(connection: Transaction, repository_id: int, withheld: Withheld, *, sequence: int) -> None:
    """Note the change that says that these have come."""
    rows = [{**values, "sequence": sequence} for values in _values(repository_id, withheld)]
    connection.execute_many(_RELEASE, rows)


def remove(connection: Transaction, repository_id: int, withheld: Withheld) -> None:
    """Forget these: nothing names them, or storage says that they are not withheld."""
    connection.execute_many(_REMOVE, list(_values(repository_id, withheld)))


def remove_folded(connection: Transaction, repository_id: int, *, folded: int) -> None:
    """Forget what changes up to ``folded`` have released."""
    connection.execute(_REMOVE_FOLDED, {"repository": repository_id, "folded": folded})


def remove_all(connection: Transaction, repository_id: int) -> None:
    """Forget every row of a repository."""
    connection.execute(_REMOVE_ALL, {"repository": repository_id})


def naming(connection: Transaction, repository_id: int, digest: str) -> Later[NamingRow | None]:
    """The first manifest of the repository that names ``digest``; None if there is none."""
    return connection.execute(_NAMING, {"repository": repository_id, "digest": digest}).first_as(NamingRow)


def named_by_it_alone(connection: Transaction, repository_id: int, manifest_id: int) -> Later[Withheld]:
    """What this manifest names, is withheld or just released, and no other manifest of the repository names."""
    values = {"repository": repository_id, "manifest": manifest_id}
    rows = connection.execute(_NAMED_BY_IT_ALONE, values)
    return rows.later(lambda rows: collected(WithheldRow(*row) for row in rows))


def page(connection: Transaction, *, after: tuple[int, str], count: int) -> Later[list[SeenRow]]:
    """At most ``count`` withheld blobs whose repository and digest come after those."""
    values = {"id": after[0], "digest": after[1], "count": count}
    rows = connection.execute(_PAGE, values)
    return rows.later(lambda rows: [SeenRow(row[0], row[1], bool(row[2])) for row in rows])


def collected(rows: Iterable[WithheldRow]) -> Withheld:
    """The references of these rows."""
    found = list(rows)
    return Withheld(
        frozenset(Digest(row.digest) for row in found if row.kind == BLOB),
        frozenset(Digest(row.digest) for row in found if row.kind == MANIFEST),
    )


def _values(repository_id: int, withheld: Withheld) -> Iterator[dict[str, object]]:
    """In one order, in which every transaction takes these rows."""
    for kind, digests in ((BLOB, withheld.blobs), (MANIFEST, withheld.manifests)):
        for digest in sorted(digests):
            yield {"repository": repository_id, "digest": digest, "kind": kind}

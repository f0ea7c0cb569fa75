"""All that a repository has, in few statements: for whoever writes it down somewhere else."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from registry.database.statement import Statement

if TYPE_CHECKING:
    from registry.database.transaction import Transaction


class HeldRow(NamedTuple):
    """A blob that a repository has, manifests too."""

    digest: str
    size: int
    """Bytes."""
    state: str


class NamedRow(NamedTuple):
    """What one manifest of a repository names."""

    manifest: str
    digest: str
    kind: str
    """One of ``manifests.BLOB``, ``OPTIONAL``, ``MANIFEST`` and ``FORMER``."""


class LostRow(NamedTuple):
    """A place that was found gone or wrong."""

    key: str
    signature: str
    """At which it was."""


_NEEDING = Statement(
    "SELECT r.name FROM repository r JOIN membership m ON m.repository_id = r.id WHERE m.blob_id = :blob AND"
    " (EXISTS (SELECT 1 FROM reference f WHERE f.repository_id = r.id AND f.digest = :digest)"
    " OR EXISTS (SELECT 1 FROM manifest f WHERE f.repository_id = r.id AND f.blob_id = m.blob_id))"
    " ORDER BY r.name LIMIT 1"
)
_HELD = Statement(
    "SELECT b.digest, b.size, b.state FROM membership m JOIN blob b ON b.id = m.blob_id"
    " WHERE m.repository_id = :repository ORDER BY b.digest"
)
_NAMED = Statement(
    "SELECT b.digest, r.digest, r.kind FROM reference r JOIN blob b ON b.id = r.manifest_id"
    " WHERE r.repository_id = :repository ORDER BY b.digest, r.digest"
)
# Nearly every place is of one store, which is no way to look for it: an expression keeps a database from trying.
_LOST = Statement(
    "SELECT l.key, l.signature FROM membership m"
    " JOIN blob_location l ON l.blob_id = m.blob_id AND l.store || '' = :store"
    " WHERE m.repository_id = :repository AND l.state = 'lost' ORDER BY l.key"
)


def held(connection: Transaction, repository_id: int) -> list[HeldRow]:
    """Every blob of a repository, by digest."""
    return [HeldRow(*row) for row in connection.execute(_HELD, {"repository": repository_id})]


def named(connection: Transaction, repository_id: int) -> list[NamedRow]:
    """Everything that the manifests of a repository name, by manifest."""
    return [NamedRow(*row) for row in connection.execute(_NAMED, {"repository": repository_id})]


def lost(connection: Transaction, repository_id: int, *, store: str) -> list[LostRow]:
    """The places of a repository's blobs that are not read any more, by key."""
    return [LostRow(*row) for row in connection.execute(_LOST, {"repository": repository_id, "store": store})]


def needing(connection: Transaction, blob_id: int, digest: str) -> str | None:
    """The first repository that has the blob as a manifest, or in a manifest that names it; None: nobody needs it."""
    return next(iter(connection.execute(_NEEDING, {"blob": blob_id, "digest": digest}).scalars()), None)

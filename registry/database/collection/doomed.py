"""Rows of what is out of use, and since when (proposal 0013).

A row is the first sighting of something that was out of use and stayed so: triggers remove it when a use ends (see
``registry.database.collection.doom_triggers``). It says nothing of a use that has begun since: what acts on a row asks
again, in a transaction that has locked the repository, or the blob where no repository has it.

Ages are by the database's wall clock, as are the times that they are counted from.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from registry.database.blobs import LEASE_LEFT
from registry.database.memberships import MADE
from registry.database.statement import Statement

if TYPE_CHECKING:
    from collections.abc import Sequence

    from registry.database.transaction import Later, Row, Transaction

UNHELD = 0
"""The repository of a row that is about a blob which no repository has."""
START = (-1, -1)
"""Before every member of a repository."""


class MemberRow(NamedTuple):
    """A member of a repository that was out of use when its row was made."""

    repository_id: int
    repository: str
    """Its name."""
    blob_id: int
    digest: str
    size: int
    """Bytes."""
    age: float
    """Seconds since its first sighting."""
    lease_left: float
    """As BlobRow has it."""
    is_manifest: bool
    idle: float
    """Seconds since a manifest was last pushed or pulled; 0 for a blob."""
    is_used: bool
    """It is in use, or no member any more: the row is to go."""
    is_found: bool
    """A tool has put it into the directory of the repository, and no client has deleted what named it."""

    @property
    def place(self) -> tuple[int, int]:
        """Where it stands in the order of rows."""
        return self.repository_id, self.blob_id


class BlobRow(NamedTuple):
    """A blob that no repository had when its row was made."""

    blob_id: int
    digest: str
    size: int
    """Bytes."""
    age: float
    """Seconds since its first sighting."""
    lease_left: float
    """As ``blobs.BlobRow`` has it."""
    is_held: bool
    """A repository has it, or it is gone: the row is to go."""
    removed_at: float
    """When the last manifest of the trash was deleted that is it or names it (seconds since the epoch); 0: none."""


# b, m: a blob and its membership. o: the manifest, if it is one.
_IS_NAMED = "EXISTS (SELECT 1 FROM reference r WHERE r.repository_id = m.repository_id AND r.digest = b.digest{kinds})"
_IS_MANIFEST_USED = (
    "EXISTS (SELECT 1 FROM tag t WHERE t.repository_id = m.repository_id AND t.blob_id = m.blob_id)"  # noqa: S608
    f" OR {_IS_NAMED.format(kinds=' AND r.kind <> {former}')}"
    " OR EXISTS (SELECT 1 FROM blob s JOIN manifest h ON h.blob_id = s.id"
    " WHERE s.digest = o.subject AND h.repository_id = m.repository_id)"
).replace("{former}", "'former'")
_IS_USED = f"CASE WHEN o.blob_id IS NULL THEN {_IS_NAMED.format(kinds='')} ELSE {_IS_MANIFEST_USED} END"
_MANIFEST = "LEFT JOIN manifest o ON o.repository_id = m.repository_id AND o.blob_id = m.blob_id"
_JUDGED = (
    "SELECT d.repository_id, n.name, d.blob_id, b.digest, b.size, wall_now() - d.since,"  # noqa: S608 - constant
    f" {LEASE_LEFT}, CASE WHEN o.blob_id IS NULL THEN 0 ELSE 1 END,"
    " CASE WHEN o.blob_id IS NULL THEN 0 ELSE wall_now() - greatest(o.pushed_at, coalesce(o.pulled_at, 0)) END,"
    f" CASE WHEN m.blob_id IS NULL OR {_IS_USED} THEN 1 ELSE 0 END, CASE WHEN {MADE} THEN 0 ELSE 1 END"
    " FROM {doomed} d JOIN repository n ON n.id = d.repository_id JOIN blob b ON b.id = d.blob_id"
    f" LEFT JOIN membership m ON m.repository_id = d.repository_id AND m.blob_id = d.blob_id {_MANIFEST}"
)
_PAGE = (
    "(SELECT p.repository_id, p.blob_id, p.since FROM doomed p WHERE {place}"
    " ORDER BY p.repository_id, p.blob_id LIMIT :count)"
)
"""Cut before anything is joined to it: a planner that began with what is joined would sort all rows for each page."""
_PLACED = _JUDGED.replace("{doomed}", _PAGE.format(place="(p.repository_id, p.blob_id) > (:repository, :blob)"))
_MEMBERS = Statement(f"{_PLACED} ORDER BY d.repository_id, d.blob_id")
_MEMBERS_AGAIN = Statement(
    f"{_JUDGED.replace('{doomed}', 'doomed')} WHERE d.repository_id = :repository AND d.blob_id IN :blobs"
    " ORDER BY d.blob_id",
    expanding="blobs",
)
_IS_HELD = (
    "EXISTS (SELECT 1 FROM membership m WHERE m.blob_id = b.id)"
    " OR EXISTS (SELECT 1 FROM manifest m WHERE m.blob_id = b.id)"
)
_REMOVED_AT = (
    "greatest(coalesce((SELECT max(t.removed_at) FROM trash_manifest t WHERE t.blob_id = b.id), 0),"
    " coalesce((SELECT max(t.removed_at) FROM trash_reference x JOIN trash_manifest t"
    " ON t.repository_id = x.repository_id AND t.blob_id = x.manifest_id WHERE x.digest = b.digest), 0))"
)
_JUDGED_BLOBS = (
    f"SELECT d.blob_id, b.digest, b.size, wall_now() - d.since, {LEASE_LEFT},"  # noqa: S608 - constant
    f" CASE WHEN b.state = 'gone' OR {_IS_HELD} THEN 1 ELSE 0 END, {_REMOVED_AT}"
    " FROM {doomed} d JOIN blob b ON b.id = d.blob_id"
)
_PLACED_BLOBS = _JUDGED_BLOBS.replace("{doomed}", _PAGE.format(place="p.repository_id = 0 AND p.blob_id > :after"))
_BLOBS = Statement(f"{_PLACED_BLOBS} ORDER BY d.blob_id")
_BLOBS_AGAIN = Statement(
    f"{_JUDGED_BLOBS.replace('{doomed}', 'doomed')} WHERE d.repository_id = 0 AND d.blob_id IN :blobs"
    " ORDER BY d.blob_id",
    expanding="blobs",
)
_MEMBERSHIPS_END = Statement(
    "SELECT repository_id, blob_id FROM membership WHERE (repository_id, blob_id) > (:repository, :blob)"
    " ORDER BY repository_id, blob_id LIMIT 1 OFFSET :count"
)
_UNUSED = (
    f"FROM membership m JOIN blob b ON b.id = m.blob_id {_MANIFEST}"  # noqa: S608 - constant
    " WHERE {place} AND NOT EXISTS (SELECT 1 FROM doomed d"
    " WHERE d.repository_id = m.repository_id AND d.blob_id = m.blob_id)"
    f" AND NOT ({_IS_USED})"
)
_FOUND = "SELECT m.repository_id, m.blob_id, b.digest, b.size, CASE WHEN o.blob_id IS NULL THEN 0 ELSE 1 END"
_UNUSED_PAGE = Statement(
    f"{_FOUND} "
    + _UNUSED.format(
        place="(m.repository_id, m.blob_id) > (:repository, :blob)"
        " AND (m.repository_id, m.blob_id) <= (:last_repository, :last_blob)"
    )
    + " ORDER BY m.repository_id, m.blob_id"
)
_UNUSED_REST = Statement(
    f"{_FOUND} "
    + _UNUSED.format(place="(m.repository_id, m.blob_id) > (:repository, :blob)")
    + " ORDER BY m.repository_id, m.blob_id"
)
_DOOM = Statement(
    "INSERT INTO doomed (repository_id, blob_id, since) SELECT m.repository_id, m.blob_id, wall_now() "
    + _UNUSED.format(place="m.repository_id = :repository AND m.blob_id IN :blobs")
    + " ON CONFLICT DO NOTHING",
    expanding="blobs",
)
_BLOBS_END = Statement("SELECT id FROM blob WHERE id > :after ORDER BY id LIMIT 1 OFFSET :count")
_IS_UNHELD = (
    "b.state <> 'gone' AND NOT EXISTS"  # noqa: S608 - constant
    " (SELECT 1 FROM doomed d WHERE d.repository_id = 0 AND d.blob_id = b.id)"
    f" AND NOT ({_IS_HELD})"
)
_UNHELD_PAGE = Statement(
    f"SELECT b.id, b.digest, b.size FROM blob b WHERE b.id > :after AND b.id <= :last AND {_IS_UNHELD} ORDER BY b.id"  # noqa: S608
)
_UNHELD_REST = Statement(
    f"SELECT b.id, b.digest, b.size FROM blob b WHERE b.id > :after AND {_IS_UNHELD} ORDER BY b.id"  # noqa: S608
)
_DOOM_UNHELD = Statement(
    "INSERT INTO doomed (repository_id, blob_id, since) SELECT 0, b.id, wall_now() - :age FROM blob b"  # noqa: S608
    f" WHERE b.id IN :blobs AND {_IS_UNHELD} ON CONFLICT DO NOTHING",
    expanding="blobs",
)
_FORGET = Statement(
    "DELETE FROM doomed WHERE repository_id = :repository AND blob_id IN"
    " (SELECT d.blob_id FROM doomed d WHERE d.repository_id = :repository AND d.blob_id IN :blobs"
    " FOR UPDATE SKIP LOCKED)",
    expanding="blobs",
    sqlite=(" FOR UPDATE SKIP LOCKED", ""),
)
_OLDEST = Statement("SELECT wall_now() - min(since), count(*) FROM doomed")


class FoundRow(NamedTuple):
    """A member of a repository that is out of use and has no row yet."""

    repository_id: int
    blob_id: int
    digest: str
    size: int
    """Bytes."""
    is_manifest: bool


class UnheldRow(NamedTuple):
    """A blob that no repository has, and without a row yet."""

    blob_id: int
    digest: str
    size: int
    """Bytes."""


def members(connection: Transaction, *, after: tuple[int, int], count: int) -> Later[list[MemberRow]]:
    """At most ``count`` rows of members after that place, as they are judged now."""
    values = {"repository": max(after[0], UNHELD), "blob": after[1] if after[0] > UNHELD else 1 << 62, "count": count}
    return connection.execute(_MEMBERS, values).all_as(MemberRow)


def members_again(connection: Transaction, repository_id: int, blob_ids: Sequence[int]) -> Later[list[MemberRow]]:
    """As ``members``, of these in a repository, which is locked; their blobs are locked too."""
    return connection.execute(_MEMBERS_AGAIN, {"repository": repository_id, "blobs": blob_ids}).all_as(MemberRow)


def blobs(connection: Transaction, *, after: int, count: int) -> Later[list[BlobRow]]:
    """At most ``count`` rows of blobs of ids above ``after`` that no repository had, as they are judged now."""
    return connection.execute(_BLOBS, {"after": after, "count": count}).all_as(BlobRow)


def blobs_again(connection: Transaction, blob_ids: Sequence[int]) -> Later[list[BlobRow]]:
    """As ``blobs``, of these, which are locked."""
    return connection.execute(_BLOBS_AGAIN, {"blobs": blob_ids}).all_as(BlobRow)


def unused(
    connection: Transaction, *, after: tuple[int, int], count: int
) -> tuple[list[FoundRow], tuple[int, int] | None]:
    """Members out of use that are not doomed among the next ``count`` after that place, and the place that is next.

    None after the last one.
    """
    values = {"repository": after[0], "blob": after[1]}
    last = connection.execute(_MEMBERSHIPS_END, {**values, "count": count - 1}).first()
    if last is None:
        return connection.execute(_UNUSED_REST, values).all_as(FoundRow).get(), None
    found = connection.execute(_UNUSED_PAGE, {**values, "last_repository": last[0], "last_blob": last[1]})
    return found.all_as(FoundRow).get(), (last[0], last[1])


def doom(connection: Transaction, repository_id: int, blob_ids: Sequence[int]) -> int:
    """Note that these members are out of use from now, if they are. The repository is locked. Returns how many."""
    return connection.execute(_DOOM, {"repository": repository_id, "blobs": blob_ids}).rowcount


def unheld(connection: Transaction, *, after: int, count: int) -> tuple[list[UnheldRow], int | None]:
    """Blobs that no repository has and that are not doomed among the next ``count``, and the id to go on after.

    None after the last one.
    """
    last = connection.execute(_BLOBS_END, {"after": after, "count": count - 1}).first()
    if last is None:
        return connection.execute(_UNHELD_REST, {"after": after}).all_as(UnheldRow).get(), None
    found = connection.execute(_UNHELD_PAGE, {"after": after, "last": last[0]})
    return found.all_as(UnheldRow).get(), last[0]


def doom_unheld(connection: Transaction, blob_ids: Sequence[int], *, age: float = 0.0) -> int:
    """Note that no repository has these blobs, if none has. They are locked. Returns how many.

    ``age`` is for how many seconds each has been out of use for certain.
    """
    return connection.execute(_DOOM_UNHELD, {"blobs": blob_ids, "age": age}).rowcount


def forget(connection: Transaction, repository_id: int, blob_ids: Sequence[int]) -> None:
    """Forget rows of a repository, or of UNHELD, but those that another transaction has in hand.

    The triggers of a client's transaction remove rows in any order: two that wait for each other would fail one.
    """
    connection.execute(_FORGET, {"repository": repository_id, "blobs": blob_ids})


def oldest(connection: Transaction) -> Later[tuple[float | None, int]]:
    """The age of the oldest row, None if there is none, and the number of rows."""
    return connection.execute(_OLDEST, {}).later(lambda rows: _pair(rows.one()))


def _pair(row: Row) -> tuple[float | None, int]:
    age, count = row
    return age, count

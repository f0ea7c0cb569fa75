"""*Mirror tags*: rows of what an upstream has said of a tag, and when it may be asked again.

The tag itself is a row of ``registry.database.tags``: that of a mirror moves only to an answer whose request began
after those of all answers that came before, so that a late one never undoes a newer one. A row says nothing of a tag
that points at another digest than it has. Moments are by the wall clock of the database; one that lies in the future,
as after a clock was set back, is none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from registry.database.statement import Statement

if TYPE_CHECKING:
    from registry.database.transaction import Later, Transaction

LONGEST: Final = 600.0
"""Seconds for which no process asks again, at most: a later moment was written by another clock."""

_FIND = Statement(
    "SELECT b.digest, t.sequence, wall_now() - t.updated_at, coalesce(m.checked_at, 0),"
    " CASE WHEN m.digest = b.digest THEN wall_now() - m.checked_at END,"
    " CASE WHEN m.digest = b.digest THEN m.etag END,"
    " coalesce(m.next_at, 0) - wall_now(), coalesce(m.fails, 0), CASE WHEN m.gone_at IS NULL THEN 0 ELSE 1 END"
    " FROM tag t JOIN blob b ON b.id = t.blob_id"
    " LEFT JOIN mirror_tag m ON m.repository_id = t.repository_id AND m.name = t.name"
    " WHERE t.repository_id = :repository AND t.name = :name"
)
_CLAIM = Statement(
    "INSERT INTO mirror_tag (repository_id, name, next_at) VALUES (:repository, :name, wall_now() + :seconds)"
    " ON CONFLICT (repository_id, name) DO UPDATE SET next_at = excluded.next_at"
    " WHERE mirror_tag.checked_at = :checked"
    " AND (mirror_tag.next_at <= wall_now() OR mirror_tag.next_at > wall_now() + :longest)"
    " RETURNING wall_now()"
)
_NOW = Statement("SELECT wall_now()")
_IS_NEWER = (
    "(mirror_tag.checked_at < :started OR mirror_tag.checked_at > wall_now())"
    " AND (mirror_tag.gone_at IS NULL OR mirror_tag.gone_at < :started OR mirror_tag.gone_at > wall_now())"
)
_CONFIRM = Statement(
    "INSERT INTO mirror_tag (repository_id, name, digest, etag, checked_at)"  # noqa: S608 - a constant
    " VALUES (:repository, :name, :digest, :etag, :started)"
    " ON CONFLICT (repository_id, name) DO UPDATE SET digest = excluded.digest, etag = excluded.etag,"
    f" checked_at = excluded.checked_at, next_at = 0, fails = 0, gone_at = NULL WHERE {_IS_NEWER}"
)
_MISS = Statement(
    "UPDATE mirror_tag SET gone_at = :started, next_at = wall_now() + :seconds, fails = 0"  # noqa: S608 - a constant
    f" WHERE repository_id = :repository AND name = :name AND {_IS_NEWER}"
)
_FAIL = Statement(
    "UPDATE mirror_tag SET fails = fails + 1, next_at = wall_now() + :seconds"  # noqa: S608 - a constant
    f" WHERE repository_id = :repository AND name = :name AND {_IS_NEWER}"
)
_PAGE = Statement(
    "SELECT m.repository_id, m.name, CASE WHEN EXISTS (SELECT 1 FROM tag t"
    " WHERE t.repository_id = m.repository_id AND t.name = m.name) THEN 1 ELSE 0 END FROM mirror_tag m"
    " WHERE (m.repository_id, m.name) > (:repository, :name) ORDER BY m.repository_id, m.name LIMIT :count"
)
_REMOVE = Statement("DELETE FROM mirror_tag WHERE repository_id = :repository AND name = :name")

Place = tuple[int, str]
"""A repository and a tag: how far an expiry is."""
BEGINNING: Final[Place] = (0, "")


class MirrorTagRow(NamedTuple):
    """A tag that is here, with what is known of it upstream."""

    digest: str
    """The manifest that it points at here."""
    sequence: int
    """The change that set it."""
    age_here: float
    """Seconds since it was set here."""
    checked_at: float
    """The start of the last answer's request; for ``claim``."""
    age: float | None
    """Seconds since the upstream last said that it is this manifest, from the start of the request; None if unknown."""
    etag: str | None
    """What the upstream called it then; None if it did not."""
    wait: float
    """Seconds until a process may ask the upstream; not positive if one may now."""
    fails: int
    """Requests in a row that gave no answer."""
    is_gone: int
    """1 if the last answer was that there is no such tag."""

    @property
    def may_ask(self) -> bool:
        """Whether a process may ask the upstream now."""
        return not 0 < self.wait <= LONGEST


def find(connection: Transaction, repository_id: int, name: str) -> Later[MirrorTagRow | None]:
    """A tag that is here, or None."""
    return connection.execute(_FIND, {"repository": repository_id, "name": name}).first_as(MirrorTagRow)


def claim(connection: Transaction, repository_id: int, name: str, *, checked_at: float, seconds: float) -> float | None:
    """Be the process that asks the upstream for a tag, for so long. The moment of it, with which the answer is noted.

    None if another process asks, or has had an answer since ``checked_at`` was read.
    """
    values = {"repository": repository_id, "name": name, "checked": float(checked_at)}
    row = connection.execute(_CLAIM, {**values, "seconds": _bounded(seconds), "longest": LONGEST}).first()
    return None if row is None else float(row[0])


def now(connection: Transaction) -> float:
    """The moment, for the request for a tag that is not here."""
    moment: float = connection.execute(_NOW, {}).one()[0]
    return moment


def confirm(
    connection: Transaction, repository_id: int, name: str, *, digest: str, etag: str | None, started: float
) -> Later[bool]:
    """Note an answer that a tag is this manifest. False, and nothing is noted, if a newer answer has come.

    In the transaction that moves the tag, with the repository locked; by itself where the tag points at it already.
    """
    values = {"repository": repository_id, "name": name, "digest": digest, "etag": etag, "started": float(started)}
    return connection.execute(_CONFIRM, values).later(lambda rows: bool(rows.rowcount))


def miss(connection: Transaction, repository_id: int, name: str, *, started: float, seconds: float) -> bool:
    """Note an answer that there is no such tag, and that no process asks for so long. False as for ``confirm``.

    No pause here is longer than LONGEST.
    """
    values = {"repository": repository_id, "name": name, "started": float(started), "seconds": _bounded(seconds)}
    return bool(connection.execute(_MISS, values).rowcount)


def fail(connection: Transaction, repository_id: int, name: str, *, started: float, seconds: float) -> bool:
    """Note a request that gave no answer, and that no process asks for so long. False as for ``confirm``."""
    values = {"repository": repository_id, "name": name, "started": float(started), "seconds": _bounded(seconds)}
    return bool(connection.execute(_FAIL, values).rowcount)


def remove_left(connection: Transaction, after: Place, *, count: int) -> Place | None:
    """Forget what is known of tags that are not here any more, among ``count`` rows behind a place.

    The place to go on from; None at the end. A row that is forgotten by mistake costs one more request.
    """
    rows = connection.execute(_PAGE, {"repository": after[0], "name": after[1], "count": count}).all()
    left = [{"repository": row[0], "name": row[1]} for row in rows if not row[2]]
    connection.execute_many(_REMOVE, left)
    return (rows[-1][0], rows[-1][1]) if len(rows) == count else None


def _bounded(seconds: float) -> float:
    return float(min(seconds, LONGEST))

"""Rows of repositories that a collection has found empty, and since when they have been so without a break.

A row is the first sighting; a trigger removes it when a membership ends (see
``registry.database.collection.doom_triggers``). A repository with ``hidden`` in its row is in no list before it gets a
member, whatever release gives it one. A trigger writes ``hidden`` into the row of the repository too, so that a list
passes over none, and another one notes those that get a member.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from registry.database.statement import Statement

if TYPE_CHECKING:
    from collections.abc import Sequence

    from registry.database.transaction import Later, Row, Transaction

BEFORE_ALL: Final = -1
"""Before the id of every repository."""


class EmptyRow(NamedTuple):
    """A repository that was empty when its row was made, and that lists still have."""

    id: int
    name: str
    age: float
    """Seconds since its first sighting."""
    is_bare: bool
    """No change was ever recorded of it, and nothing was written of it that is known."""
    is_empty: bool
    """It still is; else the row is to go."""


class SightedRow(NamedTuple):
    """A repository that is empty, and that has no row yet."""

    id: int
    name: str


_HAS = "(SELECT 1 FROM {table} x WHERE x.repository_id = r.id LIMIT 1) IS NOT NULL"
"""No EXISTS, for which PostgreSQL may read a whole table once."""
_IS_EMPTY = " AND ".join(
    (
        "r.sequence >= 0 AND r.folded = r.sequence AND r.missing = 0",
        *(
            f"NOT ({_HAS.format(table=table)})"
            for table in ("membership", "manifest", "tag", "trash_manifest", "withheld", "change")
        ),
    )
)
_JUDGED = (
    "SELECT r.id, r.name, wall_now() - e.since, CASE WHEN r.sequence = 0 AND r.signature = '' THEN 1 ELSE 0 END,"  # noqa: S608 - constant
    f" CASE WHEN {_IS_EMPTY} THEN 1 ELSE 0 END"
    " FROM {rows} e JOIN repository r ON r.id = e.repository_id"
)
_CUT = (
    "(SELECT p.repository_id, p.since FROM empty_repository p WHERE p.repository_id > :after AND p.hidden = 0"
    " ORDER BY p.repository_id LIMIT :count)"
)
_PAGE = Statement(_JUDGED.format(rows=_CUT) + " ORDER BY r.id")
_AGAIN = Statement(_JUDGED.format(rows="empty_repository") + " WHERE e.repository_id = :id AND e.hidden = 0")
_END = Statement("SELECT id FROM repository WHERE id > :after ORDER BY id LIMIT 1 OFFSET :count")
_UNSIGHTED = (
    "SELECT r.id, r.name FROM repository r WHERE r.id > :after{until}"  # noqa: S608 - constant
    f" AND NOT ({_HAS.format(table='empty_repository')}) AND {_IS_EMPTY} ORDER BY r.id"
)
_UNSIGHTED_PAGE = Statement(_UNSIGHTED.format(until=" AND r.id <= :last"))
_UNSIGHTED_REST = Statement(_UNSIGHTED.format(until=""))
_NOTE = Statement(
    "INSERT INTO empty_repository (repository_id, since) SELECT r.id, wall_now() FROM repository r"  # noqa: S608 - constant
    f" WHERE r.id IN :repositories AND {_IS_EMPTY} ON CONFLICT DO NOTHING",
    expanding="repositories",
)
_HIDE = Statement("UPDATE empty_repository SET hidden = 1 WHERE repository_id = :id")
_LISTED_AGAIN = Statement("SELECT DISTINCT repository_id FROM listed_again ORDER BY repository_id LIMIT :count")
_SHOW = Statement("DELETE FROM empty_repository WHERE repository_id = :id AND hidden = 1")
_SHOWN = Statement("DELETE FROM listed_again WHERE repository_id = :id")
_FORGET = Statement("DELETE FROM empty_repository WHERE repository_id = :id")


def page(connection: Transaction, *, after: int, count: int) -> Later[list[EmptyRow]]:
    """At most ``count`` rows of repositories of ids above ``after`` that lists have, as they are judged now."""
    return connection.execute(_PAGE, {"after": after, "count": count}).later(
        lambda rows: [_judged(row) for row in rows.all()]
    )


def again(connection: Transaction, repository_id: int) -> Later[EmptyRow | None]:
    """As ``page``, of one repository, which is locked; None if it has no such row any more."""
    return connection.execute(_AGAIN, {"id": repository_id}).later(
        lambda rows: None if (row := rows.first()) is None else _judged(row)
    )


def unsighted(connection: Transaction, *, after: int, count: int) -> tuple[list[SightedRow], int | None]:
    """Those without a row among the next ``count`` repositories that are empty, and the id to go on after.

    None after the last one.
    """
    last = connection.execute(_END, {"after": after, "count": count - 1}).first()
    if last is None:
        return connection.execute(_UNSIGHTED_REST, {"after": after}).all_as(SightedRow).get(), None
    found = connection.execute(_UNSIGHTED_PAGE, {"after": after, "last": last[0]})
    return found.all_as(SightedRow).get(), last[0]


def note(connection: Transaction, repository_ids: Sequence[int]) -> None:
    """Note that these, at most BATCH, are empty from now, if they are. They are locked."""
    connection.execute(_NOTE, {"repositories": repository_ids})


def hide(connection: Transaction, repository_id: int) -> None:
    """Leave a repository out of lists until it gets a member. It is locked alone."""
    connection.execute(_HIDE, {"id": repository_id})
    connection.execute(_SHOWN, {"id": repository_id})


def listed_again(connection: Transaction, *, count: int) -> Later[list[int]]:
    """The ids of at most ``count`` hidden repositories that got a member: each call of a list looks at all of these."""
    return connection.execute(_LISTED_AGAIN, {"count": count}).all_as(int)


def show(connection: Transaction, repository_id: int) -> None:
    """End the hiding of one of ``listed_again``, which lists have already. It is locked."""
    connection.execute(_SHOW, {"id": repository_id})
    connection.execute(_SHOWN, {"id": repository_id})


def forget(connection: Transaction, repository_id: int) -> None:
    """Forget since when a repository is empty. It is locked."""
    connection.execute(_FORGET, {"id": repository_id})


def _judged(row: Row) -> EmptyRow:
    number, name, age, is_bare, is_empty = row
    return EmptyRow(number, name, age, bool(is_bare), bool(is_empty))

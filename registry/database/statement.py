"""SQL statements, written once with ``:name`` parameters, for SQLite and for PostgreSQL.

SQLAlchemy does not execute them: that would cost ten times what SQLite itself does for one of our rows. SQLite binds a
``Digest`` as text only after a search for its adapter; the queries of a push give it a plain string.

Tests: ``tests/database/test_query_plans.py``.
"""

from __future__ import annotations

import re
from operator import itemgetter
from typing import TYPE_CHECKING, Any, TypeVar

from registry.database.clock import PLACES, POSTGRESQL, readings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from registry.clocks import Clocks

    Pick = Callable[[Mapping[str, Any]], tuple[Any, ...]]
    """Makes of values by name what stands at the places of a statement."""

T = TypeVar("T")

BATCH = 500
"""Items of one ``IN`` at most: PostgreSQL and SQLite both bound the parameters of a statement."""
SQLITE = {"greatest(": "max("}
"""What SQLite has in the place of what PostgreSQL calls otherwise."""
_NAME = re.compile(r"(?<![:\w]):(\w+)")


class Statement:
    """One statement. Immutable but for the forms that it remembers; any thread."""

    def __init__(
        self,
        sql: str,
        *,
        expanding: str | None = None,
        locking: str | None = None,
        holding: str | None = None,
        excluding: str | None = None,
        sqlite: tuple[str, str] | None = None,
        reads_clocks_first: bool = False,
    ) -> None:
        """``expanding`` names the parameter of an ``IN :name`` that takes a list.

        ``locking`` names the table whose selected rows are kept from other writers until the transaction ends;
        ``holding`` one whose selected rows are only kept from being deleted; ``excluding`` one whose selected rows are
        kept from both, so that it waits for transactions that hold them, and they for it. SQLite needs no word for it:
        its write transactions go one after the other. ``sqlite`` is a piece of the text, and what SQLite has in its
        place. ``reads_clocks_first``: SQLite is given the time as values. Each function of it would take the
        interpreter from another thread in the middle of the statement; use it where the time at its beginning will do.
        """
        self._sql = sql
        self._expanding = expanding
        self._sqlite = sqlite
        words = {**SQLITE, **PLACES} if reads_clocks_first else SQLITE
        self._text = _replaced(sql.replace(*sqlite) if sqlite is not None else sql, words)
        self._reads_clocks = reads_clocks_first
        strengths = {"NO KEY UPDATE": locking, "KEY SHARE": holding, "UPDATE": excluding}
        self._locking = "".join(f" FOR {strength} OF {table}" for strength, table in strengths.items() if table)
        self._placed: dict[int, tuple[str, Pick]] = {}
        self._numbered: dict[int, tuple[str, list[str]]] = {}

    def placed(self, values: Mapping[str, Any], clocks: Clocks) -> tuple[str, tuple[Any, ...]]:
        """The statement for SQLite, with ``?`` at each place of a parameter, and what stands there.

        Python's module looks up each parameter that has a name, and lets other threads go on meanwhile.
        """
        if self._reads_clocks:
            values = {**values, **readings(clocks)}
        if self._expanding is None:
            sql, pick = self._placed.get(0) or self._places(0)
            return sql, pick(values)
        sql, pick = self._places(len(values[self._expanding]))
        return sql, pick(self._spread_values(values))

    def placed_many(self, rows: Sequence[Mapping[str, Any]]) -> tuple[str, list[tuple[Any, ...]]]:
        """As ``placed`` for each of ``rows``, of a statement that takes no list and reads no clocks first."""
        sql, pick = self._places(0)
        return sql, [pick(row) for row in rows]

    def numbered(self, values: Mapping[str, Any]) -> tuple[str, list[Any]]:
        """The statement for PostgreSQL itself, with ``$1`` and so on, and its values in that order."""
        count = 0
        if self._expanding is not None:
            count = len(values[self._expanding])
            values = self._spread_values(values)
        form = self._numbered.get(count)
        if form is None:
            form = self._numbered[count] = _number(
                _replaced(self._spread(self._sql, count), POSTGRESQL) + self._locking
            )
        sql, names = form
        return sql, [values[name] for name in names]

    def _places(self, count: int) -> tuple[str, Pick]:
        form = self._placed.get(count)
        if form is None:
            form = self._placed[count] = _place(self._spread(self._text, count))
        return form

    def _spread_values(self, values: Mapping[str, Any]) -> Mapping[str, Any]:
        items: Sequence[Any] = values[self._expanding or ""]
        return {**values, **{f"{self._expanding}_{position}": item for position, item in enumerate(items)}}

    def _spread(self, sql: str, count: int) -> str:
        if self._expanding is None:
            return sql
        names = ", ".join(f":{self._expanding}_{position}" for position in range(count)) or "NULL"
        return sql.replace(f"IN :{self._expanding}", f"IN ({names})")


def _replaced(sql: str, words: Mapping[str, str]) -> str:
    for word, other in words.items():
        sql = sql.replace(word, other)
    return sql


def batches(items: Sequence[T]) -> Iterator[Sequence[T]]:
    """``items`` in parts of at most BATCH."""
    return (items[start : start + BATCH] for start in range(0, len(items), BATCH))


def _place(sql: str) -> tuple[str, Pick]:
    """``:name`` becomes ``?``, however often; and what takes the values of all places."""
    names, text = _NAME.findall(sql), _NAME.sub("?", sql)
    if not names:
        return text, lambda _values: ()
    if len(names) > 1:
        return text, itemgetter(*names)
    (name,) = names
    return text, lambda values: (values[name],)


def _number(sql: str) -> tuple[str, list[str]]:
    """``:name`` becomes ``$1``, each name one number; the names in their order."""
    names: list[str] = []

    def number(found: re.Match[str]) -> str:
        if found[1] not in names:
            names.append(found[1])
        return f"${names.index(found[1]) + 1}"

    return _NAME.sub(number, sql), names

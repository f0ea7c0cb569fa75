"""SQL statements, written once with ``:name`` parameters and compiled once for each dialect.

SQLAlchemy compiles them (so that one text serves SQLite and PostgreSQL) but does not execute them: its execution costs
ten times what SQLite itself does for one of our rows.

Tests: ``tests/database/test_query_plans.py``.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from sqlalchemy import Dialect

T = TypeVar("T")

BATCH = 500
"""Items of one ``IN`` at most: PostgreSQL and SQLite both bound the parameters of a statement."""
_NAME = re.compile(r"(?<![:\w]):(\w+)")


class Statement:
    """One statement. Immutable but for what it remembers of its compiled forms; any thread."""

    def __init__(
        self,
        sql: str,
        *,
        expanding: str | None = None,
        locking: str | None = None,
        holding: str | None = None,
        excluding: str | None = None,
    ) -> None:
        """``expanding`` names the parameter of an ``IN :name`` that takes a list.

        ``locking`` names the table whose selected rows are kept from other writers until the transaction ends;
        ``holding`` one whose selected rows are only kept from being deleted; ``excluding`` one whose selected rows are
        kept from both, so that it waits for transactions that hold them, and they for it. SQLite needs no word for it:
        its write transactions go one after the other.
        """
        self._sql = sql
        self._expanding = expanding
        strengths = {"NO KEY UPDATE": locking, "KEY SHARE": holding, "UPDATE": excluding}
        self._locking = "".join(f" FOR {strength} OF {table}" for strength, table in strengths.items() if table)
        self._compiled: dict[tuple[str, int], str] = {}
        self._numbered: dict[int, tuple[str, list[str]]] = {}

    def compile(self, dialect: Dialect, values: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
        """The statement for the DBAPI of ``dialect``, and its values."""
        if self._expanding is None:
            return self._form(dialect, 0), values
        items: Sequence[Any] = values[self._expanding]
        spread = {f"{self._expanding}_{position}": item for position, item in enumerate(items)}
        return self._form(dialect, len(items)), {**values, **spread}

    def numbered(self, values: Mapping[str, Any]) -> tuple[str, list[Any]]:
        """The statement for PostgreSQL itself, with ``$1`` and so on, and its values in that order."""
        count = 0
        if self._expanding is not None:
            items: Sequence[Any] = values[self._expanding]
            count = len(items)
            values = {**values, **{f"{self._expanding}_{position}": item for position, item in enumerate(items)}}
        form = self._numbered.get(count)
        if form is None:
            form = self._numbered[count] = _number(self._spread(count) + self._locking)
        sql, names = form
        return sql, [values[name] for name in names]

    def _spread(self, count: int) -> str:
        if self._expanding is None:
            return self._sql
        names = ", ".join(f":{self._expanding}_{position}" for position in range(count)) or "NULL"
        return self._sql.replace(f"IN :{self._expanding}", f"IN ({names})")

    def _form(self, dialect: Dialect, count: int) -> str:
        form = self._compiled.get((dialect.name, count))
        if form is None:
            sql = self._spread(count)
            if dialect.name != "sqlite":
                sql += self._locking
            form = self._compiled[dialect.name, count] = str(text(sql).compile(dialect=dialect))
        return form


def batches(items: Sequence[T]) -> Iterator[Sequence[T]]:
    """``items`` in parts of at most BATCH."""
    return (items[start : start + BATCH] for start in range(0, len(items), BATCH))


def _number(sql: str) -> tuple[str, list[str]]:
    """``:name`` becomes ``$1``, each name one number; the names in their order."""
    names: list[str] = []

    def number(found: re.Match[str]) -> str:
        if found[1] not in names:
            names.append(found[1])
        return f"${names.index(found[1]) + 1}"

    return _NAME.sub(number, sql), names

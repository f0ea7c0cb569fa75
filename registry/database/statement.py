"""SQL statements, written once with ``:name`` parameters and compiled once for each dialect.

SQLAlchemy compiles them (so that one text serves SQLite and PostgreSQL) but does not execute them: its execution costs
ten times what SQLite itself does for one of our rows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy import Dialect


class Statement:
    """One statement. Immutable but for what it remembers of its compiled forms; any thread."""

    def __init__(
        self, sql: str, *, expanding: str | None = None, locking: str | None = None, holding: str | None = None
    ) -> None:
        """``expanding`` names the parameter of an ``IN :name`` that takes a list.

        ``locking`` names the table whose selected rows are kept from other writers until the transaction ends;
        ``holding`` one whose selected rows are only kept from being deleted. SQLite needs no word for it: its write
        transactions go one after the other.
        """
        self._sql = sql
        self._expanding = expanding
        self._locking = (
            f" FOR NO KEY UPDATE OF {locking}" if locking else f" FOR KEY SHARE OF {holding}" if holding else ""
        )
        self._compiled: dict[tuple[str, int], str] = {}

    def compile(self, dialect: Dialect, values: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
        """The statement for the DBAPI of ``dialect``, and its values."""
        if self._expanding is None:
            return self._form(dialect, 0), values
        items: Sequence[Any] = values[self._expanding]
        spread = {f"{self._expanding}_{position}": item for position, item in enumerate(items)}
        return self._form(dialect, len(items)), {**values, **spread}

    def _form(self, dialect: Dialect, count: int) -> str:
        form = self._compiled.get((dialect.name, count))
        if form is None:
            sql = self._sql
            if self._expanding is not None:
                names = ", ".join(f":{self._expanding}_{position}" for position in range(count)) or "NULL"
                sql = sql.replace(f"IN :{self._expanding}", f"IN ({names})")
            if dialect.name != "sqlite":
                sql += self._locking
            form = self._compiled[dialect.name, count] = str(text(sql).compile(dialect=dialect))
        return form

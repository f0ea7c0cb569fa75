"""*Lent databases*: PostgreSQL databases that one test after the other has, emptied in between.

To make a database takes the server twenty times as long as to empty one.

Tests: ``tests/support/test_lent_databases.py``.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import psycopg

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.postgresql import Cluster

_MOST_BYTES = 1 << 18
"""What was deleted stays in a table's file: a database with a larger one is not lent again."""
_OTHERS = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
_LARGEST = """
SELECT count(*) FROM pg_class
WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'i') AND pg_relation_size(oid) > %s
"""
_SHAPE = """
SELECT md5(string_agg(part, ' ' ORDER BY part)) FROM (
    SELECT concat_ws(' ', relname, relkind, relnatts, relhastriggers, reltuples) AS part
    FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind <> 'S'
    UNION ALL SELECT concat_ws(' ', attrelid::regclass, attname, atttypid, attnotnull)
    FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
    WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND attnum > 0
    UNION ALL SELECT concat_ws(' ', proname, md5(prosrc)) FROM pg_proc WHERE pronamespace = 'public'::regnamespace
    UNION ALL SELECT concat_ws(' ', tgrelid::regclass, tgname, tgenabled) FROM pg_trigger WHERE NOT tgisinternal
    UNION ALL SELECT nspname::text FROM pg_namespace WHERE nspname NOT LIKE 'pg_%'
    UNION ALL SELECT setconfig::text FROM pg_db_role_setting
    JOIN pg_database ON pg_database.oid = setdatabase WHERE datname = current_database()
    UNION ALL SELECT 'revision ' || version_num FROM schema_revision
    UNION ALL SELECT 'floor ' || version_num FROM alembic_version
) AS parts
"""
"""All that a test could have changed beside rows, as one word: tables, functions, triggers, settings, statistics."""
_TABLES = """
SELECT string_agg(format('DELETE FROM %I', relname), ';') FROM pg_class
WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND relname NOT IN ('schema_revision', 'alembic_version')
"""
_SEQUENCES = "SELECT setval(seqrelid, seqstart, false) FROM pg_sequence"


class LentDatabases:
    """Those of one server, each with the newest schema and no rows. One thread."""

    def __init__(self, cluster: Cluster, prepare: Callable[[str], None] = lambda _: None) -> None:
        """``prepare`` is called with the URL of each that is made."""
        self._cluster = cluster
        self._prepare = prepare
        self._given_back: list[str] = []
        self._shape = ""

    def lend(self) -> str:
        """The URL of a database that no other has until it is given back; ids in it begin with one."""
        while self._given_back:
            url = self._given_back.pop(0)
            if self._emptied(url):
                return url
        url = self._cluster.create_current()
        self._prepare(url)
        if not self._shape:
            with _connection(url) as connection:
                self._shape = _one(connection, _SHAPE)
        return url

    def give_back(self, url: str) -> None:
        """Say that the test that had it has ended."""
        self._given_back.append(url)

    @contextlib.contextmanager
    def for_a_while(self) -> Iterator[Callable[[], str]]:
        """Gives ``lend``; what was lent by it is given back with the end of the block."""
        lent: list[str] = []

        def lend() -> str:
            lent.append(self.lend())
            return lent[-1]

        yield lend
        for url in lent:
            self.give_back(url)

    def _emptied(self, url: str) -> bool:
        """Whether it is as a new one now; not where it is still in use or was lost, has grown, or has other tables."""
        try:
            with _connection(url) as connection:
                if _one(connection, _OTHERS) or _one(connection, _LARGEST, _MOST_BYTES):
                    return False
                if _one(connection, _SHAPE) != self._shape:
                    return False
                connection.execute("SET session_replication_role = replica")  # no trigger, no foreign key
                connection.execute(_one(connection, _TABLES).encode())
                connection.execute(_SEQUENCES)
        except psycopg.Error:
            return False
        return True


def _connection(url: str) -> psycopg.Connection:
    return psycopg.connect(url.replace("postgresql+psycopg", "postgresql", 1), autocommit=True)


def _one(connection: psycopg.Connection, query: str, *values: int) -> str:
    """The only value of an answer, as text; an empty one for NULL and 0."""
    row = connection.execute(query.encode(), values or None).fetchone()
    assert row is not None
    return str(row[0] or "")

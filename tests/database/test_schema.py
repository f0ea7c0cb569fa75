"""The migrations: from empty to the newest schema and back, the same schema as ``tables.py``, applied once."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, text

from registry.database import manifest_bodies, revision, schema
from registry.database.engine import Database
from registry.database.errors import SchemaTooNew
from registry.database.schema import HEAD, UpgradeReport, configuration, upgrade, upgrade_database
from registry.database.statement import Statement
from registry.database.tables import metadata
from tests.database.conftest import wait_for_a_lock
from tests.support.postgresql import Cluster
from tests.support.processes import processes

REVISIONS = {"alembic_version", revision.TABLE}
"""The tables that say which schema there is."""


@pytest.fixture
def empty(empty_url: str) -> Iterator[Database]:
    """A database without a schema."""
    opened = Database(empty_url)
    yield opened
    opened.close()


def test_the_head_that_a_start_compares_with_is_that_of_the_scripts() -> None:
    assert ScriptDirectory.from_config(configuration()).get_heads() == [HEAD]


def test_an_empty_database_gets_the_newest_schema(empty_url: str) -> None:
    assert upgrade(empty_url) == UpgradeReport(None, HEAD)


def test_a_second_upgrade_changes_nothing(empty_url: str) -> None:
    upgrade(empty_url)
    assert upgrade(empty_url) == UpgradeReport(HEAD, HEAD)


def migrate(database: Database, revision: str = "head") -> None:
    """Run the migrations to a revision, on an empty database all of them."""
    config = configuration()
    with database.schema() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)


SQLITE = ("SELECT type, name, tbl_name, sql FROM sqlite_master",)
POSTGRESQL = (
    """
    SELECT table_name, column_name, data_type, character_maximum_length, is_nullable, column_default, collation_name
    FROM information_schema.columns WHERE table_schema = 'public'
    """,
    """
    SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint
    WHERE connamespace = 'public'::regnamespace
    """,
    "SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'",
    """
    SELECT t.tgname, t.tgrelid::regclass::text, pg_get_triggerdef(t.oid), p.prosrc FROM pg_trigger t
    JOIN pg_proc p ON p.oid = t.tgfoid WHERE NOT t.tgisinternal
    """,
)


def described(database: Database) -> list[list[str]]:
    """Everything in the schema, but for the order of columns and constraints: the words of each thing, sorted."""
    with database.schema() as connection:
        queries = SQLITE if database.is_sqlite else POSTGRESQL
        rows = [row for query in queries for row in connection.execute(text(query))]
    return sorted(sorted(re.findall(r"[^\s,()]+", " ".join(map(str, row)))) for row in rows)


def test_the_migrated_schema_is_that_of_an_empty_database(empty: Database) -> None:
    migrate(empty)
    with empty.schema() as connection:
        # Alembic reads the default of SQLite's empty text as another one than it writes.
        options = {"compare_server_default": not empty.is_sqlite, "include_name": _is_no_revision}
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, metadata) == []
        numbers = revision.read(connection)
    migrated = described(empty)
    with empty.schema() as connection:
        names = [name for name, _ in inspect(connection).get_sorted_table_and_fkc_names() if name]
        for name in reversed(names):
            connection.execute(text(f'DROP TABLE "{name}"' + ("" if empty.is_sqlite else " CASCADE")))
    assert described(empty) == []
    assert upgrade_database(empty) == UpgradeReport(None, HEAD)
    assert described(empty) == migrated
    with empty.schema() as connection:
        assert revision.read(connection) == numbers


def _is_no_revision(name: str | None, kind: str, _parents: object) -> bool:
    return kind != "table" or name not in REVISIONS


def test_text_that_the_protocol_sorts_compares_by_byte(database: Database) -> None:
    if database.is_sqlite:
        return  # SQLite compares by byte unless it is told otherwise
    with database.schema() as connection:
        rows = connection.execute(
            text(
                "SELECT table_name, column_name FROM information_schema.columns"
                " WHERE table_schema = 'public' AND collation_name = 'C'"
            )
        )
        binary = {(str(table), str(column)) for table, column in rows}
    assert {("tag", "name"), ("repository", "name"), ("blob", "digest"), ("manifest", "subject")} <= binary


def test_a_downgrade_leaves_nothing_and_the_way_up_is_open_again(database: Database) -> None:
    config = configuration()
    with database.schema() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "base")
    with database.schema() as connection:
        assert set(inspect(connection).get_table_names()) == REVISIONS
        assert revision.read(connection) == (None, None)
    assert upgrade_database(database).after == HEAD
    with database.schema() as connection:
        assert set(metadata.tables) <= set(inspect(connection).get_table_names())


def test_a_migration_that_fails_leaves_the_database_as_it_was(empty: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_arguments: object) -> None:
        raise RuntimeError("killed in the middle")

    def upgrade_and_fail(config: object, revision: str) -> None:
        real(config, revision)  # type: ignore[arg-type] # as alembic's own
        fail()

    migrate(empty, "0004")
    before = described(empty)
    real = command.upgrade
    monkeypatch.setattr(command, "upgrade", upgrade_and_fail)
    with pytest.raises(RuntimeError):
        upgrade_database(empty)
    assert described(empty) == before


def test_making_the_tables_that_fails_leaves_an_empty_database(
    empty: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(revision, "note")
    with pytest.raises(AttributeError):
        upgrade_database(empty)
    assert described(empty) == []


def test_a_schema_of_a_later_release_is_refused(database: Database) -> None:
    with database.schema() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(SchemaTooNew, match="9999"):
        upgrade_database(database)


def test_a_schema_of_a_later_release_that_only_adds_is_worked_with(database: Database) -> None:
    with database.schema() as connection:
        connection.execute(text(f"UPDATE {revision.TABLE} SET version_num = '9999'"))  # noqa: S608 - a constant
    assert upgrade_database(database) == UpgradeReport("9999", "9999")


def test_the_release_before_is_told_a_schema_that_it_knows(database: Database) -> None:
    """Releases up to 0004 read one number, and refuse what they do not know; theirs is kept where we only add."""
    with database.schema() as connection:
        told = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
        assert revision.read(connection) == (HEAD, told)
    assert told == revision.FLOOR <= HEAD


@pytest.mark.parametrize("former", ["0001", "0004"])
def test_a_database_of_a_release_with_one_number_is_brought_up_to_date(database: Database, former: str) -> None:
    config = configuration()
    with database.schema() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, former)
        assert revision.read(connection) == (former, former)
        connection.execute(text(f"DROP TABLE {revision.TABLE}"))
        assert revision.read(connection) == (former, former)
    assert upgrade_database(database) == UpgradeReport(former, HEAD)


def test_processes_that_start_together_migrate_once(empty_url: str) -> None:
    with processes().Pool(3) as pool:
        reports = pool.map(upgrade, [empty_url] * 3, chunksize=1)
        pool.close()
        pool.join()
    assert [report.after for report in reports] == [HEAD] * 3
    assert upgrade(empty_url) == UpgradeReport(HEAD, HEAD)


@pytest.mark.tools("initdb", "pg_ctl", "postgres")
def test_a_deadlock_with_a_replica_that_works_on_is_tried_again(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server of this release did not start beside a busy one of the release before."""
    url = cluster.create_current()
    database, busy = Database(url), Database(url)
    config = configuration()
    with database.schema() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "0024")
    migrations, runs = schema._run, list[Connection]()

    def run(connection: Connection) -> None:
        runs.append(connection)
        if len(runs) == 1:
            connection.execute(text("SET LOCAL deadlock_timeout = '5s'"))
            connection.execute(text("LOCK TABLE repository IN ACCESS EXCLUSIVE MODE"))
        migrations(connection)

    monkeypatch.setattr(schema, "_run", run)
    with ThreadPoolExecutor() as pool:
        with busy.schema(60.0) as connection:
            connection.execute(text("SET LOCAL deadlock_timeout = '60s'"))
            connection.execute(text("LOCK TABLE manifest IN ROW EXCLUSIVE MODE"))
            upgraded = pool.submit(upgrade_database, database)
            wait_for_a_lock(url)
            connection.execute(text("LOCK TABLE repository IN ROW EXCLUSIVE MODE"))
        assert upgraded.result(60) == UpgradeReport("0024", HEAD)
    assert len(runs) == 2
    database.close()
    busy.close()


def test_what_the_release_before_has_written_stays(database: Database) -> None:
    config = configuration()
    with database.schema() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "0001")
    with database.transaction() as transaction:
        (blob,) = transaction.execute(
            Statement(
                "INSERT INTO blob (algorithm, digest, size, state, generation, leased_until)"
                " VALUES ('sha256', :digest, 1, 'present', 0, 0) RETURNING id"
            ),
            {"digest": f"sha256:{'0' * 64}"},
        ).one()
    assert upgrade_database(database) == UpgradeReport("0001", HEAD)
    with database.transaction() as transaction:
        manifest_bodies.put(transaction, blob, b"{}")
        assert manifest_bodies.find(transaction, f"sha256:{'0' * 64}").get() == b"{}"

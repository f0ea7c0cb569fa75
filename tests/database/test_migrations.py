"""The migrations: from empty to the newest schema and back, the same schema as ``tables.py``, applied once."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import inspect, text

from registry.database import blobs, manifest_bodies
from registry.database.engine import Database
from registry.database.errors import SchemaTooNew
from registry.database.migrate import HEAD, UpgradeReport, configuration, upgrade, upgrade_database
from registry.database.tables import metadata


@pytest.fixture
def empty(url: str) -> Iterator[Database]:
    """A database without a schema."""
    opened = Database(url)
    yield opened
    opened.close()


def test_the_head_that_a_start_compares_with_is_that_of_the_scripts() -> None:
    assert ScriptDirectory.from_config(configuration()).get_heads() == [HEAD]


def test_an_empty_database_gets_the_newest_schema(url: str) -> None:
    assert upgrade(url) == UpgradeReport(None, HEAD)


def test_a_second_upgrade_changes_nothing(url: str) -> None:
    upgrade(url)
    assert upgrade(url) == UpgradeReport(HEAD, HEAD)


def test_the_migrated_schema_is_that_of_the_tables(database: Database) -> None:
    with database.schema() as connection:
        # Alembic reads the default of SQLite's empty text as another one than it writes.
        context = MigrationContext.configure(connection, opts={"compare_server_default": not database.is_sqlite})
        assert compare_metadata(context, metadata) == []


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
        assert inspect(connection).get_table_names() == ["alembic_version"]
    assert upgrade_database(database).after == HEAD
    with database.schema() as connection:
        assert set(metadata.tables) <= set(inspect(connection).get_table_names())


def test_a_migration_that_fails_leaves_the_database_as_it_was(empty: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_arguments: object) -> None:
        raise RuntimeError("killed in the middle")

    def upgrade_and_fail(config: object, revision: str) -> None:
        real(config, revision)  # type: ignore[arg-type] # as alembic's own
        fail()

    real = command.upgrade
    monkeypatch.setattr(command, "upgrade", upgrade_and_fail)
    with pytest.raises(RuntimeError):
        upgrade_database(empty)
    with empty.schema() as connection:
        assert inspect(connection).get_table_names() == []


def test_a_schema_of_a_later_release_is_refused(database: Database) -> None:
    with database.schema() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(SchemaTooNew, match="9999"):
        upgrade_database(database)


def test_processes_that_start_together_migrate_once(url: str) -> None:
    context = multiprocessing.get_context("spawn")
    with context.Pool(3) as pool:
        reports = pool.map(upgrade, [url] * 3, chunksize=1)
        pool.close()
        pool.join()
    assert [report.after for report in reports] == [HEAD] * 3
    assert upgrade(url) == UpgradeReport(HEAD, HEAD)


def test_what_the_release_before_has_written_stays(database: Database) -> None:
    config = configuration()
    with database.schema() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "0001")
    with database.write() as transaction:
        blob = blobs.put(transaction, f"sha256:{'0' * 64}", size=1, leased_until=0)
    assert upgrade_database(database) == UpgradeReport("0001", HEAD)
    with database.write() as transaction:
        manifest_bodies.put(transaction, blob, b"{}")
        assert manifest_bodies.find(transaction, f"sha256:{'0' * 64}") == b"{}"

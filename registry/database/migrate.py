"""Schema migrations (alembic, top-level ``migrations/``), applied by ``serve`` and by ``registry db upgrade``.

They run in one transaction under the write lock of the database, so that workers and replicas that start together
apply them once, and a process that is killed in the middle leaves the schema as it was.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import inspect, text

from registry.database.engine import Database
from registry.database.errors import SchemaTooNew

if TYPE_CHECKING:
    from alembic.config import Config
    from sqlalchemy import Connection

HEAD = "0004"
"""The newest schema; a test compares it with the scripts, so that a start with nothing to do need not load them."""
LOCK = 5_374_607
"""PostgreSQL's advisory lock for migrations: any number that is ours."""


@dataclass(frozen=True, slots=True)
class UpgradeReport:
    """What ``registry db upgrade`` did."""

    before: str | None
    """The schema that was found; None for an empty database."""
    after: str


def upgrade(database_url: str) -> UpgradeReport:
    """Bring the schema to HEAD. Raises SchemaTooNew when a later release has been here, DatabaseUnavailable."""
    database = Database(database_url)
    try:
        return upgrade_database(database)
    finally:
        database.close()


def upgrade_database(database: Database) -> UpgradeReport:
    """As ``upgrade``, on an open database."""
    with database.schema() as connection:
        before = _revision(connection)
    if before == HEAD:
        return UpgradeReport(before, before)
    with database.schema() as connection:
        if not database.is_sqlite:
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
        before = _revision(connection)
        if before is not None and before > HEAD:
            message = f"the database has schema {before}, this release knows {HEAD}; start the later release"
            raise SchemaTooNew(message)
        _run(connection)
    return UpgradeReport(before, HEAD)


def configuration() -> Config:
    """Alembic's configuration, for the scripts of this installation."""
    from alembic.config import Config  # noqa: PLC0415 - slow to import, and needed only when there is something to do

    config = Config()
    config.set_main_option("script_location", str(_scripts()).replace("%", "%%"))
    return config


def _run(connection: Connection) -> None:
    from alembic import command  # noqa: PLC0415 - as above

    config = configuration()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    revision: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return revision


def _scripts() -> Path:
    package = Path(__file__).resolve().parents[1]
    installed = package / "migrations"
    return installed if installed.is_dir() else package.parent / "migrations"

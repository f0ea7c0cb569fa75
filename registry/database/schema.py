"""Schema: its migrations (alembic, ``migrations/``), applied by ``serve`` and by ``registry db upgrade``.

An empty database gets the tables as they are today, without the migrations that lead there, which take a fifth of a
start. All run in one transaction under the write lock of the database, so that workers and replicas that start together
apply them once, and a process that is killed in the middle leaves the schema as it was.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
from sqlalchemy import text

from registry.database import revision
from registry.database.collection import doom_triggers, former_releases
from registry.database.engine import Database
from registry.database.errors import DatabaseUnavailable, SchemaTooNew
from registry.database.tables import metadata

if TYPE_CHECKING:
    from alembic.config import Config
    from sqlalchemy import Connection

log = structlog.get_logger(__name__)

HEAD = "0026"
"""The newest schema; a test compares it with the scripts, so that a start with nothing to do need not load them."""
LOCK = 5_374_607
"""PostgreSQL's advisory lock for migrations: any number that is ours."""
ATTEMPTS = 5
"""How often replicas that work on may be in the way of locks of theirs and of the schema, one waiting for the other."""
DEADLOCK = "40P01"
"""PostgreSQL's code for that: it has undone everything."""
SECONDS = 3600.0
"""How long all changes of the schema may take, with those of another process that are waited for."""


@dataclass(frozen=True, slots=True)
class UpgradeReport:
    """What ``registry db upgrade`` did."""

    before: str | None
    """The schema that was found; None for an empty database."""
    after: str
    """The schema now: HEAD, or a later one that only adds to it."""


def upgrade(database_url: str) -> UpgradeReport:
    """Bring the schema to HEAD, unless it is a later one that this release can work with.

    Raises SchemaTooNew when a later release has been here that did more than add, DatabaseUnavailable.
    """
    database = Database(database_url)
    try:
        return upgrade_database(database)
    finally:
        database.close()


def upgrade_database(database: Database) -> UpgradeReport:
    """As ``upgrade``, on an open database."""
    with database.schema() as connection:
        before = _usable(connection)
    if before is not None and before >= HEAD:
        return UpgradeReport(before, before)
    for _ in range(1, ATTEMPTS):
        try:
            return _upgrade(database)
        except DatabaseUnavailable as error:
            if not _is_deadlock(error):
                raise
            log.warning("the schema and another transaction waited for each other; trying again")
    return _upgrade(database)


def _upgrade(database: Database) -> UpgradeReport:
    with database.schema(SECONDS) as connection:
        if not database.is_sqlite:
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
        before = _usable(connection)
        if before is None:
            metadata.create_all(connection)
            doom_triggers.create(connection)
            former_releases.create(connection)
            revision.note(connection, HEAD)
        elif before < HEAD:
            _run(connection)
    return UpgradeReport(before, HEAD if before is None else max(before, HEAD))


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


def _usable(connection: Connection) -> str | None:
    """Return the revision of the database, None for an empty one. Raises SchemaTooNew."""
    found = revision.read(connection)
    if found.floor is not None and found.floor > HEAD:
        message = f"the database has schema {found.floor}, this release knows {HEAD}; start the later release"
        raise SchemaTooNew(message)
    return found.current


def _is_deadlock(error: BaseException) -> bool:
    cause = error.__cause__
    return getattr(getattr(cause, "orig", cause), "sqlstate", None) == DEADLOCK


def _scripts() -> Path:
    package = Path(__file__).resolve().parents[1]
    installed = package / "migrations"
    return installed if installed.is_dir() else package.parent / "migrations"

"""Store check: whether store, database and files of credentials can be used, tried before anything starts.

Tests: ``tests/cli/test_rebuild.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry.config.file import ConfigError, ConfigProblem

if TYPE_CHECKING:
    from registry.config.settings import Settings


def probe_store(settings: Settings) -> bool:
    """Return whether the store honours conditional writes. Raises ConfigError with the keys to check.

    A directory is checked with the rest of the settings, and honours them.
    """
    if settings.storage.driver == "local":
        return True
    from registry.storage.errors import StorageError, StoreMisconfigured
    from registry.storage.object_store.probe import probe

    key = f"storage.{settings.storage.driver}"
    try:
        return probe(settings)
    except StoreMisconfigured as error:
        raise ConfigError([ConfigProblem(key, error.reason, "")]) from error
    except StorageError as error:
        message = f"the store does not answer: {error.reason}; check {key}.endpoint_url"
        raise ConfigError([ConfigProblem(key, message, "")]) from error


def probe_database(settings: Settings) -> None:
    """Ask PostgreSQL something. Raises ConfigError when it does not answer."""
    if settings.database_url.startswith("sqlite"):
        return
    from registry.database.engine import Database
    from registry.database.errors import DatabaseUnavailable

    try:
        database = Database.of(settings)
        try:
            with database.autocommit() as connection:
                connection.run("SELECT 1")
        finally:
            database.close()
    except DatabaseUnavailable as error:
        reason = str(error).strip().splitlines()[0]
        raise ConfigError([ConfigProblem("database.url", f"the database does not answer: {reason}", "")]) from error


def probe_credentials(settings: Settings) -> None:
    """Read the files with users and keys. Raises ConfigError, which names the line that is wrong."""
    if settings.auth is None:
        return
    from registry.auth.authentication import check_files

    check_files(settings.auth)

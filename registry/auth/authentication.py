"""*Authentication*: all that identifies the callers of one process, made from the settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from registry.auth.authenticators import Authenticators
from registry.auth.directory import LiveDirectory
from registry.auth.groups import Groups
from registry.auth.issuers import check_key_files, create_issuers
from registry.auth.keys.api_keys import ApiKeys
from registry.auth.keys.key_store import KeyStore
from registry.auth.passwords.hashing_pool import HashingPool
from registry.auth.passwords.htpasswd import parse_htpasswd
from registry.auth.passwords.password_users import PasswordUsers
from registry.auth.passwords.throttle import Throttle
from registry.auth.verified import VerifiedCredentials
from registry.auth.watched_file import WatchedFile
from registry.config.file import ConfigError, ConfigProblem

if TYPE_CHECKING:
    from registry.auth.authenticators import Run
    from registry.auth.identity import Identity
    from registry.auth.oidc.provider import Used
    from registry.config.access_sections import AuthSettings
    from registry.database.engine import Database
    from registry.storage.driver import StorageDriver

LOOK_INTERVAL: Final = 0.5
"""Seconds between two looks at what was taken away; a look is a system call and a small query."""


class Authentication:
    """For one event loop, but for ``directory`` and ``issuers``, which are for any thread."""

    def __init__(
        self,
        settings: AuthSettings,
        *,
        service: str,
        used: Used,
        driver: StorageDriver,
        database: Database,
        run: Run,
    ) -> None:
        """``service`` names the registry in tokens, ``used`` is what its rules look at, ``run`` takes a thread.

        Raises ConfigError for a file that cannot be used.
        """
        groups = Groups(settings.groups)
        self._pool = HashingPool()
        users = _open_users(settings, groups, self._pool)
        keys = None
        if settings.keys.enabled:
            keys = ApiKeys(KeyStore(driver, database), database, groups, _no_user if users is None else users.find)
        self.directory = LiveDirectory(users, keys)
        """Has to ``look`` every LOOK_INTERVAL seconds."""
        self.issuers = create_issuers(
            settings.token, settings.oidc, service=service, used=used, database=database, directory=self.directory
        )
        verified = VerifiedCredentials(self.directory, settings.remember)
        self.authenticators = Authenticators(users, keys, self.issuers, self.directory, verified, run)

    def close(self) -> None:
        """Give up passwords that wait to be verified. Raises DatabaseError, when all else is done."""
        self._pool.close()
        self.directory.close()


def check_files(settings: AuthSettings) -> None:
    """Read every file that the settings name, as the start does. Raises ConfigError for one that cannot be used."""
    pool = HashingPool()
    _open_users(settings, Groups({}), pool)
    pool.close()
    check_key_files(settings.token, settings.oidc)


def _open_users(settings: AuthSettings, groups: Groups, pool: HashingPool) -> PasswordUsers | None:
    if settings.htpasswd is None:
        return None
    path, throttle = settings.htpasswd.file, settings.throttle
    try:
        file = WatchedFile(path, parse_htpasswd)
    except (ValueError, OSError) as error:
        reason = (error.strerror or "it cannot be read") if isinstance(error, OSError) else str(error)
        raise ConfigError([ConfigProblem("auth.htpasswd.file", f"{path} cannot be used: {reason}", "")]) from error
    return PasswordUsers(file, groups, pool, Throttle(throttle.failures, throttle.seconds))


def _no_user(_name: str) -> Identity | None:
    return None

"""*Authentication*: all that identifies the callers of one process, made from the settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from registry.auth.authenticators import Authenticators
from registry.auth.browser.attempt import Attempts
from registry.auth.browser.login_provider import LoginProvider
from registry.auth.browser.logins import Logins
from registry.auth.browser.sessions import BrowserSessions
from registry.auth.certificates import Certificates
from registry.auth.directory import LiveDirectory
from registry.auth.groups import Groups
from registry.auth.issuers import check_key_files, create_issuers
from registry.auth.keys.api_keys import ApiKeys
from registry.auth.keys.key_administration import KeyAdministration
from registry.auth.keys.key_record import DAY
from registry.auth.keys.key_store import KeyStore
from registry.auth.oidc.documents import Documents
from registry.auth.oidc.endpoints import ProviderEndpoints
from registry.auth.passwords.hashing_pool import ALONE, HashingPool
from registry.auth.passwords.htpasswd import parse_htpasswd
from registry.auth.passwords.password_users import PasswordUsers
from registry.auth.passwords.throttle import Throttle
from registry.auth.verified import VerifiedCredentials
from registry.auth.watched_file import WatchedFile
from registry.config.file import ConfigError, ConfigProblem

if TYPE_CHECKING:
    from registry.auth.authenticators import Run
    from registry.auth.identity import Identity
    from registry.auth.issuers import Issuers
    from registry.auth.oidc.provider import Interest, Provider
    from registry.auth.passwords.hashing_slots import HashingSlots
    from registry.config.access_sections import AuthSettings
    from registry.config.token_sections import OidcSettings
    from registry.database.engine import Database
    from registry.storage.driver import StorageDriver

LOOK_INTERVAL: Final = 0.5
"""Seconds between two looks at what was taken away; a look is a system call and a small query."""


class Authentication:
    """For one event loop, but for what says that it is for any thread."""

    def __init__(
        self,
        settings: AuthSettings,
        *,
        service: str,
        used: Interest,
        driver: StorageDriver,
        database: Database,
        run: Run,
        hashing_threads: int = ALONE,
    ) -> None:
        """``service`` names the registry in tokens, ``used`` is what its rules look at, ``run`` takes a thread.

        ``hashing_threads`` verify passwords.

        Raises ConfigError for a file that cannot be used.
        """
        groups = Groups(settings.groups)
        self._pool = HashingPool(hashing_threads)
        users = _open_users(settings, groups, self._pool)
        find_user = _no_user if users is None else users.find
        keys = self.keys = None
        if settings.keys.enabled:
            store = KeyStore(driver, database)
            keys = ApiKeys(store, database, groups, find_user, most_seconds=settings.keys.max_days * DAY)
            self.keys = KeyAdministration(
                store, database, lambda name: find_user(name) is not None, settings.keys.max_days
            )
        self.certificates = None if settings.certificates is None else Certificates(settings.certificates, groups)
        """None where certificates of clients name no identity."""
        self.directory = LiveDirectory(users, keys, self.certificates)
        """What there is of users and keys, as of the last ``look``."""
        self.issuers = create_issuers(
            settings.token, settings.oidc, service=service, used=used, database=database, directory=self.directory
        )
        self.logins = _create_logins(settings, users, self.issuers, self.directory, database)
        """Logins in a browser; None if there is no way to log in."""
        verified = VerifiedCredentials(self.directory, settings.remember)
        self.authenticators = Authenticators(users, keys, self.issuers, self.directory, verified, run)

    def share_hashing(self, slots: HashingSlots) -> None:
        """Verify passwords in turn with the other processes of the server. Before the first request."""
        self._pool.share(slots)

    def look(self) -> None:
        """Learn what was changed or taken away in files; called every LOOK_INTERVAL seconds, outside of requests."""
        self.directory.look_at_users()
        self.issuers.look()

    def look_at_keys(self) -> None:
        """Learn which API keys were revoked, as often. Apart from ``look``, since a database may be silent for long."""
        self.directory.look_at_keys()

    @property
    def problems(self) -> list[str]:
        """The settings whose file is wrong, so that the one before it is in use."""
        return [*self.directory.problems, *self.issuers.problems]

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


def _create_logins(
    settings: AuthSettings,
    users: PasswordUsers | None,
    issuers: Issuers,
    directory: LiveDirectory,
    database: Database,
) -> Logins | None:
    made = map(_login_provider, settings.oidc, issuers.providers)
    providers = {each.name: each for each in made if each is not None}
    if users is None and not providers:
        return None
    tokens, throttle = issuers.own.tokens, settings.throttle
    return Logins(
        users,
        providers,
        Attempts(tokens.keys, tokens.service),
        BrowserSessions(database, directory, {name: each.version for name, each in providers.items()}),
        Throttle(throttle.failures, throttle.seconds),
    )


def _login_provider(settings: OidcSettings, provider: Provider) -> LoginProvider | None:
    if settings.login is None:
        return None
    documents = Documents(settings.ca_file)
    endpoints = ProviderEndpoints(settings.issuer, documents.fetch)
    return LoginProvider(settings, settings.login, provider, endpoints, documents)


def _no_user(_name: str) -> Identity | None:
    return None

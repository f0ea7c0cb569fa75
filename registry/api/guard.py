"""*Guard*: what the settings make of access: the door, what identifies its callers, and the token service."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import urlsplit

from registry.api.access import Access
from registry.auth.authentication import Authentication
from registry.auth.identity import Kind
from registry.auth.passwords.hashing_pool import ALONE
from registry.auth.rights import Rights
from registry.auth.tokens.service import TokenService
from registry.config.access_sections import AuthSettings

if TYPE_CHECKING:
    from registry.api.http.forwarding import Forwarding
    from registry.auth.authenticators import Run
    from registry.auth.identity import Identity
    from registry.config.access_sections import AccessSettings
    from registry.config.settings import Settings
    from registry.config.token_sections import TokenSettings
    from registry.images.backends import Backends

SERVICE: Final = "registry"
"""The name of a registry that has no other."""


class Guard(NamedTuple):
    """All of it; None where every caller may do everything."""

    access: Access
    service: str
    """The name of the registry in tokens and challenges, the same on all replicas."""
    authentication: Authentication | None = None
    token_service: TokenService | None = None
    token_settings: TokenSettings | None = None

    def take_access(self, auth: AuthSettings | None, access: AccessSettings | None) -> None:
        """Decide by other rules from now on."""
        if self.access.rights is not None and self.authentication is not None:
            self.access.rights.take(auth, access)
            self.authentication.authenticators.forget_tokens()

    def find_user(self, name: str) -> Identity | None:
        """The user of a password, as it is now; None if there is none."""
        return None if self.authentication is None else self.authentication.directory.find(Kind.USER, name)


def open_guard(settings: Settings, backends: Backends, forwarding: Forwarding, run: Run) -> Guard:
    """The guard of one process. Raises ConfigError for a file that cannot be used."""
    auth = settings.auth or AuthSettings()
    service = auth.token.service or urlsplit(settings.http.external_url or "").hostname or SERVICE
    if settings.auth is None and settings.access is None:
        return Guard(Access(forwarding), service)
    rights = Rights.of(auth, settings.access)
    authentication = Authentication(
        auth,
        service=service,
        used=rights,
        driver=backends.driver,
        database=backends.database,
        run=run,
        hashing_threads=ALONE if settings.http.workers == 1 else 1,
    )
    authenticators = authentication.authenticators
    tokens = TokenService(
        authentication.issuers, authenticators.of_password, rights.allows, with_refresh=auth.token.refresh
    )
    access = Access(forwarding, authenticators, rights, authentication.certificates)
    return Guard(access, service, authentication, tokens, auth.token)

"""*Issuers*: which party made a token, and so what verifies it: the registry, a token service, an identity provider."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from registry.auth.jwt import Jwt, JwtInvalid
from registry.auth.key_source import KeyFile
from registry.auth.oidc.documents import Documents
from registry.auth.oidc.provider import Provider
from registry.auth.oidc.provider_keys import ProviderKeys
from registry.auth.tokens.bearer import Bearer
from registry.auth.tokens.external import ExternalTokens
from registry.auth.tokens.signing_keys import DatabaseKeys, FileKeys
from registry.auth.tokens.token import Tokens
from registry.config.file import ConfigError, ConfigProblem
from registry.oci.errors import Unauthorized

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from registry.auth.key_source import KeySource
    from registry.auth.oidc.provider import Used
    from registry.auth.tokens.bearer import Directory, Verified
    from registry.config.token_sections import OidcSettings, TokenSettings
    from registry.database.engine import Database

T = TypeVar("T")


class Issuers:
    """All whose tokens are believed. Any thread. Every method raises Unauthorized, Unavailable, DatabaseError."""

    def __init__(self, own: Bearer, external: ExternalTokens | None, providers: Sequence[Provider]) -> None:
        self.own = own
        self._external = external
        self._providers = providers

    def of_bearer(self, text: str) -> Verified:
        """The identity of a Bearer token, whichever issuer it has."""
        issuer = _parsed(text).claims.get("iss")
        if issuer == self.own.issuer:
            return self.own.identify(text)
        if self._external is not None and issuer == self._external.issuer:
            return self._external.identify(text)
        return self.of_provider(text)

    def of_provider(self, text: str) -> Verified:
        """The identity of a token of a provider: as a password, or to be exchanged. A token of ours is neither."""
        token = _parsed(text)
        providers = [provider for provider in self._providers if provider.issuer == token.claims.get("iss")]
        for provider in providers[:-1]:  # several for one issuer have other audiences
            try:
                return provider.identify(token)
            except Unauthorized:
                continue
        if not providers:
            raise Unauthorized("the token is refused: its issuer is not configured")
        return providers[-1].identify(token)


def _parsed(text: str) -> Jwt:
    try:
        return Jwt.parse(text)
    except JwtInvalid as error:
        raise Unauthorized(f"the token is refused: {error}") from error


def create_issuers(
    settings: TokenSettings,
    providers: Sequence[OidcSettings],
    *,
    service: str,
    used: Used,
    database: Database,
    directory: Directory,
) -> Issuers:
    """The issuers of these settings; ``service`` names the registry, ``used`` is what its rules look at.

    Raises ConfigError for a file without usable keys.
    """
    keys = _own_keys(settings) or DatabaseKeys(database)
    tokens = Tokens(keys, service, settings.expires)
    return Issuers(
        Bearer(tokens, directory, [provider.name for provider in providers]),
        _external(settings),
        [Provider(provider, _keys_of(provider), used) for provider in providers],
    )


def check_key_files(settings: TokenSettings, providers: Sequence[OidcSettings]) -> None:
    """Read the files of ``create_issuers``. Raises ConfigError."""
    _own_keys(settings)
    _external(settings)
    for provider in providers:
        _keys_of(provider)


def _own_keys(settings: TokenSettings) -> FileKeys | None:
    file = settings.key_file
    return None if file is None else _opened("auth.token.key_file", FileKeys, file)


def _external(settings: TokenSettings) -> ExternalTokens | None:
    external = settings.external
    if external is None:
        return None
    keys = _opened("auth.token.external.keys_file", KeyFile, external.keys_file)
    return ExternalTokens(keys, issuer=external.issuer, service=external.service)


def _keys_of(provider: OidcSettings) -> KeySource:
    if provider.jwks_file is not None:
        return _opened("auth.oidc.jwks_file", KeyFile, provider.jwks_file)
    return ProviderKeys(provider.issuer, Documents(provider.ca_file).fetch)


def _opened(key: str, kind: Callable[[Path], T], path: Path) -> T:
    try:
        return kind(path)
    except (ValueError, OSError) as error:
        reason = (error.strerror or "cannot be read") if isinstance(error, OSError) else str(error)
        raise ConfigError([ConfigProblem(key, f"{path} cannot be used: {reason}", "")]) from error

"""*Issuers*: which party made a token, and so what verifies it: the registry, a token service, an identity provider."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar

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
    from registry.auth.oidc.provider import Interest
    from registry.auth.tokens.bearer import Directory, Verified
    from registry.auth.watched_file import WatchedFile
    from registry.config.token_sections import OidcSettings, TokenSettings
    from registry.database.engine import Database

T = TypeVar("T")

_OWN: Final = "auth.token.key_file"
_EXTERNAL: Final = "auth.token.external.keys_file"
_PROVIDER: Final = "auth.oidc.jwks_file"


class Issuers:
    """All whose tokens are believed. Any thread. Every method raises Unauthorized, Unavailable, DatabaseError."""

    def __init__(
        self,
        own: Bearer,
        external: ExternalTokens | None,
        providers: Sequence[Provider],
        files: Sequence[tuple[str, WatchedFile[Any]]] = (),
    ) -> None:
        """``files`` with keys, each with the setting that names it."""
        self.own = own
        self._external = external
        self.providers = providers
        """In the order of the settings."""
        self._files = files

    def look(self) -> None:
        """Take what the files say now, also while no token comes."""
        for _, file in self._files:
            file.current()

    @property
    def problems(self) -> list[str]:
        """The settings whose file is not the one in use, as of the last look."""
        return list(dict.fromkeys(name for name, file in self._files if file.problem is not None))

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
        providers = [provider for provider in self.providers if provider.issuer == token.claims.get("iss")]
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
    used: Interest,
    database: Database,
    directory: Directory,
) -> Issuers:
    """The issuers of these settings; ``service`` names the registry, ``used`` is what its rules look at.

    Raises ConfigError for a file without usable keys.
    """
    own, external = _own_keys(settings), _external_keys(settings)
    sources = [_keys_of(provider) for provider in providers]
    named = [(_OWN, own), (_EXTERNAL, external), *((_PROVIDER, source) for source in sources)]
    tokens = Tokens(own or DatabaseKeys(database), service, settings.expires)
    return Issuers(
        Bearer(tokens, directory, [provider.name for provider in providers]),
        _external(settings, external),
        [Provider(provider, source, used) for provider, source in zip(providers, sources, strict=True)],
        [(name, source.file) for name, source in named if isinstance(source, KeyFile | FileKeys)],
    )


def check_key_files(settings: TokenSettings, providers: Sequence[OidcSettings]) -> None:
    """Read the files of ``create_issuers``. Raises ConfigError."""
    _own_keys(settings)
    _external_keys(settings)
    for provider in providers:
        _keys_of(provider)


def _own_keys(settings: TokenSettings) -> FileKeys | None:
    file = settings.key_file
    return None if file is None else _opened(_OWN, FileKeys, file)


def _external_keys(settings: TokenSettings) -> KeyFile | None:
    return None if settings.external is None else _opened(_EXTERNAL, KeyFile, settings.external.keys_file)


def _external(settings: TokenSettings, keys: KeyFile | None) -> ExternalTokens | None:
    external = settings.external
    if external is None or keys is None:
        return None
    return ExternalTokens(keys, issuer=external.issuer, service=external.service)


def _keys_of(provider: OidcSettings) -> KeySource:
    if provider.jwks_file is not None:
        return _opened(_PROVIDER, KeyFile, provider.jwks_file)
    return ProviderKeys(provider.issuer, Documents(provider.ca_file).fetch)


def _opened(key: str, kind: Callable[[Path], T], path: Path) -> T:
    try:
        return kind(path)
    except (ValueError, OSError) as error:
        reason = (error.strerror or "cannot be read") if isinstance(error, OSError) else str(error)
        raise ConfigError([ConfigProblem(key, f"{path} cannot be used: {reason}", "")]) from error

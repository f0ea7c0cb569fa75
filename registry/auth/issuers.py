"""*Issuers*: which party made a token, and so what verifies it: the registry, a token service, an identity provider."""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry.auth.jwt import Jwt, JwtInvalid
from registry.oci.errors import Unauthorized

if TYPE_CHECKING:
    from collections.abc import Sequence

    from registry.auth.oidc.provider import Provider
    from registry.auth.tokens.bearer import Bearer, Verified
    from registry.auth.tokens.external import ExternalTokens


class Issuers:
    """All whose tokens are believed. Any thread. Every method raises Unauthorized, Unavailable, DatabaseError."""

    def __init__(self, own: Bearer, external: ExternalTokens | None, providers: Sequence[Provider]) -> None:
        self._own = own
        self._external = external
        self._providers = providers

    def of_bearer(self, text: str) -> Verified:
        """The identity of a Bearer token, whichever issuer it has."""
        issuer = _parsed(text).claims.get("iss")
        if issuer == self._own.issuer:
            return self._own.identify(text)
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

"""*Bearer*: from a token of ours to the identity as it is now, bounded by the token."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple, Protocol

from registry.auth.identity import Kind
from registry.auth.jwt import JwtInvalid
from registry.auth.tokens.token import ACCESS, REFRESH, TokenBound
from registry.oci.errors import Unauthorized

if TYPE_CHECKING:
    from collections.abc import Collection

    from registry.auth.identity import Identity
    from registry.auth.tokens.token import Token, Tokens


class Directory(Protocol):
    """Where users and keys are found by name, as they are now. Any thread."""

    def find(self, kind: Kind, name: str) -> Identity | None:
        """The user or key, or the identity of a certificate; None if there is none.

        Raises Unavailable, DatabaseError, StorageError.
        """
        ...


class Verified(NamedTuple):
    """An identity, and until when its credential proves it."""

    identity: Identity
    until: float
    """Seconds since the epoch."""


class Bearer:
    """Verifies tokens of ours. Any thread."""

    def __init__(self, tokens: Tokens, directory: Directory, providers: Collection[str]) -> None:
        """``providers`` are the names of those of OpenID Connect that are configured."""
        self.tokens = tokens
        self._directory = directory
        self._providers = frozenset(providers)

    @property
    def issuer(self) -> str:
        """The ``iss`` of our tokens."""
        return self.tokens.service

    def identify(self, text: str) -> Verified:
        """The identity of an access token, bounded by it. Raises Unauthorized, and what the directory raises."""
        token = self._read(text, ACCESS)
        identity = self._live(token)
        bounded = replace(identity, scope=TokenBound(token.access, identity.scope))
        return Verified(bounded, min(token.expires, identity.until))

    def refresh(self, text: str) -> Identity:
        """The identity that a refresh token was made for. Raises as ``identify``."""
        return self._live(self._read(text, REFRESH))

    def _read(self, text: str, kind: str) -> Token:
        try:
            return self.tokens.read(text, kind)
        except JwtInvalid as error:
            raise Unauthorized(f"the token is refused: {error}") from error

    def _live(self, token: Token) -> Identity:
        """The identity as it is now: a user or key that is gone or has changed ends its tokens."""
        identity = token.identity
        if identity.kind in {Kind.USER, Kind.KEY}:
            found = self._directory.find(identity.kind, identity.name)
            if found is None or found.credential != identity.credential:
                raise Unauthorized("the token is refused: its user or key is gone or has changed")
            return found
        if identity.kind is Kind.CERTIFICATE:
            found = self._directory.find(identity.kind, identity.name)
            if found is None:
                raise Unauthorized("the token is refused: certificates of clients are not in use here")
            return replace(found, credential=identity.credential)
        if identity.kind is Kind.OIDC and identity.name.partition("/")[0] not in self._providers:
            raise Unauthorized("the token is refused: its identity provider is not configured")
        return identity

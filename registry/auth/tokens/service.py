"""*Token service*: the replies of the token endpoint (distribution, "Token Authentication Specification").

There is no ``issued_at``: clients add ``expires_in`` to it and compare the sum with their own clock; without it they
take their own for both.

Tests: ``tests/api/test_token.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from registry.auth.identity import Kind
from registry.auth.tokens.grant import grant
from registry.auth.tokens.scopes import parse_scopes
from registry.oci.errors import Unauthorized

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from registry.auth.credentials import Basic
    from registry.auth.identity import Identity
    from registry.auth.issuers import Issuers

    Allows = Callable[[Identity, str, str], bool]
    """Whether an identity has an action in a repository now, by the rules and its own bound."""

Reply = dict[str, Any]


class Authenticate(Protocol):
    """Verifies a user with a password, which may be a key or a token of an identity provider. For the event loop."""

    async def __call__(self, credentials: Basic, address: str | None) -> Identity:
        """The identity. Raises Unauthorized, Unavailable."""
        ...


class TokenService:
    """Any thread. Every method raises Unauthorized, Unavailable, DatabaseError."""

    def __init__(self, issuers: Issuers, authenticate: Authenticate, allows: Allows, *, with_refresh: bool) -> None:
        self.authenticate = authenticate
        """Asked before ``reply``."""
        self._issuers = issuers
        self._tokens = issuers.own.tokens
        self._allows = allows
        self._with_refresh = with_refresh

    def reply(self, identity: Identity, asked: Sequence[str], *, offline: bool = False) -> Reply:
        """A token for an identity with what it has of the scopes; less than that is no error.

        ``offline`` asks for a refresh token too, which users and keys get where these are configured.
        """
        granted = grant(parse_scopes(asked), lambda action, repository: self._allows(identity, action, repository))
        token = self._tokens.access(identity, granted)
        reply: Reply = {
            "token": token,
            "access_token": token,
            "expires_in": self._tokens.life(identity),
            "scope": " ".join(map(str, granted)),
        }
        if offline and self._with_refresh and identity.kind in {Kind.USER, Kind.KEY}:
            reply["refresh_token"] = self._tokens.refresh(identity)
        return reply

    def refresh(self, refresh_token: str) -> Identity:
        """The identity of a refresh token, which stays good: clients do not store a second one."""
        if not self._with_refresh:
            raise Unauthorized("refresh tokens are not in use here; send the user and password")
        return self._issuers.own.refresh(refresh_token)

    def exchange(self, subject_token: str) -> Identity:
        """The identity of a token of an identity provider (RFC 8693)."""
        return self._issuers.of_provider(subject_token).identity

"""*Token*: what the registry signs for a client: an identity, and the most that the token allows it.

A token grants nothing: each request is decided by the rules of that moment and by the token together.
"""

from __future__ import annotations

import secrets
from functools import lru_cache
from time import time
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from joserfc import jwt

from registry.auth.identity import Identity, Kind
from registry.auth.jwt import Jwt, JwtInvalid
from registry.auth.key_source import verify
from registry.auth.tokens.scopes import ALL, CATALOG, REGISTRY, REPOSITORY, Scope

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from registry.auth.identity import Bound
    from registry.auth.tokens.signing_keys import SigningKeys

ACCESS: Final = "registry-access"
"""The type of a token that requests come with."""
REFRESH: Final = "registry-refresh"
"""The type of a token that buys access tokens, and does nothing else."""
REFRESH_SECONDS: Final = 30 * 86400
"""The life of a refresh token: as long as a key signs."""
PULL: Final = "pull"
PUSH: Final = "push"


class TokenBound:
    """The access of a token, as a bound of its identity; ``beneath`` is what bounds that otherwise."""

    def __init__(self, access: Iterable[Scope], beneath: Bound | None = None) -> None:
        self._actions: dict[str, frozenset[str]] = {}
        """In each repository."""
        self._has_catalog = False
        for scope in access:
            if scope.kind == REPOSITORY:
                self._actions[scope.name] = _one_of(frozenset(scope.actions))
            elif (scope.kind, scope.name) == (REGISTRY, CATALOG):
                self._has_catalog = ALL in scope.actions
        self.beneath = beneath

    def allows(self, action: str, repository: str | None) -> bool:
        """See Bound. What may be pushed may be pulled."""
        if repository is None:
            has = action == CATALOG and self._has_catalog
        else:
            granted = self._actions.get(repository)
            has = granted is not None and (action in granted or (action == PULL and PUSH in granted))
        return has and (self.beneath is None or self.beneath.allows(action, repository))


@lru_cache(maxsize=64)
def _one_of(actions: frozenset[str]) -> frozenset[str]:
    """The same set for the same actions: there are few, and many tokens are remembered."""
    return actions


class Token(NamedTuple):
    """What a good token says."""

    identity: Identity
    """As it was when the token was signed, without a bound."""
    access: tuple[Scope, ...]
    expires: float
    """Seconds since the epoch."""


class Tokens:
    """Makes and reads the tokens of one service. Any thread."""

    def __init__(self, keys: SigningKeys, service: str, expires: int, clock: Callable[[], float] = time) -> None:
        self.keys = keys
        """What signs them."""
        self.service = service
        """Issuer and audience of them all."""
        self._expires = expires
        self._clock = clock

    def life(self, identity: Identity) -> int:
        """Seconds for which an access token of an identity is good: no longer than what proves it."""
        return int(min(self._expires, max(0.0, identity.until - self._clock())))

    def access(self, identity: Identity, access: Sequence[Scope]) -> str:
        """A token for requests, good for ``life``. Raises DatabaseError."""
        granted = [{"type": scope.kind, "name": scope.name, "actions": list(scope.actions)} for scope in access]
        return self._sign(ACCESS, self._expires, identity.until, {**claims_of(identity), "access": granted})

    def refresh(self, identity: Identity) -> str:
        """A token that buys access tokens. Raises DatabaseError."""
        return self._sign(REFRESH, REFRESH_SECONDS, identity.until, claims_of(identity))

    def read(self, text: str, kind: str) -> Token:
        """Read one of that type. Raises JwtInvalid, DatabaseError."""
        token = Jwt.parse(text)
        verify(token, self.keys, issuer=self.service, audiences=(self.service,), now=self._clock())
        if token.claims.get("typ") != kind:
            raise JwtInvalid("it is a token of another type")
        try:
            return Token(identity_of(token.claims), access_of(token.claims), token.expires)
        except (KeyError, TypeError, ValueError) as error:
            raise JwtInvalid("its claims are not those of a token of a registry") from error

    def _sign(self, kind: str, seconds: int, until: float, claims: Mapping[str, Any]) -> str:
        now = int(self._clock())
        common = {
            "iss": self.service,
            "aud": self.service,
            "typ": kind,
            "exp": int(min(now + seconds, until)),
            "nbf": now,
            "iat": now,
            "jti": secrets.token_hex(8),
        }
        return sign(self.keys, {**common, **claims})


def sign(keys: SigningKeys, claims: Mapping[str, Any]) -> str:
    """A token that says this, signed with the key of this moment. Raises DatabaseError."""
    key = keys.signing()
    algorithm = key.algorithms[-1]
    return jwt.encode({"alg": algorithm, "kid": key.key_id}, dict(claims), key.key, [algorithm])


def access_of(claims: Mapping[str, Any]) -> tuple[Scope, ...]:
    """The access that a token has (distribution, "Token Authentication Implementation").

    Raises KeyError, TypeError for what has another form.
    """
    access = claims.get("access") or []
    return tuple(Scope(str(each["type"]), str(each["name"]), tuple(map(str, each["actions"]))) for each in access)


def claims_of(identity: Identity) -> dict[str, Any]:
    """An identity without its bound as a JSON value; ``identity_of`` reads it."""
    claims: dict[str, Any] = {"kind": str(identity.kind), "sub": identity.name}
    if identity.credential:
        claims["cred"] = identity.credential
    if identity.groups:
        claims["groups"] = sorted(identity.groups)
    if identity.claims:
        claims["claims"] = dict(identity.claims)
    if identity.is_user:
        claims["as_user"] = True
    return claims


def identity_of(claims: Mapping[str, Any]) -> Identity:
    """The identity that ``claims_of`` wrote. Raises KeyError, TypeError, ValueError for what has another form."""
    found: Mapping[str, Any] = dict(claims.get("claims") or {})
    return Identity(
        Kind(claims["kind"]),
        text_of(claims, "sub"),
        frozenset(claims.get("groups") or ()),
        MappingProxyType({name: tuple(value) if isinstance(value, list) else value for name, value in found.items()}),
        claims.get("cred", ""),
        is_user=claims.get("as_user", False),
    )


def text_of(claims: Mapping[str, Any], name: str) -> str:
    """A claim that must be text. Raises KeyError, TypeError."""
    found = claims[name]
    if not isinstance(found, str):
        raise TypeError(f"{name} is no text")
    return found

"""*Provider*: from a token of an OpenID Connect provider to an identity.

The token is a password, a Bearer token, or what is exchanged for a token of ours; it says the same each time. Groups
are those of this token alone: one that the provider took away is gone with the next.
"""

from __future__ import annotations

from time import time
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from registry.auth.identity import Identity, Kind
from registry.auth.jwt import Jwt, JwtInvalid
from registry.auth.key_source import verify
from registry.auth.oidc.claims import flatten
from registry.auth.tokens.bearer import Verified
from registry.oci.errors import Unauthorized

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from registry.auth.identity import Claims
    from registry.auth.key_source import KeySource
    from registry.config.token_sections import OidcSettings

LONGEST_NAME: Final = 255
"""Characters of the name of a user."""
RESERVED: Final = frozenset({"anonymous", "authenticated"})
"""What a rule says that is no user."""


class Used(NamedTuple):
    """What the rules look at; an identity, and so a token of ours, has nothing else of what a provider says."""

    claims: frozenset[str]
    groups: frozenset[str]


class Interest(Protocol):
    """What the rules look at now: it may change while a process runs."""

    @property
    def claims(self) -> frozenset[str]:
        """See Used."""
        ...

    @property
    def groups(self) -> frozenset[str]:
        """See Used."""
        ...


class Provider:
    """Verifies the tokens of one provider. Any thread."""

    def __init__(
        self, settings: OidcSettings, keys: KeySource, used: Interest, clock: Callable[[], float] = time
    ) -> None:
        self._settings = settings
        self._keys = keys
        self._used = used
        self._clock = clock

    @property
    def issuer(self) -> str:
        """Its ``iss``."""
        return self._settings.issuer

    def identify(self, token: Jwt) -> Verified:
        """The identity that a token proves. Raises Unauthorized, or Unavailable where no keys are known."""
        return self._identify(token, self._settings.audiences, {})

    def identify_login(self, token: Jwt, *, client_id: str, nonce: str) -> Identity:
        """The identity that the ID token of a login proves (OpenID Connect Core 1.0, section 3.1.3.7).

        It has to be for this client, and for the login that has this nonce. Raises as ``identify``.
        """
        said = {"nonce": nonce}
        if "azp" in token.claims or token.claims.get("aud") not in (client_id, [client_id]):
            said["azp"] = client_id
        return self._identify(token, (client_id,), said).identity

    def _identify(self, token: Jwt, audiences: Collection[str], said: Mapping[str, str]) -> Verified:
        """``said`` are claims that the token has to have beside its audience."""
        settings = self._settings
        try:
            verify(token, self._keys, issuer=settings.issuer, audiences=audiences, now=self._clock())
            _compare(token.claims, said)
            claims = flatten(token.claims)
            identity = Identity(
                Kind.OIDC,
                f"{settings.name}/{self._user(claims)}",
                self._groups(claims),
                MappingProxyType({name: value for name, value in claims.items() if name in self._used.claims}),
                is_user=settings.as_users,
            )
        except JwtInvalid as error:
            raise Unauthorized(f"the token of the identity provider {settings.name} is refused: {error}") from error
        return Verified(identity, token.expires)

    def _user(self, claims: Claims) -> str:
        user = claims.get(self._settings.user)
        if not isinstance(user, str) or not user.isprintable() or not 0 < len(user) <= LONGEST_NAME:
            raise JwtInvalid(f"{self._settings.user}, which is to name the user, does not")
        if self._settings.as_users and (":" in user or user in RESERVED):
            raise JwtInvalid("its user has a name that rules use for something else")
        return user

    def _groups(self, claims: Claims) -> frozenset[str]:
        if self._settings.groups is None:
            return frozenset()
        claimed = claims.get(self._settings.groups, ())
        prefix = "" if self._settings.as_groups else f"{self._settings.name}/"
        names = {f"{prefix}{group}" for group in ((claimed,) if isinstance(claimed, str) else claimed)}
        return frozenset(names & self._used.groups)


def _compare(claims: Mapping[str, object], said: Mapping[str, str]) -> None:
    """Raise JwtInvalid where a claim is not what it should be."""
    for name, value in said.items():
        if claims.get(name) != value:
            raise JwtInvalid(f"its {name} is not that of this login")

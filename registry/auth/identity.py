"""*Identity*: which party sends a request, as far as its credentials prove it. All that rules, tokens and logs know."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from math import inf
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    Claims = Mapping[str, str | tuple[str, ...]]
    """Names of claims with their values as text; a list has several."""

NO_CLAIMS: Final[Claims] = MappingProxyType({})


class Kind(enum.StrEnum):
    """What proves an identity."""

    USER = "user"
    """A password."""
    KEY = "key"
    """An API key."""
    OIDC = "oidc"
    """A token of an OpenID Connect provider."""
    EXTERNAL = "external"
    """A token of an external token service, which bounds what it allows."""
    CERTIFICATE = "cert"
    """A client certificate."""
    ANONYMOUS = "anonymous"
    """Nothing: there were no credentials."""


class Bound(Protocol):
    """The most that a credential allows, whatever the rules allow its identity."""

    def allows(self, action: str, repository: str | None) -> bool:
        """Whether it has this action; ``repository`` is None for one that concerns none."""
        ...


@dataclass(frozen=True, slots=True)
class Identity:
    """An identity, with what its credential says of it."""

    kind: Kind
    name: str = ""
    """The user; the id of a key; ``PROVIDER/NAME`` for OIDC; the subject of an external token; a certificate's name."""
    groups: frozenset[str] = frozenset()
    """As rules name them."""
    claims: Claims = field(default_factory=lambda: NO_CLAIMS, hash=False)
    """Those that rules use."""
    credential: str = ""
    """Which version of the credential it was: 16 hex digits of a hash of the stored one, or the id of the key."""
    scope: Bound | None = field(default=None, compare=False)
    """What bounds it beside the rules; None if nothing does. It makes no other identity: rules do not look at it."""
    until: float = field(default=inf, compare=False)
    """When its credential ends, in seconds since the epoch: tokens that were made for it end then too."""
    is_user: bool = False
    """An OIDC identity that rules name as a user, by the name without its provider."""
    owner: Identity | None = None
    """The user without whose rights a key has none; None where rules are asked about the identity itself."""

    @property
    def who(self) -> str:
        """As rules name it: ``alice``, ``key:ID``, ``oidc:sso/alice``, ``cert:NAME``, ``anonymous``."""
        match self.kind:
            case Kind.USER:
                return self.name
            case Kind.ANONYMOUS:
                return ANONYMOUS_NAME
            case Kind.OIDC if self.is_user:
                return self.name.partition("/")[2]
            case _:
                return f"{self.kind}:{self.name}"

    @property
    def subject(self) -> Identity:
        """The identity that rules are asked about: the owner of a key that has one."""
        return self.owner or self

    @property
    def is_anonymous(self) -> bool:
        """Whether nothing is known of the caller."""
        return self.kind is Kind.ANONYMOUS

    @property
    def has_no_credential(self) -> bool:
        """Whether its request came with nothing at all: an anonymous token is a credential."""
        return self.is_anonymous and self.scope is None

    @property
    def actor(self) -> str:
        """As the journal names it: ``user:alice``, ``key:ID``, ``oidc:sso/alice``."""
        return ANONYMOUS_NAME if self.kind is Kind.ANONYMOUS else f"{self.kind}:{self.name}"


ANONYMOUS_NAME: Final = "anonymous"
ANONYMOUS: Final = Identity(Kind.ANONYMOUS)
"""The identity of a caller without credentials."""

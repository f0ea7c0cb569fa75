"""*Token sections* of the settings: tokens of the registry, of a token service, and of identity providers."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, FilePath, SecretStr

from registry.config.durations import WholeSeconds  # noqa: TC001 - pydantic reads it
from registry.config.sections import Section, split_commas
from registry.config.urls import check_address, check_issuer

_SCOPE = re.compile(r"[!#-\[\]-~]+")

MONTH = 30 * 86400
"""Seconds for which a key signs: no token lives longer."""


class ExternalTokenSettings(Section):
    """A token service that is not this registry, to which clients are sent in place of ours."""

    realm: Annotated[str, AfterValidator(check_address)]
    """Address where clients get its tokens."""
    issuer: str = Field(min_length=1)
    """Issuer (iss) of its tokens."""
    service: str = Field(min_length=1)
    """Audience (aud) of its tokens, and the service that clients ask it for."""
    keys_file: FilePath
    """File with its public keys: a JWK set, or keys or certificates as PEM; a changed file takes effect at once."""


class TokenSettings(Section):
    """Tokens that clients get at /auth/token."""

    expires: WholeSeconds = Field(default=3600, ge=60, le=MONTH)
    """Seconds for which a token is good; removed users, keys and rules end its rights before."""
    service: str | None = Field(default=None, min_length=1)
    """Name of this registry in tokens and challenges, the same on all replicas; null: the host of http.external_url."""
    key_file: FilePath | None = None
    """File with 32 secret bytes or more, or private keys (EC, Ed25519) as PEM, the first signs; null: the database."""
    refresh: bool = False
    """Give refresh tokens to clients that ask for them; they keep one in place of the password then."""
    external: ExternalTokenSettings | None = None
    """A token service in place of ours; null for none."""


def _check_scopes(value: tuple[str, ...]) -> tuple[str, ...]:
    """The scopes of a login. Raises ValueError for those that are no login, or no scopes (RFC 6749, section 3.3)."""
    if "openid" not in value or not all(map(_SCOPE.fullmatch, value)):
        raise ValueError("is no list of scopes with openid among them, without which a provider tells no identity")
    return value


class LoginSettings(Section):
    """Login in a browser at this provider, where the registry is a client with the redirect URI /auth/callback."""

    client_id: str = Field(min_length=1)
    """Name of the registry at the provider; ID tokens of logins have it as their audience."""
    client_secret: SecretStr | None = None
    """Secret of the registry at the provider; null for a public client."""
    scopes: Annotated[tuple[str, ...], BeforeValidator(split_commas), AfterValidator(_check_scopes)] = ("openid",)
    """Scopes that a login asks for; openid is one of them, and further ones bring the claims of users and groups."""


class OidcSettings(Section):
    """An OpenID Connect provider whose tokens are passwords, Bearer tokens, and are exchanged at /auth/token."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")
    """Name in rules: oidc:NAME is any identity of it, oidc:NAME/USER one."""
    issuer: Annotated[str, AfterValidator(check_issuer)]
    """Issuer (iss), exactly as its tokens have it: https, or http on this machine."""
    audiences: Annotated[tuple[str, ...], BeforeValidator(split_commas), Field(min_length=1)]
    """Audiences (aud) of which a token must name one."""
    user: str = Field(default="sub", min_length=1)
    """Claim that names the user; one inside an object is OBJECT/CLAIM."""
    groups: str | None = None
    """Claim that lists groups, in rules group:NAME/GROUP; null for none."""
    as_users: bool = False
    """Its users are those of rules, without oidc:NAME/ in front: it may then name any of them."""
    as_groups: bool = False
    """Its groups are those of rules, without NAME/ in front."""
    any_identity: bool = False
    """Allow rules for oidc:NAME without claims: every account of the provider has their rights."""
    ca_file: FilePath | None = None
    """PEM file with the authorities of the provider's certificate; null: those of the system."""
    jwks_file: FilePath | None = None
    """File with the provider's keys, so that it is not asked for them; null finds them by its discovery document."""
    login: LoginSettings | None = None
    """Login in a browser; null for none."""

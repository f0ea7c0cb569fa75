"""*Access sections* of the settings: where identities come from, and what rules allow them."""

from __future__ import annotations

import re
from pathlib import Path  # noqa: TC003 - pydantic reads it
from typing import Annotated, Literal, TypeAlias

from pydantic import AfterValidator, BeforeValidator, Field

from registry.config.durations import Seconds  # noqa: TC001 - pydantic reads it
from registry.config.sections import Count, Section, split_commas
from registry.config.sizes import Size  # noqa: TC001 - pydantic reads it
from registry.config.token_sections import OidcSettings, TokenSettings

Action: TypeAlias = Literal["pull", "push", "delete", "admin", "*"]

_WHO = re.compile(r"(?:(?:group|key|oidc|external|cert):.+|[^:]+)")
_PIECE = r"(?:\{[^{}]+\}|\*\*|[a-z0-9._*-]+)"
_PATTERN = re.compile(rf"{_PIECE}(?:/{_PIECE})*")


def check_pattern(value: str) -> str:
    """A pattern of repositories: ``*`` within a segment, ``**`` and ``{claim}`` as whole ones. Raises ValueError."""
    if not _PATTERN.fullmatch(value) or any("**" in part != "**" for part in value.split("/") if "**" in part):
        raise ValueError("is no pattern of repositories; * is any text of one segment, ** and {claim} are whole ones")
    return value


def check_who(value: str) -> str:
    """An identity of a rule. Raises ValueError."""
    if not _WHO.fullmatch(value):
        raise ValueError("names no identity: a user, group:, key:, oidc:, external:, cert:, authenticated, anonymous")
    return value


def check_no_claims(patterns: tuple[str, ...]) -> tuple[str, ...]:
    """Patterns that match for every caller alike. Raises ValueError."""
    if any("{" in pattern for pattern in patterns):
        raise ValueError("has a {claim}, and no identity is asked here")
    return patterns


def _one_or_more(value: object) -> object:
    """One text is a list of one."""
    return [value] if isinstance(value, str) else value


Patterns = Annotated[
    tuple[Annotated[str, AfterValidator(check_pattern)], ...], BeforeValidator(split_commas), Field(min_length=1)
]
Names = Annotated[tuple[str, ...], BeforeValidator(split_commas)]


class HtpasswdSettings(Section):
    """Users with passwords."""

    file: Path
    """File with user:hash lines, bcrypt or argon2id; a changed file takes effect at once."""


class ThrottleSettings(Section):
    """Wrong passwords of one user from one address."""

    failures: Count = 10
    """Wrong passwords that are checked; beyond, the answer is 401 without a look at the password."""
    seconds: Seconds = 300
    """Seconds in which as many are allowed again."""


class CertificateSettings(Section):
    """Identities of client certificates: cert:NAME in rules."""

    user: Literal["subject.cn", "san.uri", "san.dns", "san.email"] = "san.uri"
    """Field of the certificate that names the client, which must have one value: cert:NAME in rules."""
    header: str | None = Field(default=None, pattern=r"^[A-Za-z][A-Za-z0-9-]{0,63}$")
    """Header in which http.trusted_proxies pass certificates on, as escaped PEM or by RFC 9440; null for none."""


class KeySettings(Section):
    """API keys."""

    enabled: bool = True
    """Accept API keys as passwords."""
    max_days: Count = 365
    """Days after which a key ends at the latest, also one that was made when this was more."""


class AuthSettings(Section):
    """Where identities come from."""

    htpasswd: HtpasswdSettings | None = None
    """Users with passwords; null for none."""
    groups: dict[str, Names] = Field(default={})
    """Groups of users, keys (key:ID) and certificates (cert:NAME), which rules name group:NAME."""
    token: TokenSettings = TokenSettings()
    """Tokens that clients get at /auth/token."""
    keys: KeySettings = KeySettings()
    """API keys."""
    certificates: CertificateSettings | None = None
    """Identities of client certificates; null: certificates name none."""
    oidc: tuple[OidcSettings, ...] = ()
    """OpenID Connect providers: workloads of CI and clusters, and users of a company."""
    throttle: ThrottleSettings = ThrottleSettings()
    """Wrong passwords of one user from one address."""
    remember: Seconds = 600
    """Seconds for which verified credentials are not verified again; API keys not while the database is away."""
    insecure: bool = False
    """Take passwords over plain HTTP from other machines."""


class AccessRule(Section):
    """What some identities may do in some repositories. A request is allowed if one rule allows it."""

    who: Annotated[
        tuple[Annotated[str, AfterValidator(check_who)], ...], BeforeValidator(split_commas), Field(min_length=1)
    ]
    """Users, group:NAME, key:ID, oidc:PROVIDER[/USER], external:SUBJECT, cert:PATTERN, authenticated, anonymous."""
    repositories: Patterns
    """Patterns of repositories: * is any text within one segment, ** any segments, {claim} the value of a claim."""
    actions: Annotated[tuple[Action, ...], BeforeValidator(split_commas), Field(min_length=1)]
    """pull, push (which has pull in it), delete, admin, or * for all."""
    claims: dict[str, Annotated[tuple[str, ...], BeforeValidator(_one_or_more), Field(min_length=1)]] = Field(
        default={}
    )
    """Claims that an OIDC identity must have, each with one of these values, in which * is any text."""


class ImmutableSettings(Section):
    """Tags that stay what they are, for every caller."""

    repositories: Annotated[Patterns, AfterValidator(check_no_claims)]
    """Patterns of repositories, as in rules but without {claim}."""
    tags: Annotated[tuple[str, ...], BeforeValidator(split_commas), Field(min_length=1)]
    """Patterns of tags, in which * is any text."""
    but: Names = Field(default=(), alias="except")
    """Patterns of tags that may change all the same."""
    delete: bool = False
    """Let callers with the right to delete remove such a tag and its manifest."""


class QuotaSettings(Section):
    """How many bytes some repositories may have together."""

    repositories: Annotated[Patterns, AfterValidator(check_no_claims)]
    """Patterns of repositories, as in rules but without {claim}."""
    bytes: Size
    """Bytes of their distinct blobs: a number, or text such as "500GiB"."""


class AccessSettings(Section):
    """What identities may do."""

    rules: tuple[AccessRule, ...] = ()
    """Rules; what none of them allows is refused."""
    immutable: tuple[ImmutableSettings, ...] = ()
    """Tags that stay what they are, for every caller."""
    quotas: tuple[QuotaSettings, ...] = ()
    """How many bytes groups of repositories may have; each of several that match one repository holds."""

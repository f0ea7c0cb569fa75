"""*Rights*: what an identity may do now, by the rules of this moment and by what bounds its credential.

Tests: ``tests/api/test_guard.py``.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Final

from registry.auth.identity import Kind
from registry.auth.rules.rule_set import RuleSet
from registry.auth.tokens.token import TokenBound
from registry.config.access_sections import AccessRule

if TYPE_CHECKING:
    from registry.auth.identity import Bound, Identity
    from registry.config.access_sections import AccessSettings, AuthSettings

PULL: Final = "pull"
CATALOG: Final = "catalog"
ADMIN: Final = "admin"


class Verdict(enum.Enum):
    """What is said to a caller."""

    ALLOWED = enum.auto()
    TOKEN_NEEDED = enum.auto()
    """Not with these credentials; another token, or a login, could help."""
    DENIED = enum.auto()


class Rights:
    """Any thread; the rules may be replaced meanwhile.

    Decides by names alone, so that no answer tells whether a repository exists.
    """

    def __init__(self, rules: RuleSet, *, has_rules: bool) -> None:
        self.rules = rules
        self.has_rules = has_rules
        """Whether they are those of the settings, whose numbers an operator knows."""
        self.revision = 0
        """Raised with each change of the rules: what was decided before is decided anew."""

    @classmethod
    def of(cls, auth: AuthSettings | None, access: AccessSettings | None) -> Rights:
        """The rights by the settings: without ``access`` known callers may pull, push and delete everywhere."""
        everywhere = AccessRule(who=("authenticated",), repositories=("**",), actions=("pull", "push", "delete"))
        open_providers = [provider.name for provider in (auth.oidc if auth else ()) if provider.any_identity]
        rules = RuleSet((everywhere,) if access is None else access.rules, open_providers)
        return cls(rules, has_rules=access is not None)

    def take(self, auth: AuthSettings | None, access: AccessSettings | None) -> None:
        """Decide by the rules of these settings from now on."""
        other = Rights.of(auth, access)
        self.rules, self.has_rules = other.rules, other.has_rules
        self.revision += 1

    @property
    def claims(self) -> frozenset[str]:
        """The claims that the rules look at."""
        return self.rules.used.claims

    @property
    def groups(self) -> frozenset[str]:
        """The groups that the rules name."""
        return self.rules.used.groups

    def allows(self, identity: Identity, action: str, repository: str) -> bool:
        """Whether it may do that. Asked for each request."""
        if self.rules.find(identity, action, repository) is None:
            return False
        bound = identity.scope
        return bound is None or bound.allows(action, repository)

    def decide(self, identity: Identity, action: str, repository: str) -> Verdict:
        """The verdict about an action in a repository, which need not exist."""
        if self.allows(identity, action, repository):
            return Verdict.ALLOWED
        if identity.kind is Kind.ANONYMOUS:
            return Verdict.TOKEN_NEEDED
        own = _without_token(identity.scope)
        helps = own is not identity.scope and self.rules.allows(identity, action, repository)
        return Verdict.TOKEN_NEEDED if helps and _allows(own, action, repository) else Verdict.DENIED

    def decide_catalog(self, identity: Identity) -> Verdict:
        """The verdict about the catalog, which shows each caller what it may pull."""
        if identity.has_no_credential:
            return Verdict.ALLOWED if self.rules.prefixes(identity, PULL) else Verdict.TOKEN_NEEDED
        return Verdict.ALLOWED if _allows(identity.scope, CATALOG, None) else Verdict.TOKEN_NEEDED

    def decide_metrics(self, identity: Identity) -> Verdict:
        """The verdict about protected metrics, which name nothing: they are for every identity that is known."""
        if identity.is_anonymous:
            return Verdict.TOKEN_NEEDED
        return Verdict.ALLOWED if self.rules.is_known(identity) else Verdict.DENIED

    def is_admin(self, identity: Identity) -> bool:
        """Whether it may do what concerns no repository: by a rule, and by what bounds it."""
        return self.rules.is_admin(identity) and _allows(identity.scope, ADMIN, None)

    def may_see(self, identity: Identity, repository: str) -> bool:
        """Whether the catalog shows it a repository: one that it may pull, with another token perhaps."""
        return self.rules.allows(identity, PULL, repository) and _allows(
            _without_token(identity.scope), PULL, repository
        )


def _allows(bound: Bound | None, action: str, repository: str | None) -> bool:
    return bound is None or bound.allows(action, repository)


def _without_token(bound: Bound | None) -> Bound | None:
    return bound.beneath if isinstance(bound, TokenBound) else bound

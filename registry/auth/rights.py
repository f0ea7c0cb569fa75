"""*Rights*: what an identity may do now, by the rules of this moment and by what bounds its credential.

Tests: ``tests/api/test_guard.py``.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Final

from registry.auth.identity import ANONYMOUS, Kind
from registry.auth.rules.rule_set import RuleSet
from registry.auth.tokens.token import TokenBound
from registry.config.access_sections import AccessRule

if TYPE_CHECKING:
    from registry.auth.identity import Bound, Identity
    from registry.config.access_sections import AccessSettings, AuthSettings

PULL: Final = "pull"
CATALOG: Final = "catalog"


class Verdict(enum.Enum):
    """What is said to a caller."""

    ALLOWED = enum.auto()
    TOKEN_NEEDED = enum.auto()
    """Not with these credentials; another token, or a login, could help."""
    DENIED = enum.auto()


class Rights:
    """Any thread. Decides by names alone, so that no answer tells whether a repository exists."""

    def __init__(self, rules: RuleSet) -> None:
        self.rules = rules

    @classmethod
    def of(cls, auth: AuthSettings | None, access: AccessSettings | None) -> Rights:
        """The rights by the settings: without ``access`` known callers may pull, push and delete everywhere."""
        everywhere = AccessRule(who=("authenticated",), repositories=("**",), actions=("pull", "push", "delete"))
        open_providers = [provider.name for provider in (auth.oidc if auth else ()) if provider.any_identity]
        return cls(RuleSet((everywhere,) if access is None else access.rules, open_providers))

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
        if identity == ANONYMOUS:
            return Verdict.ALLOWED if self.rules.prefixes(identity, PULL) else Verdict.TOKEN_NEEDED
        return Verdict.ALLOWED if _allows(identity.scope, CATALOG, None) else Verdict.TOKEN_NEEDED

    def may_see(self, identity: Identity, repository: str) -> bool:
        """Whether the catalog shows it a repository: one that it may pull, with another token perhaps."""
        return self.rules.allows(identity, PULL, repository) and _allows(
            _without_token(identity.scope), PULL, repository
        )


def _allows(bound: Bound | None, action: str, repository: str | None) -> bool:
    return bound is None or bound.allows(action, repository)


def _without_token(bound: Bound | None) -> Bound | None:
    return bound.beneath if isinstance(bound, TokenBound) else bound

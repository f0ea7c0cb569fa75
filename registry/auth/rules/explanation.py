"""*Explanation*: which rule allows an identity something, where the identity is only named and proves nothing.

Tests: ``tests/cli/test_access.py``.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from registry.auth.groups import Groups
from registry.auth.identity import ANONYMOUS, Identity, Kind
from registry.auth.rights import Rights

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from registry.config.settings import Settings

_KINDS = {"key": Kind.KEY, "oidc": Kind.OIDC, "external": Kind.EXTERNAL, "cert": Kind.CERTIFICATE}


class Explanation(NamedTuple):
    """Whether it may, and why."""

    is_allowed: bool
    rule: int | None
    """The number of the first rule that allows it, from 1 on; None if none does, or there are no rules."""
    reason: str


def named(who: str, groups: Iterable[str], claims: Mapping[str, str | tuple[str, ...]], settings: Settings) -> Identity:
    """The identity that rules name so, in these groups and those of the settings. Raises ValueError."""
    if who == ANONYMOUS.who:
        return ANONYMOUS
    kind, colon, name = who.partition(":")
    if colon and (kind not in _KINDS or not name):
        raise ValueError(f"{who} is no identity: alice, key:ID, oidc:PROVIDER/USER, external:SUBJECT, cert:NAME")
    own = Groups(settings.auth.groups if settings.auth else {}).of(who)
    all_groups = own | frozenset(groups)
    if not colon:
        return Identity(Kind.USER, who, all_groups)
    return Identity(_KINDS[kind], name, all_groups, MappingProxyType(dict(claims)))


def explain(settings: Settings, identity: Identity, action: str, repository: str) -> Explanation:
    """Whether an identity may do something, by the settings."""
    if settings.auth is None and settings.access is None:
        return Explanation(is_allowed=True, rule=None, reason="there are no rules: every caller may do everything")
    found = Rights.of(settings.auth, settings.access).rules.find(identity, action, repository)
    if found is None:
        return Explanation(is_allowed=False, rule=None, reason="no rule allows it")
    if settings.access is None:
        return Explanation(
            is_allowed=True,
            rule=None,
            reason="without access.rules users and keys may do so",
        )
    rule = settings.access.rules[found.number - 1]
    text = f"{', '.join(rule.who)}: {', '.join(rule.actions)} in {', '.join(rule.repositories)}"
    return Explanation(is_allowed=True, rule=found.number, reason=f"rule {found.number}: {text}")

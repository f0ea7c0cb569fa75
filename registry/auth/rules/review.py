"""*Review*: what an operator may not have meant with rules that the registry takes.

Tests: ``tests/cli/test_access.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry.auth.passwords.htpasswd import parse_htpasswd
from registry.auth.rules.rule_set import ANONYMOUS, AUTHENTICATED

if TYPE_CHECKING:
    from collections.abc import Iterator

    from registry.config.access_sections import AccessRule, AuthSettings
    from registry.config.settings import Settings


def review(settings: Settings) -> Iterator[str]:
    """A line for each identity that no source has, and for each rule that shows more than it says."""
    auth = settings.auth
    users = set(parse_htpasswd(auth.htpasswd.file.read_bytes())) if auth and auth.htpasswd else set()
    for number, rule in enumerate(settings.access.rules if settings.access else ()):
        for entry in rule.who:
            if not _is_known(auth, users, entry):
                yield f"access.rules.{number}.who has {entry}, which no source in auth has: it matches no caller"
        if _only_deletes(rule):
            yield f"access.rules.{number}.actions has delete without pull: its answers tell what is there all the same"


def _is_known(auth: AuthSettings | None, users: set[str], entry: str) -> bool:
    """Whether some caller could be that; of keys and accounts of providers only these know."""
    kind, colon, name = entry.partition(":")
    if entry == ANONYMOUS or auth is None:
        return entry == ANONYMOUS
    if not colon:
        return entry == AUTHENTICATED or entry in users or any(provider.as_users for provider in auth.oidc)
    claimed = [provider for provider in auth.oidc if provider.groups is not None]
    known = {
        "group": name in auth.groups
        or any(provider.as_groups or name.startswith(f"{provider.name}/") for provider in claimed),
        "external": auth.token.external is not None,
        "key": auth.keys.enabled,
        "oidc": True,
    }
    return known.get(kind, False)


def _only_deletes(rule: AccessRule) -> bool:
    return "delete" in rule.actions and not {"pull", "push", "*"} & set(rule.actions)

"""*Review*: what an operator may not have meant with rules that the registry takes.

Tests: ``tests/cli/test_access.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry.auth.passwords.htpasswd import parse_htpasswd
from registry.auth.rules.rule_set import ANONYMOUS, AUTHENTICATED
from registry.config.urls import is_loopback
from registry.oci.glob import Glob
from registry.oci.tag import is_tag

if TYPE_CHECKING:
    from collections.abc import Iterator

    from registry.config.access_sections import (
        AccessRule,
        AccessSettings,
        AuthSettings,
        ImmutableSettings,
        QuotaSettings,
    )
    from registry.config.sections import HttpSettings
    from registry.config.settings import Settings


def review(settings: Settings) -> Iterator[str]:
    """A line for each identity that no source has, and each pattern that matches nothing.

    Also one for each rule that shows more than it says, and one for the address of a proxy where all clients seem to
    have it: wrong passwords of one keep out the rest then.
    """
    auth = settings.auth
    if auth is not None and auth.htpasswd is not None and _is_behind_an_unknown_proxy(settings.http):
        yield (
            "http.trusted_proxies has this machine alone, and the proxy of http.external_url seems to be on another:"
            " all clients count as one address, and wrong passwords of one client keep the user out for all"
        )
    users = set(parse_htpasswd(auth.htpasswd.file.read_bytes())) if auth and auth.htpasswd else set()
    for number, rule in enumerate(settings.access.rules if settings.access else ()):
        for entry in rule.who:
            if not _is_known(auth, users, entry):
                yield f"access.rules.{number}.who has {entry}, which no source in auth has: it matches no caller"
        if _only_deletes(rule):
            yield f"access.rules.{number}.actions has delete without pull: its answers tell what is there all the same"
    if settings.access:
        yield from _without_match(settings.access)


def _without_match(access: AccessSettings) -> Iterator[str]:
    sections: dict[str, tuple[AccessRule | ImmutableSettings | QuotaSettings, ...]] = {
        "rules": access.rules,
        "immutable": access.immutable,
        "quotas": access.quotas,
    }
    for section, rules in sections.items():
        for number, rule in enumerate(rules):
            for pattern in rule.repositories:
                if not Glob(pattern).can_match:
                    yield f"access.{section}.{number}.repositories has {pattern}, which no repository can be called"
    for number, rule in enumerate(access.immutable):
        for pattern in (*rule.tags, *rule.but):
            if not is_tag(pattern.replace("*", "x")):
                yield f"access.immutable.{number} has the tag {pattern}, which no tag can be called"


def _is_behind_an_unknown_proxy(http: HttpSettings) -> bool:
    """Whether a proxy ends TLS, which the settings do not know."""
    ends_tls = http.tls is None and (http.external_url or "").startswith("https://")
    return ends_tls and not is_loopback(http.host) and all(each.is_loopback for each in http.trusted_proxies)


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
        "cert": auth.certificates is not None,
        "oidc": True,
    }
    return known.get(kind, False)


def _only_deletes(rule: AccessRule) -> bool:
    return "delete" in rule.actions and not {"pull", "push", "*"} & set(rule.actions)

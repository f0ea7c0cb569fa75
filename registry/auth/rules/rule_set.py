"""*Rule set*: the rules of the settings. They only allow: their union counts, and no order of them means anything.

A rule for ``anonymous`` is for every caller, one for ``authenticated`` for each that is known. An account of a provider
may be any stranger's: it counts as known only where the settings of the provider say so (``any_identity``).
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from registry.auth.identity import Kind
from registry.auth.oidc.provider import Used
from registry.oci.glob import Glob, text_pattern

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from registry.auth.identity import Identity
    from registry.config.access_sections import AccessRule

ALL = "*"
PULL = "pull"
PUSH = "push"
ANONYMOUS = "anonymous"
AUTHENTICATED = "authenticated"
SUBJECT = "sub"
"""The claim that the audit log has of every identity of a provider."""
REMEMBERED = 50_000


class Rule(NamedTuple):
    """One rule."""

    number: int
    """Its place in the settings, from 1 on."""
    who: tuple[str, ...]
    globs: tuple[Glob, ...]
    actions: frozenset[str]
    claims: tuple[tuple[str, tuple[str, ...]], ...]

    def is_for(self, identity: Identity, *, is_known: bool) -> bool:
        """Whether it says something of an identity: by what it is called, and by its claims."""
        return any(
            entry == ANONYMOUS or (entry == AUTHENTICATED and is_known) or _is(identity, entry) for entry in self.who
        ) and all(_has(identity, name, patterns) for name, patterns in self.claims)

    def has(self, action: str) -> bool:
        """Whether it allows an action; what may be pushed may be pulled."""
        return action in self.actions or ALL in self.actions or (action == PULL and PUSH in self.actions)


class RuleSet:
    """Immutable but for what it remembers; any thread."""

    def __init__(self, rules: Iterable[AccessRule], open_providers: Collection[str] = ()) -> None:
        """``open_providers`` are those of OpenID Connect whose every account counts as known."""
        self._open_providers = frozenset(open_providers)
        self.rules = tuple(
            Rule(
                number,
                rule.who,
                tuple(map(Glob, rule.repositories)),
                frozenset(rule.actions),
                tuple(rule.claims.items()),
            )
            for number, rule in enumerate(rules, 1)
        )
        self.used = Used(frozenset({SUBJECT, *self._claims()}), frozenset(self._named("group:")))
        """What the rules look at of what a provider says."""
        self._rules_for = lru_cache(maxsize=4096)(self._find_for)
        self.find = lru_cache(maxsize=REMEMBERED)(self._find)

    def allows(self, identity: Identity, action: str, repository: str) -> bool:
        """Whether a rule allows an identity an action in a repository, which need not exist."""
        return self.find(identity, action, repository) is not None

    def _find(self, identity: Identity, action: str, repository: str) -> Rule | None:
        """Return the first rule that allows it, None if none does."""
        return next(
            (
                rule
                for rule in self._rules_for(identity)
                if rule.has(action) and any(glob.matches(repository, identity.claims) for glob in rule.globs)
            ),
            None,
        )

    def is_known(self, identity: Identity) -> bool:
        """Whether a rule for ``authenticated`` is for it: it is neither anonymous nor a stranger's account."""
        return identity.kind is not Kind.ANONYMOUS and (
            identity.kind is not Kind.OIDC or identity.name.partition("/")[0] in self._open_providers
        )

    def is_admin(self, identity: Identity) -> bool:
        """Whether it may do what concerns no repository: a rule with admin for all of them."""
        return any(
            rule.has("admin") and any(glob.pattern == "**" for glob in rule.globs) for rule in self._rules_for(identity)
        )

    def prefixes(self, identity: Identity, action: str) -> list[str]:
        """What the names of the repositories begin with in which it may do something, in byte order, none twice."""
        found = sorted(
            {
                prefix
                for rule in self._rules_for(identity)
                if rule.has(action)
                for glob in rule.globs
                if (prefix := glob.prefix(identity.claims)) is not None
            }
        )
        kept: list[str] = []
        for prefix in found:
            if not kept or not prefix.startswith(kept[-1]):
                kept.append(prefix)
        return kept

    def _find_for(self, identity: Identity) -> tuple[Rule, ...]:
        """Find the rules for an identity; those for a key that has an owner are those for this."""
        identity = identity.subject
        is_known = self.is_known(identity)
        return tuple(rule for rule in self.rules if rule.is_for(identity, is_known=is_known))

    def _claims(self) -> Iterator[str]:
        for rule in self.rules:
            yield from (name for name, _ in rule.claims)
            for glob in rule.globs:
                yield from glob.claims

    def _named(self, prefix: str) -> Iterator[str]:
        return (entry.removeprefix(prefix) for rule in self.rules for entry in rule.who if entry.startswith(prefix))


def _is(identity: Identity, entry: str) -> bool:
    kind, _, name = entry.partition(":")
    match kind:
        case "group":
            return name in identity.groups
        case "oidc":
            own = identity.name if "/" in name else identity.name.partition("/")[0]  # an account, or all of a provider
            return identity.kind is Kind.OIDC and own == name
        case "cert":
            return identity.kind is Kind.CERTIFICATE and text_pattern(name).fullmatch(identity.name) is not None
        case _:
            return identity.who == entry


def _has(identity: Identity, name: str, patterns: tuple[str, ...]) -> bool:
    value = identity.claims.get(name)
    values = () if value is None else (value,) if isinstance(value, str) else value
    return any(text_pattern(pattern).fullmatch(text) for pattern in patterns for text in values)

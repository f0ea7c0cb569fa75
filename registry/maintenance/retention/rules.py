"""*Rules* of retention: which tags each of them decides, and by what. No I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from registry.config.retention_sections import ALWAYS
from registry.oci.glob import Glob, text_pattern

if TYPE_CHECKING:
    from collections.abc import Iterable

    from registry.config.retention_sections import Conditions, RetentionRule


class Rule(NamedTuple):
    """A rule of the settings."""

    name: str
    repositories: tuple[Glob, ...]
    tags: tuple[str, ...]
    but: tuple[str, ...]
    conditions: Conditions | None
    """None if it keeps whatever it decides."""
    needs_all: bool = False
    """Whether a tag stays only if each condition holds, or already if one does."""

    def decides(self, tag: str) -> bool:
        """Whether it decides a tag of a repository that it is for, unless an earlier rule does. Case counts."""
        return any(text_pattern(each).fullmatch(tag) for each in self.tags) and not any(
            text_pattern(each).fullmatch(tag) for each in self.but
        )


class Rules:
    """All rules in their order. Immutable; any thread."""

    def __init__(self, rules: Iterable[RetentionRule] = ()) -> None:
        self._rules = tuple(map(_rule, rules))

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._rules)

    def of(self, repository: str) -> RepositoryRules:
        """Those for the tags of one repository."""
        return RepositoryRules(
            [rule for rule in self._rules if any(glob.matches(repository, {}) for glob in rule.repositories)]
        )


class RepositoryRules:
    """The rules for one repository, in their order."""

    def __init__(self, rules: list[Rule]) -> None:
        self._rules = rules

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._rules)

    def find(self, tag: str) -> Rule | None:
        """The first one that matches a tag, which alone decides it; None if none does."""
        return next((rule for rule in self._rules if rule.decides(tag)), None)


def _rule(given: RetentionRule) -> Rule:
    keep = given.keep
    conditions = None if keep == ALWAYS else keep.any or keep.all
    needs_all = keep != ALWAYS and keep.all is not None
    return Rule(given.name, tuple(map(Glob, given.repositories)), given.tags, given.but, conditions, needs_all)

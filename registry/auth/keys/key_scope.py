"""*Key scope*: the most that an API key allows, whatever the rules allow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from registry.auth.identity import NO_CLAIMS
from registry.config.access_sections import check_pattern
from registry.oci.glob import Glob

if TYPE_CHECKING:
    from collections.abc import Sequence

PULL: Final = "pull"
PUSH: Final = "push"
CATALOG: Final = "catalog"
ALL: Final = "*"
ACTIONS: Final = (PULL, PUSH, "delete", "admin", ALL)
EVERYWHERE: Final = "**"


class KeyScope(NamedTuple):
    """Some actions in some repositories: a bound of an identity."""

    repositories: tuple[str, ...]
    """Patterns, as in rules."""
    actions: tuple[str, ...]

    @classmethod
    def of(cls, repositories: Sequence[str], actions: Sequence[str]) -> KeyScope:
        """Raises ValueError for patterns and actions that there are not."""
        for pattern in repositories:
            try:
                check_pattern(pattern)
            except ValueError as error:
                raise ValueError(f"{pattern!r} {error}") from error
            if Glob(pattern).claims:
                raise ValueError(f"{pattern!r} has the name of a claim, and a key has none")
        for action in actions:
            if action not in ACTIONS:
                raise ValueError(f"{action!r} is no action: {', '.join(ACTIONS)}")
        if not repositories or not actions:
            raise ValueError("a bound needs at least one pattern of repositories and one action")
        return cls(tuple(repositories), tuple(actions))

    def allows(self, action: str, repository: str | None) -> bool:
        """See Bound. What may be pushed may be pulled, and the catalog shows each caller its own."""
        if repository is None and action == CATALOG:
            return True
        if not (action in self.actions or ALL in self.actions or (action == PULL and PUSH in self.actions)):
            return False
        if repository is None:
            return EVERYWHERE in self.repositories
        return any(Glob(pattern).matches(repository, NO_CLAIMS) for pattern in self.repositories)

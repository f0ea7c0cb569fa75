"""*Immutable tags*: tags that stay what they are, by the settings, whichever caller asks.

They are looked at in the transaction that changes a tag, where the repository is locked: of two pushes of a new one
with different manifests the second is refused.

Tests: ``tests/images/test_immutable_tags.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from registry.oci.errors import TagImmutable
from registry.oci.glob import Glob, text_pattern

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from registry.config.access_sections import ImmutableSettings


class _Rule(NamedTuple):
    globs: tuple[Glob, ...]
    tags: tuple[str, ...]
    but: tuple[str, ...]
    delete: bool

    def is_for(self, repository: str, tag: str) -> bool:
        return (
            any(text_pattern(each).fullmatch(tag) for each in self.tags)
            and not any(text_pattern(each).fullmatch(tag) for each in self.but)
            and any(glob.matches(repository, {}) for glob in self.globs)
        )


class ImmutableTags:
    """Any thread."""

    def __init__(self, rules: Iterable[ImmutableSettings] = ()) -> None:
        self.take(rules)

    def take(self, rules: Iterable[ImmutableSettings]) -> None:
        """Have other rules from now on."""
        self._rules = [_Rule(tuple(map(Glob, each.repositories)), each.tags, each.but, each.delete) for each in rules]

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._rules)

    def has(self, repository: str, tag: str) -> bool:
        """Whether a tag is immutable there, also one that callers may remove."""
        return any(rule.is_for(repository, tag) for rule in self._rules)

    def check_put(self, repository: str, old: Mapping[str, str], digest: str) -> None:
        """Return if tags that have the digests of ``old`` may have this one. Raises TagImmutable."""
        for tag, before in old.items():
            if before != digest and any(rule.is_for(repository, tag) for rule in self._rules):
                message = f"the tag {tag} is immutable and stays {before}: it cannot become {digest}; push another tag"
                raise TagImmutable(message, detail={"tag": tag, "digest": before, "pushed": digest})

    def keeps(self, repository: str, tags: Iterable[str]) -> bool:
        """Whether one of these tags may not go."""
        return any(not rule.delete and rule.is_for(repository, tag) for tag in tags for rule in self._rules)

    def check_removal(self, repository: str, old: Mapping[str, str]) -> None:
        """Return if tags that have the digests of ``old`` may go. Raises TagImmutable."""
        if not self.keeps(repository, old):  # a manifest may have thousands, and a database in a file is locked
            return
        tag, digest = next(each for each in old.items() if self.keeps(repository, each[:1]))
        message = f"the tag {tag} is immutable and stays {digest}: neither may be removed"
        raise TagImmutable(message, detail={"tag": tag, "digest": digest})

"""*Review*: what an operator may not have meant with rules of retention that the registry takes. No I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry.config.retention_sections import ALWAYS
from registry.oci.glob import Glob, text_pattern

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from registry.config.retention_sections import RetentionRule, RetentionSettings

_REPEATED = (0, 1, 2, 3)
"""How many segments stand for ``**`` when two patterns are compared."""
_SEGMENT = "*"
"""A segment that no pattern matches but by a star."""


def review(retention: RetentionSettings) -> Iterator[str]:
    """A line for each rule that decides nothing, and for rules of which none removes anything."""
    rules = retention.rules
    for number, rule in enumerate(rules):
        for pattern in rule.repositories:
            if not Glob(pattern).can_match:
                yield f"retention.rules.{number}.repositories has {pattern}, which no repository can be called"
        for pattern in rule.tags:
            if _covers_tag(rule.but, pattern):
                yield f"retention.rules.{number}.except has all that {pattern} matches"
        earlier = next((each for each in rules[:number] if _takes_all(each, rule)), None)
        if earlier is not None:
            yield f"retention.rules.{number} ({rule.name}) never decides: {earlier.name} before it matches all it would"
    if rules and all(rule.keep == ALWAYS for rule in rules):
        yield "retention.rules keep always: tags that no rule matches stay too, so no tag is ever removed"


def _takes_all(earlier: RetentionRule, later: RetentionRule) -> bool:
    """Whether each tag that the later one matches is matched by the earlier one, as far as single patterns tell."""
    return (
        all(any(_covers(mine, theirs) for mine in earlier.repositories) for theirs in later.repositories)
        and all(_covers_tag(earlier.tags, theirs) for theirs in later.tags)
        and all(_covers_tag(later.but, excepted) for excepted in earlier.but)
    )


def _covers_tag(patterns: Sequence[str], other: str) -> bool:
    """Whether one of ``patterns`` matches all that ``other`` does: a star in it is text that only a star matches."""
    return any(text_pattern(each).fullmatch(other) for each in patterns)


def _covers(pattern: str, other: str) -> bool:
    """As ``_covers_tag``, for patterns of repositories; ``**`` at the end is one segment at least."""
    segments = other.split("/")
    if "**" not in segments:
        return _matches(pattern, segments)
    least = 1 if segments[-1] == "**" else 0
    return all(
        _matches(pattern, [part for each in segments for part in ([_SEGMENT] * count if each == "**" else [each])])
        for count in _REPEATED
        if count >= least
    )


def _matches(pattern: str, segments: list[str]) -> bool:
    return Glob(pattern).matches("/".join(segments), {})

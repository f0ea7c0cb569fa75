"""Rules and tags as tests write them: days before a moment in place of times."""

from __future__ import annotations

from typing import Any

from registry.config.retention_sections import RetentionRule
from registry.maintenance.retention.decision import Moment, Tagged
from registry.maintenance.retention.rules import Rules

DAY = 86_400.0
NOW = 2_000_000_000.0
ALWAYS_COUNTED = Moment(NOW, pulls_since=0.0)


def rule(keep: object, tags: str = "*", name: str = "rule", repositories: str = "**", but: str = "") -> RetentionRule:
    """A rule of the settings; patterns with commas between."""
    given: dict[str, Any] = {"name": name, "repositories": repositories, "tags": tags, "keep": keep}
    return RetentionRule(**given | ({"except": but} if but else {}))


def rules(*given: RetentionRule) -> Rules:
    return Rules(given)


def tagged(tag: str, digest: str, pushed: float | None = None, pulled: float | None = None) -> Tagged:
    """A tag that was set and pulled so many days ago; None for not known, and for never."""
    return Tagged(tag, digest, *(None if days is None else NOW - days * DAY for days in (pushed, pulled)))

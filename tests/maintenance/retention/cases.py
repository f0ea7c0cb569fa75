"""Rules and tags as tests write them: days before a moment in place of times."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from registry.config.retention_sections import RetentionRule
from registry.maintenance.retention.decision import REMOVE, Decision, Moment, Tagged
from registry.maintenance.retention.judge import Judge, Totals
from registry.maintenance.retention.rules import RepositoryRules, Rules
from registry.oci.tag import belongs_to_subject

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


def decide(
    tags: Sequence[Tagged], rules: RepositoryRules, moment: Moment, is_immutable: Callable[[str], bool]
) -> list[Decision]:
    """The decisions about the tags of a repository, in their order, whose totals are known before."""
    judge = Judge(rules, moment, is_immutable)
    manifests = {digest: number for number, digest in enumerate(dict.fromkeys(each.digest for each in tags))}
    for each in sorted(tags, key=lambda each: manifests[each.digest]):
        judge.see(manifests[each.digest], each)
    totals = judge.close()
    decided = [judge.decide(manifests[each.digest], each) for each in tags]
    own = sum(not belongs_to_subject(each.tag) for each in tags)
    assert totals == Totals(len(tags), own, sum(each.action == REMOVE for each in decided))
    return decided

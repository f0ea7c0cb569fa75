"""*Judge*: what the rules make of the tags of one repository, none of which it keeps. No I/O.

It sees every tag once, and then tells of any of them what becomes of it: so a report of a million tags is made of
pages, and where these end means nothing.

Tests: ``tests/maintenance/retention/test_decision.py``.
"""

from __future__ import annotations

from collections import defaultdict
from math import inf
from typing import TYPE_CHECKING, NamedTuple

from registry.maintenance.retention.decision import decide, depends_on_newer, outside
from registry.maintenance.retention.ranking import Ranking
from registry.oci.tag import belongs_to_subject

if TYPE_CHECKING:
    from collections.abc import Callable

    from registry.maintenance.retention.decision import Decision, Moment, Tagged
    from registry.maintenance.retention.rules import RepositoryRules, Rule


class Totals(NamedTuple):
    """What comes of all tags."""

    tags: int
    own: int
    """Those that belong to no manifest."""
    removed: int
    """Those that go."""


class _Standing:
    """What one rule decides of the manifest that is looked at."""

    __slots__ = ("newest", "undecided")

    def __init__(self) -> None:
        self.newest = -inf
        self.undecided = 0


class Judge:
    """For one thread: first ``see`` each tag, manifest by manifest, then ``close``, then ``decide``."""

    def __init__(self, rules: RepositoryRules, moment: Moment, is_immutable: Callable[[str], bool]) -> None:
        """Tags that belong to a subject, immutable ones and those set after ``moment.now`` stay, and count nowhere."""
        self._rules = rules
        self._moment = moment
        self._is_immutable = is_immutable
        self._rankings: dict[str, Ranking] = defaultdict(Ranking)
        self._most: dict[str, int] = {}
        self._manifest = -1
        self._standings: dict[str, _Standing] = {}
        self._tags = self._own = self._removed = 0

    def see(self, manifest: int, each: Tagged) -> None:
        """Count a tag. Those of one manifest come one after the other, and manifests by growing ids."""
        if manifest != self._manifest:
            self._end_manifest()
            self._manifest = manifest
        self._tags += 1
        self._own += not belongs_to_subject(each.tag)
        rule, _ = self._deciding(each)
        if rule is None or rule.conditions is None:
            return
        depends = depends_on_newer(each, rule, self._moment)
        self._removed += depends is None
        if rule.conditions.newest is not None:
            self._most[rule.name] = rule.conditions.newest
            standing = self._standings.get(rule.name)
            if standing is None:
                standing = self._standings[rule.name] = _Standing()
            standing.newest = max(standing.newest, _time_of(each))
            standing.undecided += depends is True

    def close(self) -> Totals:
        """Every tag has been seen."""
        self._end_manifest()
        self._removed += sum(ranking.close(self._most[name]) for name, ranking in self._rankings.items())
        return Totals(self._tags, self._own, self._removed)

    def decide(self, manifest: int, each: Tagged) -> Decision:
        """Decide a tag of a manifest; one that was set since it was to be seen stays."""
        rule, reason = self._deciding(each)
        newer = None
        if rule is not None and rule.name in self._rankings:
            newer = self._rankings[rule.name].newer_than(manifest, _time_of(each))
        return decide(each, rule, newer, self._moment, reason)

    def _deciding(self, each: Tagged) -> tuple[Rule | None, str]:
        """The rule that decides a tag, or why none does."""
        reason = outside(each, self._moment, self._is_immutable)
        return (None if reason else self._rules.find(each.tag)), reason

    def _end_manifest(self) -> None:
        for name, standing in self._standings.items():
            self._rankings[name].add(self._manifest, standing.newest, standing.undecided)
        self._standings.clear()


def _time_of(each: Tagged) -> float:
    return inf if each.pushed_at is None else each.pushed_at

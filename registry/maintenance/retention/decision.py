"""*Decision*: whether a tag stays, by which rule, and why. No I/O, no clock.

What is not known keeps: a tag without a time is never too old and ranks as the newest, and no tag goes for want of
pulls before pulls have been counted for as long as the rule asks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from registry.oci.moment import to_text
from registry.oci.tag import belongs_to_subject

if TYPE_CHECKING:
    from collections.abc import Callable

    from registry.config.retention_sections import Conditions
    from registry.maintenance.retention.rules import Rule

KEEP: Final = "keep"
REMOVE: Final = "remove"
_SET_SINCE: Final = "it was set after this run began"
_UNITS: Final = (("d", 86_400), ("h", 3600), ("min", 60))


class Tagged(NamedTuple):
    """A tag as it is judged. Times are seconds since the epoch."""

    tag: str
    digest: str
    pushed_at: float | None
    """When the tag was last set; None if it is not known."""
    pulled_at: float | None
    """When its manifest was last pulled, by whatever name; None for never, as far as is known."""


class Moment(NamedTuple):
    """When tags are judged, in seconds since the epoch."""

    now: float
    """When the run began: what was set later is left alone."""
    pulls_since: float | None
    """Since when no pull was missed; None if all of them may have been."""
    pull_interval: float = 0.0
    """Seconds by which a pull may be later than what is written down of it."""


class Decision(NamedTuple):
    """What becomes of a tag."""

    tagged: Tagged
    action: Literal["keep", "remove"]
    rule: str | None
    """The name of the rule that decided it; None if none did."""
    because: str
    """The condition that decided it, for a person."""


def outside(each: Tagged, moment: Moment, is_immutable: Callable[[str], bool]) -> str:
    """Why no rule is asked of a tag, which then counts in none; "" if one is."""
    if belongs_to_subject(each.tag):
        return "it belongs to the manifest that its name says"
    if is_immutable(each.tag):
        return "it is immutable"
    if each.pushed_at is not None and each.pushed_at > moment.now:
        return _SET_SINCE
    return ""


def depends_on_newer(each: Tagged, rule: Rule, moment: Moment) -> bool | None:
    """Whether the tag stays only if few manifests are newer. None if it goes however few there are."""
    conditions = rule.conditions
    if conditions is None:
        return False
    others = [finding.holds for finding in _timely(each, conditions, moment)]
    if conditions.newest is None:
        return False if (all(others) if rule.needs_all else any(others)) else None
    if rule.needs_all:
        return True if all(others) else None
    return not any(others)


def decide(each: Tagged, rule: Rule | None, newer: int | None, moment: Moment, reason: str = "") -> Decision:
    """Decide a tag by the first rule that matches it, of whose manifests ``newer`` are newer than that of the tag.

    None for ``newer``: the tag was not set yet when these were counted. Without a rule it stays for ``reason``.
    """
    if rule is None:
        return Decision(each, KEEP, None, reason or "no rule matches it")
    if rule.conditions is None:
        return Decision(each, KEEP, rule.name, "the rule keeps always")
    findings = _timely(each, rule.conditions, moment)
    if rule.conditions.newest is not None:
        if newer is None:
            return Decision(each, KEEP, None, _SET_SINCE)
        findings.insert(0, _newest(newer, rule.conditions.newest, each))
    holding = [finding for finding in findings if finding.holds]
    is_kept = len(holding) == len(findings) if rule.needs_all else bool(holding)
    if rule.needs_all:
        decisive = holding if is_kept else [finding for finding in findings if not finding.holds][:1]
    else:
        decisive = holding[:1] if is_kept else findings
    return Decision(each, KEEP if is_kept else REMOVE, rule.name, "; ".join(finding.because for finding in decisive))


class _Finding(NamedTuple):
    """What one condition says of a tag."""

    holds: bool
    because: str

    @classmethod
    def holding(cls, because: str) -> _Finding:
        return cls(True, because)  # noqa: FBT003 - the field's name says it

    @classmethod
    def fails(cls, because: str) -> _Finding:
        return cls(False, because)  # noqa: FBT003 - likewise


def _timely(each: Tagged, conditions: Conditions, moment: Moment) -> list[_Finding]:
    """What the conditions say that ask for times alone."""
    findings: list[_Finding] = []
    if conditions.pushed_within is not None:
        findings.append(_pushed(each, conditions.pushed_within, moment))
    if conditions.pulled_within is not None:
        findings.append(_pulled(each, conditions.pulled_within, moment))
    return findings


def _newest(newer: int, most: int, each: Tagged) -> _Finding:
    if newer >= most:
        return _Finding.fails(f"{newer} are newer, of which {most} stay")
    if each.pushed_at is None:
        return _Finding.holding("when it was set is not known, so it ranks as the newest")
    return _Finding.holding(f"it is among the newest {most}")


def _pushed(each: Tagged, seconds: float, moment: Moment) -> _Finding:
    if each.pushed_at is None:
        return _Finding.holding("when it was set is not known")
    age = moment.now - each.pushed_at
    return _Finding(age <= seconds, f"it was set {shown(age)} ago{_beyond(age, seconds)}")


def _pulled(each: Tagged, seconds: float, moment: Moment) -> _Finding:
    if each.pushed_at is None:
        return _Finding.holding("when it was set is not known")
    pulled_at = each.pulled_at or each.pushed_at
    age = moment.now - max(each.pushed_at, pulled_at)
    said = f"it was {'pulled' if pulled_at > each.pushed_at else 'not pulled since it was set'} {shown(age)} ago"
    if age <= seconds + (0.0 if each.pulled_at is None else moment.pull_interval):
        return _Finding.holding(said)
    if moment.pulls_since is None:
        return _Finding.holding("pulls are not counted yet")
    if moment.now - moment.pulls_since <= seconds:
        return _Finding.holding(f"pulls before {to_text(moment.pulls_since)} are not known")
    return _Finding.fails(f"{said}{_beyond(age, seconds)}")


def _beyond(age: float, seconds: float) -> str:
    return f", longer than {shown(seconds)}" if age > seconds else ""


def shown(seconds: float) -> str:
    """A span of time for a person."""
    for unit, length in _UNITS:
        if seconds >= length:
            return f"{seconds / length:.1f}".removesuffix(".0") + f" {unit}"
    return f"{max(seconds, 0.0):.0f} s"

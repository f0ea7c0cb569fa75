"""*Report* of a scrub: what was read, what was wrong, and what that concerns.

Tests: ``tests/maintenance/scrub/test_run.py``.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from registry.oci.quotas import shown

if TYPE_CHECKING:
    from collections.abc import Iterator

    from registry.maintenance.scrub.affected import Affected
    from registry.maintenance.scrub.object_check import Verdict

LISTED: Final = 1000
"""Findings and problems that a report lists at most; all are counted."""
NAMED: Final = 100
"""Keys without a row that it lists."""


class Outcome(enum.Enum):
    """What has become of bytes that were not right."""

    NOT_SERVED = "not served"
    """The blob is unknown to clients until it is pushed again."""
    ELSEWHERE = "served from elsewhere"
    """This location is read no more; another one has the bytes."""
    REPAIRED = "repaired"
    """The right bytes are there again."""
    SERVED = "could not be taken out of service"
    """A problem says why."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A location without the right bytes."""

    digest: str
    key: str
    size: int
    """Bytes that the blob has."""
    found: Verdict
    outcome: Outcome
    affected: Affected

    def document(self) -> dict[str, Any]:
        """As a JSON value."""
        return {
            "digest": self.digest,
            "key": self.key,
            "bytes": self.size,
            "found": self.found.value,
            "now": self.outcome.value,
            "repositories": self.affected.repositories,
            "tags": self.affected.tags,
            "repositories_in_all": self.affected.in_all,
        }

    def lines(self) -> Iterator[str]:
        """For a person."""
        yield f"{self.found.value}: {self.digest} ({self.key}), {self.outcome.value}"
        more = self.affected.in_all - len(self.affected.repositories)
        yield from (f"  repository {name}" for name in self.affected.repositories)
        if more > 0:
            yield f"  and {more} more repositories"
        yield from (f"  tag {tag}" for tag in self.affected.tags)


@dataclass(frozen=True, slots=True)
class CounterDifference:
    """A counter of a quota that does not say what its rows say."""

    quota: str
    noted: int
    """Bytes by the counter."""
    counted: int
    """Bytes by the rows."""
    repaired: bool

    @property
    def is_wrong(self) -> bool:
        """Whether the quota would let in more than its limit: what was removed shows in the next count by itself."""
        return self.noted < self.counted

    def line(self) -> str:
        """For a person."""
        state = ", repaired" if self.repaired else ""
        return f"counter: {self.quota}: {shown(self.noted)} noted, {shown(self.counted)} counted{state}"


@dataclass(slots=True)
class ScrubReport:
    """What one run has found, of a round that an earlier run may have begun."""

    began: float = 0.0
    """When the round began (seconds since the epoch)."""
    finished: bool = False
    """The round has ended: every object that was there when it began was read."""
    objects: int = 0
    """Objects that were read whole and are right."""
    names: int = 0
    """Further names of these, where several share their bytes."""
    bytes: int = 0
    """Bytes that were read."""
    wrong: int = 0
    missing: int = 0
    repaired: int = 0
    findings: list[Finding] = field(default_factory=list)
    unknown_objects: int = 0
    """Objects below the blobs that no row knows."""
    unknown_bytes: int = 0
    unknown_keys: list[str] = field(default_factory=list)
    counters: list[CounterDifference] = field(default_factory=list)
    unreadable: int = 0
    problems: list[str] = field(default_factory=list)

    def add_problem(self, problem: str) -> None:
        """Note what could not be done."""
        self.unreadable += 1
        if len(self.problems) < LISTED:
            self.problems.append(problem)

    def add_unknown(self, key: str, size: int) -> None:
        """Note an object without a row."""
        self.unknown_objects += 1
        self.unknown_bytes += size
        if len(self.unknown_keys) < NAMED:
            self.unknown_keys.append(key)

    @property
    def is_clean(self) -> bool:
        """Whether nothing is left for an operator to do."""
        damaged = self.wrong + self.missing > self.repaired
        miscounted = any(each.is_wrong and not each.repaired for each in self.counters)
        return not (damaged or miscounted or self.problems)

    def document(self) -> dict[str, Any]:
        """As a JSON value."""
        return {
            "began": self.began,
            "finished": self.finished,
            "objects": self.objects,
            "names": self.names,
            "bytes": self.bytes,
            "wrong": self.wrong,
            "missing": self.missing,
            "repaired": self.repaired,
            "findings": [each.document() for each in self.findings],
            "unknown": {"objects": self.unknown_objects, "bytes": self.unknown_bytes, "keys": self.unknown_keys},
            "counters": [
                {"quota": each.quota, "noted": each.noted, "counted": each.counted, "repaired": each.repaired}
                for each in self.counters
            ],
            "problems": self.problems,
        }

    def lines(self) -> Iterator[str]:
        """For a person."""
        yield f"objects read and right: {self.objects} ({shown(self.bytes)} read)"
        if self.names:
            yield f"further names of these: {self.names}"
        yield f"wrong: {self.wrong}"
        yield f"missing: {self.missing}"
        yield f"repaired: {self.repaired}"
        for finding in self.findings:
            yield from finding.lines()
        if self.unknown_objects:
            yield f"objects that no row knows: {self.unknown_objects} ({shown(self.unknown_bytes)})"
            yield from (f"  {key}" for key in self.unknown_keys)
        yield from (each.line() for each in self.counters)
        if self.problems:
            yield f"problems: {self.unreadable}"
            yield from (f"  {problem}" for problem in self.problems)
        if not self.finished:
            yield "the round has not ended: run it again, it goes on from here"

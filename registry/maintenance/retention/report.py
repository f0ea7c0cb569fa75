"""*Report*: what a run of retention decides, as a document and for a person.

Tests: ``tests/maintenance/retention/test_run.py``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from registry.oci.moment import to_text

if TYPE_CHECKING:
    from registry.maintenance.retention.plan import Judged, RepositoryPlan


@dataclass(slots=True)
class Summary:
    """The totals of a run."""

    repositories: int = 0
    kept: int = 0
    """Tags that stay."""
    removed: int = 0
    """Tags that went, or would go where nothing is applied."""
    left_alone: int = 0
    """Repositories of which rules would remove something, or that could not be read, and nothing was removed."""
    problems: list[str] = field(default_factory=list)
    """Why, each with the name of its repository."""

    def add(self, plan: RepositoryPlan) -> None:
        """Count a repository."""
        self.repositories += 1
        self.removed += plan.removed
        self.kept += plan.kept
        if plan.problem is not None:
            self.left_alone += 1
            self.problems.append(problem_of(plan))


def problem_of(plan: RepositoryPlan) -> str:
    """Why a repository is left alone, with its name."""
    return f"{plan.repository}: {plan.problem}"


def line_of(repository: str, each: Judged) -> str:
    """A tag for a person."""
    decision = each.decision
    rule = "" if decision.rule is None else f" ({decision.rule})"
    return f"{decision.action:6} {repository}:{decision.tagged.tag}{rule}: {decision.because}"


def entry_of(repository: str, each: Judged) -> dict[str, Any]:
    """A tag as a document; times are RFC 3339, or null where they are not known."""
    decision, tagged = each.decision, each.decision.tagged
    return {
        "repository": repository,
        "tag": tagged.tag,
        "digest": tagged.digest,
        "action": decision.action,
        "rule": decision.rule,
        "because": decision.because,
        "pushed_at": None if tagged.pushed_at is None else to_text(tagged.pushed_at),
        "pulled_at": None if tagged.pulled_at is None else to_text(tagged.pulled_at),
        "bytes": each.size,
    }

"""*Unused tags* of mirrors: those whose manifests were not pulled for long go, by the machinery of retention.

What comes from an upstream comes again when a client asks for it.

Tests: ``tests/maintenance/collection/test_mirrors.py``.
"""

from __future__ import annotations

from itertools import takewhile
from typing import TYPE_CHECKING, Final

from registry.config.retention_sections import Conditions, KeepSettings, RetentionRule, RetentionSettings
from registry.maintenance.collection.finding import Kind, Removed
from registry.maintenance.retention.decision import REMOVE
from registry.maintenance.retention.run import RetentionRun

if TYPE_CHECKING:
    from registry.maintenance.collection.context import Context

CAUSE: Final = "mirrors.unused_after"
REASON: Final = "unused"


class UnusedTags:
    """A step of a collection. For one thread; several processes at once are harmless."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def run(self) -> None:
        """Raises DatabaseError, Stopped: what is left is there for the next run."""
        for prefix, after in self._context.mirrors.items():
            if after is not None:
                self._remove(f"{prefix}/", after)

    def _remove(self, prefix: str, after: float) -> None:
        context = self._context
        run = RetentionRun(context.registry, _retention(prefix, after), applies=not context.dry)
        for plan in run.plans(takewhile(lambda name: name.startswith(prefix), run.names(prefix))):
            context.budget.look()
            for page in run.pages(plan):
                for decision in (each.decision for each in page if each.decision.action == REMOVE):
                    tagged = decision.tagged
                    found = Removed(Kind.TAG, REASON, tagged.digest, key=tagged.tag, repository=plan.repository)
                    context.ledger.remove(found)
                context.budget.look()
            if plan.problem is not None:
                context.ledger.trouble(f"{plan.repository}: {plan.problem}")


def _retention(prefix: str, after: float) -> RetentionSettings:
    """A tag stays whose manifest was pulled, or that was set, within that time, as far as all pulls are known."""
    keep = KeepSettings(any=Conditions(pulled_within=after))
    rule = RetentionRule(name=CAUSE, repositories=(f"{prefix}**",), tags=("*",), keep=keep)
    return RetentionSettings(mode="apply", max_share=1.0, rules=(rule,))

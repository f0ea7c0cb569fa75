"""*Scheduled run* of retention: once in ``retention.interval`` over all servers, and what is told of it.

The time of the last run is in the database, so that neither a restart nor another worker brings the next one forward.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import structlog

from registry.database import stores
from registry.maintenance.due import is_due
from registry.maintenance.retention.run import ACTOR, RetentionRun
from registry.observability.audit import Event

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from registry.config.retention_sections import RetentionSettings
    from registry.images.registry import Registry
    from registry.maintenance.retention.decision import Decision
    from registry.maintenance.retention.report import Summary
    from registry.maintenance.retention.run import OnRemoved
    from registry.observability.audit import AuditLog

NAMED: Final = 20
"""Repositories left alone that the log names at most."""
WHO: Final = {"kind": "system", "name": ACTOR}
"""The identity behind a scheduled run."""

log = structlog.get_logger(__name__)


def audited(audit: AuditLog | None, who: Mapping[str, object]) -> OnRemoved:
    """Writes a line of the audit log for each tag that went."""

    def add(repository: str, decision: Decision) -> None:
        tagged = decision.tagged
        if audit is not None:
            audit.add(
                Event.UNTAG, who=who, repository=repository, digest=tagged.digest, tags=[tagged.tag], rule=decision.rule
            )

    return add


class ScheduledRun:
    """For one thread. Several processes at once are harmless; the caller has a lease to save the work."""

    def __init__(
        self,
        registry: Registry,
        retention: RetentionSettings,
        on_done: Callable[[Summary, bool], object] = lambda _summary, _applies: None,
        audit: AuditLog | None = None,
    ) -> None:
        """``on_done`` gets the totals of each run, and whether it has removed what it counts as removed."""
        self._audit = audit
        self._registry = registry
        self._retention = retention
        self._on_done = on_done

    @property
    def is_due(self) -> bool:
        """Whether there are rules, and no run was for ``interval``. Raises DatabaseError."""
        interval = self._retention.interval
        if interval is None or not self._retention.rules:
            return False
        return is_due(self._registry.backends, stores.RETENTION_RUN, interval)

    def run(self) -> None:
        """Run, unless another process has done it meanwhile.

        Raises DatabaseError; the next time does it again.
        """
        if not self.is_due:
            return
        began, applies = self._registry.backends.clock(), self._retention.mode == "apply"
        self._registry.pulls.flush()
        summary = RetentionRun(
            self._registry, self._retention, applies=applies, on_removed=audited(self._audit, WHO)
        ).finish()
        with self._registry.backends.database.transaction() as connection:
            stores.set_reached(connection, stores.RETENTION_RUN, now=began)
        self._on_done(summary, applies)
        for problem in summary.problems[:NAMED]:
            log.warning("retention leaves a repository alone", problem=problem)
        log.info(
            "retention has run",
            mode=self._retention.mode,
            repositories=summary.repositories,
            kept=summary.kept,
            removed=summary.removed if applies else 0,
            would_remove=0 if applies else summary.removed,
            left_alone=summary.left_alone,
        )

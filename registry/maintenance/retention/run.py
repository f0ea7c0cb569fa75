"""*Run* of retention: plans every repository and, where it is to apply, removes the tags that rules do not keep.

A removal is an ordinary untag, by the actor ``retention``, in a record that names the rule. Each is conditional on the
change that was judged, so that a tag that is set meanwhile stays, and two runs at once are harmless. Killed at any
instant, the same again goes on from there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from registry.database import repositories
from registry.maintenance.retention.decision import REMOVE
from registry.maintenance.retention.plan import Planner
from registry.maintenance.retention.report import Summary
from registry.maintenance.retention.rules import Rules
from registry.oci.errors import RegistryError
from registry.storage.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator

    from registry.config.retention_sections import RetentionSettings
    from registry.images.registry import Registry
    from registry.maintenance.retention.decision import Decision
    from registry.maintenance.retention.plan import Judged, RepositoryPlan

    OnRemoved = Callable[[str, Decision], object]
    """Called with the repository and the decision about a tag of it."""

ACTOR: Final = "retention"
"""The actor of what a run removes."""
PAGE: Final = 1000
"""Names of repositories that are read at a time."""


class RetentionRun:
    """One run; it began when it was made. For one thread."""

    def __init__(
        self,
        registry: Registry,
        retention: RetentionSettings,
        *,
        applies: bool,
        forced: Collection[str] = (),
        on_removed: OnRemoved = lambda _repository, _decision: None,
    ) -> None:
        """Without ``applies`` nothing is changed. ``forced``: see Planner.

        ``on_removed`` is told of each tag that went.
        """
        self._registry = registry
        self._on_removed = on_removed
        self._applies = applies
        self._planner = Planner(
            registry,
            Rules(retention.rules),
            now=registry.backends.clock(),
            max_share=retention.max_share,
            forced=forced,
        )
        self.summary = Summary()
        """The totals of the repositories that were yielded."""

    def names(self, last: str = "") -> Iterator[str]:
        """The repositories after ``last``, in byte order, read as they are asked for. Raises DatabaseError."""
        page = [last]
        while page:
            with self._registry.backends.database.autocommit() as connection:
                page = repositories.page(connection, last=page[-1], count=PAGE).get()
            yield from page

    def plans(self, names: Iterable[str]) -> Iterator[RepositoryPlan]:
        """The plan of each of these repositories, carried out if the run applies. Raises DatabaseError."""
        for name in names:
            plan = self._planner.plan(name)
            if plan is None:
                continue
            if self._applies:
                self._carry_out(plan)
            self.summary.add(plan)
            yield plan

    def finish(self) -> Summary:
        """Go through all repositories, and return the totals. Raises DatabaseError."""
        for _ in self.plans(self.names()):
            pass
        return self.summary

    def _carry_out(self, plan: RepositoryPlan) -> None:
        """Remove what is to go; an error leaves the rest of the repository alone."""
        for number, each in enumerate(plan.tags):
            if each.decision.action != REMOVE:
                continue
            if plan.problem is not None:
                plan.tags[number] = each.kept(f"{each.decision.because}; but an error came before it")
                continue
            try:
                plan.tags[number] = self._remove(plan.repository, each)
            except (RegistryError, StorageError) as error:
                plan.problem = str(error)
                plan.tags[number] = each.kept(f"{each.decision.because}; but it could not be removed: {error}")

    def _remove(self, repository: str, each: Judged) -> Judged:
        decision = each.decision
        removed = self._registry.manifests.expire(
            repository, decision.tagged.tag, sequence=each.sequence, actor=ACTOR, cause=decision.rule or ""
        )
        if removed is None:
            return each.kept("it was set again, or removed, since the run began")
        self._on_removed(repository, decision)
        return each

"""*Run* of retention: plans every repository and, where it is to apply, removes the tags that rules do not keep.

A removal is an ordinary untag, by the actor ``retention``, in a record that names the rule, of some tags together. Each
tag goes on the condition that the change that was judged is its last, so that one that is set meanwhile stays, and two
runs at once are harmless. Killed at any instant, the same again goes on from there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from registry.database import repositories
from registry.maintenance.retention.decision import KEEP, REMOVE
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
TAGS: Final = 500
"""Tags that are decided at a time."""
AT_ONCE: Final = 25
"""Tags that one change removes: pushes to a database in a file wait for it, and readers take 4096 records at once."""
_SINCE: Final = "it was set again, or removed, since the run began"


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
        """The totals of the repositories that ``judged`` or ``finish`` are done with."""

    def names(self, last: str = "") -> Iterator[str]:
        """The repositories after ``last``, in byte order, read as they are asked for. Raises DatabaseError."""
        page = [last]
        while page:
            with self._registry.backends.database.autocommit() as connection:
                page = repositories.page(connection, last=page[-1], count=PAGE).get()
            yield from page

    def plans(self, names: Iterable[str]) -> Iterator[RepositoryPlan]:
        """The plan of each of these repositories; nothing is carried out. Raises DatabaseError."""
        return (plan for plan in map(self._planner.plan, names) if plan is not None)

    def pages(self, plan: RepositoryPlan, after: str = "") -> Iterator[list[Judged]]:
        """The tags of a repository after that one, page by page, each carried out if the run applies.

        The last page may be empty. Raises DatabaseError.
        """
        if self._applies:
            plan.kept = plan.removed = 0
        while True:
            page = self._planner.page(plan, after=after, count=TAGS)
            following = page[-1].decision.tagged.tag if page else after
            if self._applies:
                page = self._carry_out(plan, page)
                plan.removed += sum(each.decision.action == REMOVE for each in page)
                plan.kept += sum(each.decision.action == KEEP for each in page)
            yield page
            if len(page) < TAGS:
                return
            after = following

    def judged(self, names: Iterable[str]) -> Iterator[tuple[str, Judged]]:
        """Every tag of these repositories, with the name of its repository. Raises DatabaseError."""
        for plan in self.plans(names):
            for page in self.pages(plan):
                yield from ((plan.repository, each) for each in page)
            self.summary.add(plan)

    def finish(self) -> Summary:
        """Go through all repositories, and return the totals. Raises DatabaseError."""
        for plan in self.plans(self.names()):
            for _ in self.pages(plan) if self._applies else ():
                pass
            self.summary.add(plan)
        return self.summary

    def _carry_out(self, plan: RepositoryPlan, page: list[Judged]) -> list[Judged]:
        """Remove what is to go; an error leaves the rest of the repository alone."""
        done = list(page)
        by_rule: dict[str, list[int]] = {}
        for number, each in enumerate(page):
            if each.decision.action == REMOVE:
                by_rule.setdefault(each.decision.rule or "", []).append(number)
        for rule, numbers in by_rule.items():
            for start in range(0, len(numbers), AT_ONCE):
                several = numbers[start : start + AT_ONCE]
                removed = self._remove_all(plan, rule, [page[number] for number in several])
                for number, each in zip(several, removed, strict=True):
                    done[number] = each
        return done

    def _remove_all(self, plan: RepositoryPlan, rule: str, several: list[Judged]) -> list[Judged]:
        """Remove these tags in one change; what became of each."""
        if plan.problem is not None:
            return [each.kept(f"{each.decision.because}; but an error came before it") for each in several]
        tags = {each.decision.tagged.tag: each.sequence for each in several}
        try:
            removed = self._registry.manifests.expire(plan.repository, tags, actor=ACTOR, cause=rule)
        except (RegistryError, StorageError) as error:
            plan.problem = str(error)
            return [each.kept(f"{each.decision.because}; but it could not be removed: {error}") for each in several]
        for each in several:
            if each.decision.tagged.tag in removed:
                self._on_removed(plan.repository, each.decision)
        return [each if each.decision.tagged.tag in removed else each.kept(_SINCE) for each in several]

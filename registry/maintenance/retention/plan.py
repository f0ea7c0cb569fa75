"""*Plan*: what rules of retention do with the tags of one repository, from its rows; nothing is changed.

Tests: ``tests/maintenance/retention/test_run.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from registry.database import repositories, stores, tags
from registry.maintenance.retention.decision import KEEP, REMOVE, Decision, Moment, Tagged
from registry.maintenance.retention.judge import Judge, Totals
from registry.maintenance.retention.sizes import whole_sizes
from registry.oci.errors import RegistryError

if TYPE_CHECKING:
    from collections.abc import Collection

    from registry.database.repositories import RepositoryRow
    from registry.database.tags import JudgedTag
    from registry.database.transaction import Transaction
    from registry.images.registry import Registry
    from registry.maintenance.retention.rules import RepositoryRules, Rules

SURVEYED = 20_000
"""Tags that a look at all of a repository reads at a time."""
FEW = 10
"""Tags that a run removes of a repository whatever share of all these are."""


class Judged(NamedTuple):
    """A tag with its decision."""

    decision: Decision
    sequence: int
    """The change that set the tag."""
    size: int
    """Bytes of its manifest and of all that this names, whatever else names it."""

    def kept(self, because: str) -> Judged:
        """The same tag, which stays after all."""
        return self._replace(decision=self.decision._replace(action=KEEP, because=because))


@dataclass(slots=True)
class RepositoryPlan:
    """What becomes of the tags of one repository, as of the moment of the run."""

    repository: str
    kept: int = 0
    """Tags that stay."""
    removed: int = 0
    """Tags that go."""
    problem: str | None = None
    """Why the repository is left alone, where rules would remove something; None if it is not."""
    judge: Judge | None = None
    """None where the repository could not be read."""
    row_id: int = 0


class Planner:
    """Plans repository after repository, for one moment. Any thread."""

    def __init__(
        self, registry: Registry, rules: Rules, *, now: float, max_share: float, forced: Collection[str] = ()
    ) -> None:
        """``forced`` are repositories of which more than ``max_share`` may go."""
        self._registry = registry
        self._rules = rules
        self._now = now
        self._max_share = max_share
        self._forced = forced

    def plan(self, name: str) -> RepositoryPlan | None:
        """The plan of a repository; None if there is none. Raises DatabaseError."""
        rules = self._rules.of(name)
        try:
            row, problem = self._look(name, rules)
        except RegistryError as error:
            return RepositoryPlan(name, problem=error.message)
        if row is None:
            return None
        immutable = self._registry.backends.policy.immutable
        with self._registry.backends.database.autocommit() as connection:
            moment = self._moment(connection, row.id)
        judge = Judge(rules, moment, lambda tag: immutable.has(name, tag))
        totals = self._survey(row.id, judge)
        problem = (problem or self._excess(name, totals)) if totals.removed else None
        removed = 0 if problem else totals.removed
        return RepositoryPlan(name, totals.tags - removed, removed, problem, judge, row.id)

    def page(self, plan: RepositoryPlan, *, after: str, count: int) -> list[Judged]:
        """At most ``count`` tags of it after that one, in byte order. Raises DatabaseError."""
        judge = plan.judge
        if judge is None:
            return []
        with self._registry.backends.database.snapshot() as connection:
            rows = tags.judged(connection, plan.row_id, last=after, count=count).get()
            sizes = whole_sizes(connection, plan.row_id, {row.blob_id: row.size for row in rows})
        page = [Judged(judge.decide(row.blob_id, _tagged(row)), row.sequence, sizes[row.blob_id]) for row in rows]
        if plan.problem is None:
            return page
        return [
            each.kept(f"{each.decision.because}; but the repository is left alone: {plan.problem}")
            if each.decision.action == REMOVE
            else each
            for each in page
        ]

    def _survey(self, repository_id: int, judge: Judge) -> Totals:
        """Have a judge see every tag; what is set meanwhile it may see, twice even, as such."""
        blob_id, name = -1, ""
        while True:
            with self._registry.backends.database.autocommit() as connection:
                page = tags.by_manifest(connection, repository_id, after=(blob_id, name), count=SURVEYED).get()
            for blob_id, name, updated_at, pulled_at in page:
                judge.see(blob_id, Tagged(name, "", updated_at if updated_at > 0 else None, pulled_at))
            if len(page) < SURVEYED:
                return judge.close()

    def _look(self, name: str, rules: RepositoryRules) -> tuple[RepositoryRow | None, str | None]:
        """The repository as storage has it, and why its rows are not to be acted on; unread ones count as absent.

        Raises Unavailable.
        """
        if not rules:  # nothing of it goes, whatever storage says
            with self._registry.backends.database.autocommit() as connection:
                found = repositories.find(connection, name).get()
            return (None if found is None or found.is_unread else found), None
        row = self._registry.repositories.touch(name)
        if row is None or row.is_unread:
            return None, None
        with self._registry.backends.memory.of(name) as notes:
            is_foreign = notes.met_foreign is not None
        if is_foreign:
            return row, "another registry has written its index"
        if row.missing_manifests:
            return row, f"storage lacks {row.missing_manifests} manifests that its index names"
        return row, None

    def _moment(self, connection: Transaction, repository_id: int) -> Moment:
        """Pulls of a repository are complete since its rows were made, at the earliest."""
        since = stores.reached_at(connection, stores.PULLS_SINCE).get()
        created = repositories.created_at(connection, repository_id).get()
        complete = None if since is None or created is None else max(since, created)
        return Moment(self._now, complete, self._registry.backends.policy.pull_interval)

    def _excess(self, repository: str, totals: Totals) -> str | None:
        """Why too much would go; None if it is not too much. Tags that belong to a manifest are no part of either."""
        removed, own = totals.removed, totals.own
        if removed <= FEW or removed <= self._max_share * own or repository in self._forced:
            return None
        return f"{removed} of {own} tags would go, more than the share that retention.max_share allows"


def _tagged(tag: JudgedTag) -> Tagged:
    return Tagged(tag.name, tag.digest, tag.updated_at if tag.updated_at > 0 else None, tag.pulled_at)

"""*Plan*: what rules of retention do with the tags of one repository, from its rows; nothing is changed.

Tests: ``tests/maintenance/retention/test_run.py``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from registry.database import references, repositories, stores, tags
from registry.maintenance.retention.decision import KEEP, REMOVE, Decision, Moment, Tagged, decide
from registry.oci.errors import RegistryError
from registry.oci.tag import belongs_to_subject

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from registry.database.repositories import RepositoryRow
    from registry.database.tags import JudgedTag
    from registry.database.transaction import Transaction
    from registry.images.registry import Registry
    from registry.maintenance.retention.rules import RepositoryRules, Rules

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
    """The decisions for one repository."""

    repository: str
    tags: list[Judged] = field(default_factory=list)
    problem: str | None = None
    """Why the repository is left alone, where rules would remove something; None if it is not."""

    @property
    def removals(self) -> list[Judged]:
        """The tags that go."""
        return [each for each in self.tags if each.decision.action == REMOVE]


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
        with self._registry.backends.database.snapshot() as connection:
            judged = tags.judged(connection, row.id).get()
            sizes = _sizes(connection, row.id, judged)
            moment = self._moment(connection, row.id)
        immutable = self._registry.backends.policy.immutable
        decisions = decide(map(_tagged, judged), rules, moment, lambda tag: immutable.has(name, tag))
        plan = RepositoryPlan(
            name,
            [
                Judged(decision, tag.sequence, sizes[tag.blob_id])
                for decision, tag in zip(decisions, judged, strict=True)
            ],
        )
        problem = problem or self._excess(plan)
        if problem is not None and plan.removals:
            plan.problem = problem
            plan.tags = [
                each.kept(f"{each.decision.because}; but the repository is left alone: {problem}")
                if each.decision.action == REMOVE
                else each
                for each in plan.tags
            ]
        return plan

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

    def _excess(self, plan: RepositoryPlan) -> str | None:
        """Why too much would go; None if it is not too much. Tags that belong to a manifest are no part of either."""
        removed = len(plan.removals)
        own = sum(not belongs_to_subject(each.decision.tagged.tag) for each in plan.tags)
        if removed <= FEW or removed <= self._max_share * own or plan.repository in self._forced:
            return None
        return f"{removed} of {own} tags would go, more than the share that retention.max_share allows"


def _tagged(tag: JudgedTag) -> Tagged:
    return Tagged(tag.name, tag.digest, tag.updated_at if tag.updated_at > 0 else None, tag.pulled_at)


def _sizes(connection: Transaction, repository_id: int, judged: Iterable[JudgedTag]) -> dict[int, int]:
    """The bytes of each tagged manifest, by its id, with all that it names and that this names in turn."""
    named = references.named_bytes(connection, repository_id).get()
    lists: dict[int, list[int]] = {}
    for index, child in references.children(connection, repository_id).get():
        lists.setdefault(index, []).append(child)
    sizes: dict[int, int] = {}
    for tag in judged:
        if tag.blob_id not in sizes:
            seen, left = {tag.blob_id}, [tag.blob_id]
            while left:
                new = [child for child in lists.get(left.pop(), ()) if child not in seen]
                seen.update(new)
                left += new
            sizes[tag.blob_id] = tag.size + sum(named.get(each, 0) for each in seen)
    return sizes

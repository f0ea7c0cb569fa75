"""Rollback plan: what a rollback would do now, what that costs, and what it would lose. Nothing is written.

Tests: ``tests/migration/rollback/test_rollback.py``.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from math import ceil
from typing import TYPE_CHECKING, Any

from registry.migration.adopt.baselines import Baselines
from registry.migration.progress import Progress
from registry.migration.report import Problem, ProblemKind
from registry.migration.review.counts import Leftover
from registry.migration.review.estimate import Prices
from registry.migration.review.requests import Requests
from registry.migration.rollback.rollback import changed_since, check_state
from registry.migration.rollback.steps import Copy, Delete
from registry.migration.rollback.target import RollbackTargets
from registry.migration.source.objects import ObjectKind
from registry.oci.errors import ManifestInvalid

if TYPE_CHECKING:
    from registry.migration.context import Context
    from registry.migration.rollback.steps import Loss, Step
    from registry.migration.rollback.target import RollbackTarget

_STATE_WRITES = 2
_CHECKS = 2
"""How often a rollback reads each repository that no client changes: before the cut, and to give it back."""


@dataclass(slots=True)
class RollbackPlan:
    """What ``rollback`` would do."""

    state: str
    """The state of the migration."""
    repositories: int = 0
    """Those that change."""
    copied: int = 0
    """Blobs, manifests included."""
    copied_bytes: int = 0
    """They stay inside the store."""
    hashed: int = 0
    """Those of them that were never hashed, and are read first."""
    hashed_bytes: int = 0
    written: int = 0
    """Indexes and links."""
    deleted: int = 0
    """Links."""
    requests: Requests = field(default_factory=Requests)
    price: float = 0.0
    seconds: float | None = None
    """At the rate at which this plan was made; None if it made no request."""
    losses: list[Loss] = field(default_factory=list)
    """What the source registry cannot have: refused without --accept-loss."""
    changed: list[str] = field(default_factory=list)
    """Repositories that the source registry has changed since they were adopted: refused until they are again."""
    stays: list[Leftover] = field(default_factory=list)
    """``deleted``: bytes that only the collector of the source registry removes; ``ours``: what Stowage still reads."""
    problems: list[Problem] = field(default_factory=list)

    def document(self) -> dict[str, Any]:
        """As one JSON document."""
        losses = [{"repository": loss.repository, "digest": loss.digest, "detail": loss.detail} for loss in self.losses]
        return asdict(self) | {"losses": losses, "problems": [problem.document() for problem in self.problems]}


def plan_rollback(context: Context) -> RollbackPlan:
    """Plan without writing anything. Raises Refused if there is no way back, StorageError, DatabaseError."""
    check_state(context)
    return _Planning(context).run()


class _Planning:
    def __init__(self, context: Context) -> None:
        self._context = context
        self._bases = Baselines(context.registry, context.journal, context.layout, ())
        self._plan = RollbackPlan(context.journal.state.state)
        self._targets: set[str] = set()
        self._made = Requests(put=_STATE_WRITES)
        self._deleted = (0, 0, "")

    def run(self) -> RollbackPlan:
        context, plan = self._context, self._plan
        listed, began = context.tally.requests, time.perf_counter()
        plan.changed = changed_since(context, self._bases)
        wanting = RollbackTargets(context, self._bases)
        names = wanting.names()
        for done, name in enumerate(names, 1):
            context.on_progress(Progress("planning", done, len(names)))
            try:
                asked = wanting.of(name)
            except ManifestInvalid as error:
                key = f"{name}/index.json"
                plan.problems.append(Problem(ProblemKind.UNREADABLE_INDEX, name, key, "", error.message))
                continue
            if asked is not None:
                self._look(asked)
        self._finish(listed, time.perf_counter() - began)
        return plan

    def _look(self, asked: RollbackTarget) -> None:
        plan, layout, inventory = self._plan, self._context.layout, self._context.inventory
        plan.losses += layout.losses(asked.wanted, inventory)
        is_changed = False
        for step in layout.steps(asked.wanted, inventory):
            is_changed |= self._count(step, asked)
        if is_changed:
            plan.repositories += 1
        if is_changed or asked.base is None or asked.base.overwritten:
            self._made.put += 1  # the base
        for digest in (*asked.wanted.gone_manifests, *asked.wanted.gone_blobs):
            home = layout.home(asked.wanted.located, digest)
            found = inventory.find(home)
            if found is not None:
                objects, size, example = self._deleted
                self._deleted = (objects + 1, size + found.size, example or home)

    def _count(self, step: Step, asked: RollbackTarget) -> bool:
        plan, capabilities = self._plan, self._context.driver.capabilities
        if isinstance(step, Copy):
            if step.target in self._targets:
                return False  # another repository brings it
            self._targets.add(step.target)
            plan.copied += 1
            plan.copied_bytes += step.size
            in_parts = capabilities.copy_bytes and step.size > capabilities.copy_bytes
            self._made.copy += 2 + ceil(step.size / capabilities.copy_part_bytes) if in_parts else 1
            if step.digest in asked.unhashed:
                plan.hashed += 1
                plan.hashed_bytes += step.size
        elif isinstance(step, Delete):
            plan.deleted += len(step.keys)
            self._made.delete += ceil(len(step.keys) / capabilities.delete_batch)
        else:
            document = asked.wanted.document
            is_ours = asked.ours is not None and document is not None and step.key == document.key
            plan.written += 1
            self._made.put += 1 + is_ours
        return True

    def _finish(self, listed: Requests, seconds: float) -> None:
        """Requests that only read are those that were made to get here, and made again by a rollback."""
        context, plan = self._context, self._plan
        total = context.tally.requests
        again = Requests(list=total.list - listed.list, head=total.head - listed.head, get=total.get - listed.get)
        plan.requests = self._made + Requests(list=listed.list, head=listed.head, get=listed.get + plan.hashed)
        for _ in range(_CHECKS):
            plan.requests = plan.requests + again
        plan.price = Prices(context.settings.migration.prices).of(plan.requests, plan.hashed_bytes)
        made = total.total - listed.total
        if made and seconds:
            plan.seconds = round(plan.requests.total * seconds / made, 3)
        ours = Leftover("ours", *context.inventory.total_of(ObjectKind.OUR_BLOB))
        plan.stays = [left for left in (Leftover("deleted", *self._deleted), ours) if left.objects]

"""Runs of a collection, as a test asks for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from registry.maintenance.collection.budget import Budget
from registry.maintenance.collection.finding import Removed, Waiting
from registry.maintenance.collection.ledger import Ledger
from registry.maintenance.collection.run import CollectionRun, Wanted
from tests.support.registry_world import other

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from registry.images.registry import Registry


class Report:
    """What one run found."""

    def __init__(self) -> None:
        self.removed: list[Removed] = []
        self.waiting: list[Waiting] = []
        self.ledger = Ledger(self.removed.append, self.waiting.append)

    @property
    def digests(self) -> set[str]:
        """The digests of what was removed."""
        return {each.digest for each in self.removed if each.digest is not None}


def run(
    registry: Registry,
    *,
    unsafe: Mapping[str, str] | None = None,
    before_each: Callable[[], None] = lambda: None,
    **wanted: Any,
) -> Report:
    """One run, by the other replica; ``wanted`` are fields of Wanted. A problem fails the test.

    ``before_each`` is called between each look and the transaction that acts by it.
    """
    registry = other(registry)
    registry.fold_waiting()
    report = Report()
    CollectionRun(
        registry, Wanted(**wanted), report.ledger, Budget(None, require_mine=before_each), unsafe or {}
    ).finish()
    assert report.ledger.problems == []
    return report


def settle(registry: Registry, *, most: int = 10, **wanted: Any) -> list[Removed]:
    """Runs, until two in a row have nothing to remove; all that they removed."""
    removed: list[Removed] = []
    idle = 0
    for _ in range(most):
        found = run(registry, **wanted).removed
        removed += found
        idle = 0 if found else idle + 1
        if idle > 1:
            return removed
    raise AssertionError("there is always more to remove")

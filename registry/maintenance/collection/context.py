"""*Context* of a collection: what every step of it needs.

Tests: ``tests/maintenance/collection/test_run.py``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from registry.images.registry import Registry
    from registry.maintenance.collection.budget import Budget
    from registry.maintenance.collection.ledger import Ledger
    from registry.maintenance.collection.steps.names import Names

PAGE = 100
"""Things that one transaction removes, at most."""
SCANNED = 2000
"""Rows that one look goes through."""


@dataclass(frozen=True, slots=True)
class Span:
    """How long the manifests of a repository stay that nothing needs."""

    after: float | None
    """Seconds; with None they stay."""
    key: str
    """The key of the settings that says so."""
    is_by_pulls: bool
    """It counts from the last pull or push alone, and not from when they fell out of use."""


@dataclass(frozen=True, slots=True)
class Context:
    """One run. For one thread."""

    registry: Registry
    ledger: Ledger
    budget: Budget
    names: Names
    dry: bool
    """Nothing is changed."""
    now: float
    """When the run began (seconds since the epoch)."""
    redirect_expiry: float = 0.0
    """Seconds for which a client may read an object at an address that it was given; 0 without such addresses."""
    untagged_after: float | None = None
    """Seconds after which untagged manifests go; with None they stay. Those of mirrors have times of their own."""
    mirrors: Mapping[str, float | None] = field(default_factory=dict)
    """What repositories of mirrors begin with, before a slash, and after how long without a pull these lose content."""
    unsafe: Mapping[str, str] = field(default_factory=dict)
    """Repositories of which not everything is known, and why: they keep all that they might name."""
    with_found: bool = False
    """Also what tools have put into directories, and nothing names (``--orphans``)."""
    orphans_after: float = 0.0
    """Seconds after which objects go of which no row knows; not before ``undelete_window``."""

    def span_of(self, repository: str) -> Span:
        """How long manifests stay that nothing needs. Those of mirrors often never had a tag: clients know digests.

        A pull may be later than what is written down of it.
        """
        interval = self.registry.backends.policy.pull_interval
        for prefix, after in self.mirrors.items():
            if repository.startswith(f"{prefix}/"):
                return Span(None if after is None else after + interval, "mirrors.unused_after", is_by_pulls=True)
        return Span(self.untagged_after, "gc.untagged_after", is_by_pulls=False)

"""Context: what every phase of a migration works on.

Tests: ``tests/migration/test_command.py``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from registry.config.settings import Settings
    from registry.images.registry import Registry
    from registry.migration.journal import MigrationJournal
    from registry.migration.progress import OnProgress
    from registry.migration.report import Note, Problem
    from registry.migration.review.plan_file import SavedPlan
    from registry.migration.review.requests import Tally
    from registry.migration.source.inventory import Inventory
    from registry.migration.source.layout import SourceLayout
    from registry.parallel import WorkerPool
    from registry.storage.driver import StorageDriver


@dataclass(frozen=True, slots=True)
class RunOptions:
    """The options of a run."""

    plan: SavedPlan | None = None
    """The reviewed plan; a bucket that differs from it is refused. None to run without one."""
    single_prefix: bool = False
    """See registry.migration.review.review.Options."""
    adopt_only: bool = False
    accept_loss: bool = False
    """Whether a rollback may leave out what the source registry cannot represent."""


@dataclass(slots=True)
class Context:
    """One run: the open registry, and the source registry as it was listed and read when the run began."""

    registry: Registry
    settings: Settings
    layout: SourceLayout
    inventory: Inventory
    """Filled by a SourceScan."""
    journal: MigrationJournal
    options: RunOptions
    on_progress: OnProgress
    tally: Tally
    workers: WorkerPool
    problems: list[Problem] = field(default_factory=list)
    """The problems of the source registry as it was read."""
    notes: list[Note] = field(default_factory=list)

    @property
    def driver(self) -> StorageDriver:
        """The store, with its pace."""
        return self.registry.backends.driver

"""What every phase of a migration works on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from registry.config import Settings
    from registry.images.registry import Registry
    from registry.migration.journal import MigrationJournal
    from registry.migration.progress import OnProgress
    from registry.migration.report import Note, Problem
    from registry.migration.review.requests import Tally
    from registry.migration.review.saved_plan import SavedPlan
    from registry.migration.source.inventory import Inventory
    from registry.migration.source.layout import SourceLayout
    from registry.parallel import WorkerPool
    from registry.storage.driver import StorageDriver


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What a run is asked for."""

    plan: SavedPlan | None = None
    """What was reviewed: whatever differs and is not covered by it is not touched."""
    single_prefix: bool = False
    """See registry.migration.review.review.Options."""
    adopt_only: bool = False
    accept_loss: bool = False
    """What the original cannot represent may be left out of a rollback."""


@dataclass(slots=True)
class Context:
    """One run: the open registry, and the original as it was listed and read when the run began."""

    registry: Registry
    settings: Settings
    layout: SourceLayout
    inventory: Inventory
    """Listed and read: its tables ``object``, ``repository``, ``tag``, ``member``, ``manifest``, ``reference``,
    ``wanted``, ``named`` and ``place`` are full."""
    journal: MigrationJournal
    options: RunOptions
    on_progress: OnProgress
    tally: Tally
    workers: WorkerPool
    problems: list[Problem] = field(default_factory=list)
    """Of the original, as it was read."""
    notes: list[Note] = field(default_factory=list)

    @property
    def driver(self) -> StorageDriver:
        """The store, with its pace."""
        return self.registry.backends.driver

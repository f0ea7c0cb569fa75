"""Source scan: reads a source registry, from its listing to its problems; a review and a run begin with the same.

Tests: ``tests/migration/review/test_review.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry.images.backends import MAX_MANIFEST
from registry.migration.progress import Progress
from registry.migration.source.bucket import root_of
from registry.migration.source.checks import Checks
from registry.migration.source.detection import classify, detect, known_layout
from registry.migration.source.manifests import ManifestScan
from registry.migration.source.repositories import NothingKnown, RepositoryScan

if TYPE_CHECKING:
    from registry.config.settings import Settings
    from registry.migration.progress import OnProgress
    from registry.migration.report import Note, Problem
    from registry.migration.source.inventory import Inventory
    from registry.migration.source.layout import SourceLayout
    from registry.migration.source.repositories import Known
    from registry.parallel import WorkerPool
    from registry.storage.driver import StorageDriver


class SourceScan:
    """One scan of one bucket into an inventory. Writes nothing to the bucket. Every method raises StorageError."""

    def __init__(
        self,
        inventory: Inventory,
        driver: StorageDriver,
        workers: WorkerPool,
        settings: Settings,
        on_progress: OnProgress,
    ) -> None:
        self._inventory = inventory
        self._driver = driver
        self._workers = workers
        self._settings = settings
        self._on_progress = on_progress
        self.problems: list[Problem] = []
        """In no order; one may appear twice."""
        self.notes: list[Note] = []

    def list(self) -> int:
        """Fill the inventory; returns how many objects were seen."""
        return self._inventory.fill(self._driver, classify, lambda count: self._on_progress(Progress("listing", count)))

    def detect(self, *, single_prefix: bool) -> SourceLayout | None:
        """See registry.migration.source.detection."""
        return detect(
            self._inventory, self._driver, self._workers, root=root_of(self._settings), single_prefix=single_prefix
        )

    def known_layout(self, kind: str, prefixes: tuple[str, ...]) -> SourceLayout:
        """See registry.migration.source.detection."""
        return known_layout(self._inventory, kind, prefixes)

    def read(self, layout: SourceLayout, known: Known | None = None) -> None:
        """Fill the rest of the inventory, ``problems`` and ``notes``. What is ``known`` is not read again."""
        known = known or NothingKnown()
        problems, notes = RepositoryScan(self._inventory, self._driver, layout, self._workers, known).run(
            self._on_progress
        )
        max_bytes = max(self._settings.manifests.max_bytes, MAX_MANIFEST)
        manifests = ManifestScan(
            self._inventory, self._driver, layout, self._workers, known.manifest, max_bytes=max_bytes
        )
        problems += manifests.run(self._on_progress)
        checks = Checks(self._inventory, self._driver, layout, self._workers)
        checks.gather()
        problems += checks.problems()
        self.problems, self.notes = problems, [*notes, *checks.notes()]

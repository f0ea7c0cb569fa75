"""*Collection*: a run, once it is certain that the database knows all that storage has (proposal 0013).

Tests: ``tests/cli/test_gc.py``, ``tests/maintenance/collection/test_scheduled_collection.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry.maintenance.collection.budget import Budget
from registry.maintenance.collection.run import CollectionRun, Wanted
from registry.maintenance.collection.survey.gc_state import CollectionRefused, GcState
from registry.maintenance.collection.survey.survey import Survey

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from registry.config.settings import Settings
    from registry.images.registry import Registry
    from registry.maintenance.collection.ledger import Ledger

    OnProgress = Callable[[str, int, int], object]
    """Called with what is under way, what is done of it, and all there is of it."""

LOOKING = "Looking at repositories"
COLLECTING = "Collecting"


class Collection:
    """For one thread. Two at once are harmless, in whatever processes: the one that began first stops."""

    def __init__(self, registry: Registry, settings: Settings, *, stop: threading.Event | None = None) -> None:
        """``stop`` ends a run at its next page."""
        self._registry = registry
        self._settings = settings
        self._stop = stop

    def run(
        self,
        ledger: Ledger,
        *,
        dry: bool = False,
        with_found: bool = False,
        emptied: str | None = None,
        on_progress: OnProgress = lambda _what, _done, _all: None,
    ) -> None:
        """Look, then collect; ``dry`` changes nothing, and the ledger has what a run would do.

        ``with_found``: also what tools have put into directories, and nothing names. ``emptied``: the repository whose
        trash is emptied, "" for all.
        Raises CollectionRefused, StorageError, DatabaseError, Stopped.
        """
        surveyed = Survey(self._registry, dry=dry).take(lambda done, total: on_progress(LOOKING, done, total))
        if surveyed.refusal is not None:
            raise CollectionRefused(surveyed.refusal)
        for name, reason in surveyed.unsafe.items():
            ledger.trouble(f"{name}: {reason}; nothing that it might name is collected")
        state = GcState(self._registry)
        if not dry:
            state.begin(surveyed.looked)
        gc, storage = self._settings.gc, self._settings.storage
        budget = Budget(
            None if dry else gc.rate, stop=self._stop, require_mine=(lambda: None) if dry else state.assert_mine
        )
        wanted = Wanted(
            dry=dry,
            untagged_after=gc.untagged_after,
            mirrors={mirror.prefix: mirror.unused_after for mirror in self._settings.mirrors},
            redirect_expiry=0.0 if storage.redirect == "off" else storage.redirect_expiry,
            with_found=with_found,
            orphans_after=gc.orphans_after,
            emptied=emptied,
        )
        run = CollectionRun(self._registry, wanted, ledger, budget, surveyed.unsafe)
        run.finish(lambda done, total: on_progress(COLLECTING, done, total))

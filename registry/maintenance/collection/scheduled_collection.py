"""*Scheduled collection*: once in ``gc.interval`` over all servers, and what is told of it.

The time of the last run is in the database, so that neither a restart nor another worker brings the next one forward.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import structlog

from registry.config.sections import AUTO
from registry.database import stores
from registry.maintenance.collection.budget import Stopped
from registry.maintenance.collection.collection import Collection
from registry.maintenance.collection.ledger import Ledger
from registry.maintenance.collection.survey.gc_state import CollectionRefused, GcState
from registry.maintenance.due import is_due

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from registry.config.settings import Settings
    from registry.images.registry import Registry

NAMED: Final = 20
"""Problems that the log names at most."""

log = structlog.get_logger(__name__)


class ScheduledCollection:
    """For one thread. Several processes at once are harmless; the caller has a lease to save the work."""

    def __init__(
        self,
        registry: Registry,
        settings: Settings,
        on_done: Callable[[Ledger | None], object] = lambda _ledger: None,
        stop: threading.Event | None = None,
    ) -> None:
        """``on_done`` gets the ledger of each run; None of one that was refused."""
        self._registry = registry
        self._settings = settings
        self._on_done = on_done
        self._stop = stop

    @property
    def interval(self) -> float | None:
        """Seconds between two runs; None for none."""
        given = self._settings.gc.interval
        return GcState(self._registry).default_interval() if given == AUTO else given

    @property
    def is_due(self) -> bool:
        """Whether no run was for ``interval``, or the last one by a clock that went wrong. Raises DatabaseError."""
        interval = self.interval
        return interval is not None and is_due(self._registry.backends, stores.COLLECTION_RUN, interval)

    def run(self) -> None:
        """Run, unless another process has done it meanwhile.

        Raises DatabaseError, StorageError; the next time does it again.
        """
        if not self.is_due:
            return
        began, ledger = self._registry.backends.clock(), Ledger()
        try:
            Collection(self._registry, self._settings, stop=self._stop).run(ledger)
        except CollectionRefused as refused:
            log.warning("nothing is collected", reason=str(refused))
            self._note(began)
            self._on_done(None)
            return
        except Stopped:
            return
        self._note(began)
        self._on_done(ledger)
        for problem in ledger.problems[:NAMED]:
            log.warning("a collection leaves something alone", problem=problem)
        log.info(
            "a collection has run",
            objects=ledger.objects,
            bytes=ledger.bytes,
            **{f"removed_{kind}s": count for kind, count in ledger.removed.items()},
            waiting=sum(ledger.waiting.values()),
            problems=len(ledger.problems) + ledger.more_problems,
        )

    def _note(self, began: float) -> None:
        with self._registry.backends.database.transaction() as connection:
            stores.set_reached(connection, stores.COLLECTION_RUN, now=began)

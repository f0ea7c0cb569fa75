"""*Run* of a scrub: one round over all that storage has, which goes on where the last one was ended.

A round has five parts: damage that is known, every location that was not read since the round began, the trash on
disk, objects without rows, counters. When it began is in the database, and so is when each location was read, so that a
process that is killed loses at most the object that it was reading.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from registry.database import stores
from registry.maintenance.due import known
from registry.maintenance.scrub import counters
from registry.maintenance.scrub.findings import BYTES, ROUNDS, Findings
from registry.maintenance.scrub.known_damage import KnownDamage
from registry.maintenance.scrub.locations import Locations
from registry.maintenance.scrub.object_check import ObjectCheck
from registry.maintenance.scrub.quarantine import Quarantine
from registry.maintenance.scrub.rate import Interrupted, Rate
from registry.maintenance.scrub.repair import Repair
from registry.maintenance.scrub.report import ScrubReport
from registry.maintenance.scrub.trashed_files import TrashedFiles
from registry.maintenance.scrub.unknown_objects import UnknownObjects
from registry.storage.errors import PathRefused

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from registry.config.scrub_sections import ScrubSettings
    from registry.database.engine import Database
    from registry.images.registry import Registry
    from registry.maintenance.scrub.findings import Observe

    OnProgress = Callable[[int, int], object]
    """Called with the locations that are done and those that there are in all."""

log = structlog.get_logger(__name__)


class ScrubRun:
    """One run. For one thread; several at once, in any processes, are harmless and do some of the work twice."""

    def __init__(
        self,
        registry: Registry,
        settings: ScrubSettings,
        *,
        repairs: bool = False,
        ending: threading.Event | None = None,
        observe: Observe = lambda _what, _count: None,
        on_progress: OnProgress | None = None,
    ) -> None:
        """``repairs``: put right bytes back where another location has them.

        Once ``ending`` is set the run stops at once, in the middle of an object too.
        """
        self._registry = registry
        self._backends = registry.backends
        self._repairs = repairs
        self._observe = observe
        self._on_progress = on_progress
        self._rate = Rate(settings.rate, settings.requests, ending)
        self._counted = 0
        self.report = ScrubReport()

    def run(self) -> ScrubReport:
        """Go through the round, or what is left of it.

        The report says whether it has ``finished``. Raises StorageError if the store fails, and DatabaseError: the next
        run goes on from there.
        """
        report = self.report
        report.began = began = begin_round(self._backends.database, self._backends.clock())
        try:
            self._work(began)
            end_round(self._backends.database, began, self._backends.clock())
            report.finished = True
            self._observe(ROUNDS, 1)
        except Interrupted:
            log.info("a scrub was stopped before its end; the next one goes on", objects=report.objects)
        finally:
            self._count_bytes()
        return report

    def _work(self, began: float) -> None:
        registry, check = self._registry, ObjectCheck(self._backends.driver, self._rate)
        findings = Findings(self._backends, self.report, self._observe, repairs=self._repairs)
        quarantine, repair = Quarantine(registry), Repair(registry, check)
        for _ in KnownDamage(registry, quarantine, repair, findings).work():
            self._rate.check()
        locations = Locations(registry, check, quarantine, repair, findings, began=began)
        done, due = 0, locations.count_due() if self._on_progress is not None else 0
        for count in locations.work():
            done += count
            self._count_bytes()
            self._rate.check()
            if self._on_progress is not None:
                self._on_progress(done, max(done, due))
        for _ in TrashedFiles(self._backends, check, findings, began=began).work():
            self._count_bytes()
            self._rate.check()
        self._compare()
        self.report.counters += counters.differences(self._backends, repairs=self._repairs)

    def _compare(self) -> None:
        unknown = UnknownObjects(self._backends, self._rate)
        for prefix in unknown.prefixes():
            self._rate.check()
            try:
                for key, stat in unknown.below(prefix):
                    self.report.add_unknown(key, stat.size)
            except PathRefused as error:  # one directory; a store that fails ends the run
                self.report.add_problem(f"{prefix} could not be listed: {error}")

    def _count_bytes(self) -> None:
        self.report.bytes = self._rate.read
        self._observe(BYTES, self._rate.read - self._counted)
        self._counted = self._rate.read


def begin_round(database: Database, now: float) -> float:
    """When the round began that has not ended; a new one begins ``now`` if there is none.

    A round that began later than now was begun by a clock that was ahead: a new one begins, since what would be due
    again could not be told from what was read. Raises DatabaseError.
    """
    with database.transaction() as connection:
        began = known(stores.reached_at(connection, stores.SCRUB_BEGAN).get(), now)
        last = stores.reached_at(connection, stores.SCRUB_ENDED).get()
        if began is not None and (last is None or last < began):
            return began
        ended = known(last, now)
        if ended is None:
            stores.forget(connection, stores.SCRUB_ENDED)
        else:  # never at the moment at which the last one ended: it would count as ended
            now = max(now, ended + 0.001)
        stores.set_reached(connection, stores.SCRUB_BEGAN, now=now)
    return now


def end_round(database: Database, began: float, now: float) -> None:
    """Note that the round that began then has ended, unless another one has begun meanwhile. Raises DatabaseError."""
    with database.transaction() as connection:
        if stores.reached_at(connection, stores.SCRUB_BEGAN).get() == began:
            stores.set_reached(connection, stores.SCRUB_ENDED, now=max(now, began))

"""*Scheduled run* of a scrub: one process of all servers goes through a round, once in ``scrub.interval``."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING, Final

import structlog

from registry.background.leases import Leases
from registry.database import stores
from registry.database.errors import DatabaseError
from registry.maintenance.due import known
from registry.maintenance.scrub.run import ScrubRun

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from registry.config.scrub_sections import ScrubSettings
    from registry.images.registry import Registry
    from registry.maintenance.scrub.findings import Observe
    from registry.maintenance.scrub.report import ScrubReport

LEASE: Final = "scrub"
"""The lease of the process that scrubs."""
WANTED: Final = "scrub-wanted"
"""The lease of a command that waits for it: a scheduled run gives way."""
LEASE_SECONDS: Final = 30.0
LOOK_SECONDS: Final = 1.0
"""Seconds between two looks of a scheduled run whether its process ends or a command waits."""
WAIT_SECONDS: Final = 60.0
"""Seconds that a command waits for its turn."""
POLL_SECONDS: Final = 0.2

log = structlog.get_logger(__name__)


class ScheduledRun:
    """For one thread. Several processes at once are harmless; the caller has the lease to save the work."""

    def __init__(
        self,
        registry: Registry,
        settings: ScrubSettings,
        observe: Observe = lambda _what, _count: None,
        on_done: Callable[[ScrubReport], object] = lambda _report: None,
    ) -> None:
        """``on_done`` gets the report of each part of a round that this process has gone through."""
        self._registry = registry
        self._settings = settings
        self._observe = observe
        self._on_done = on_done
        self.ending = threading.Event()
        """Set when the process ends: the run stops at once."""

    @property
    def is_due(self) -> bool:
        """Whether a round has not ended, or is to begin, and no command waits for it. Raises DatabaseError."""
        interval = self._settings.interval
        if interval is None or self.ending.is_set():
            return False
        with self._registry.backends.database.autocommit() as connection:
            began = known(stores.reached_at(connection, stores.SCRUB_BEGAN).get(), self._registry.backends.clock())
            ended = stores.reached_at(connection, stores.SCRUB_ENDED).get()
        is_over = began is not None and ended is not None and ended >= began
        if is_over and began is not None and self._registry.backends.clock() - began < interval:
            return False
        return not self._is_wanted()

    def run(self) -> None:
        """Go through the round, until its end or until a command waits. Raises StorageError, DatabaseError."""
        if not self.is_due:
            return
        with self._giving_way() as stop:
            report = ScrubRun(self._registry, self._settings, ending=stop, observe=self._observe).run()
        self._on_done(report)
        if report.finished:
            log.info(
                "a round of scrubbing has ended",
                objects=report.objects,
                bytes=report.bytes,
                wrong=report.wrong,
                missing=report.missing,
                unreadable=report.unreadable,
                unknown=report.unknown_objects,
            )

    @contextlib.contextmanager
    def _giving_way(self) -> Iterator[threading.Event]:
        """An event that is set when the process ends or a command waits."""
        stop, done = threading.Event(), threading.Event()

        def watch() -> None:
            while not done.wait(LOOK_SECONDS):
                if self.ending.is_set() or self._is_wanted():
                    stop.set()
                    return

        watching = threading.Thread(target=watch, name="scrub-watch", daemon=True)
        watching.start()
        try:
            yield stop
        finally:
            done.set()
            watching.join()

    def _is_wanted(self) -> bool:
        backends = self._registry.backends
        with contextlib.suppress(DatabaseError):  # the run meets it by itself
            held = Leases(backends.database, backends.holder).held(WANTED)
            return held is not None and held.deadline > backends.clock()
        return False


@contextlib.contextmanager
def turn(registry: Registry, *, seconds: float = WAIT_SECONDS) -> Iterator[bool]:
    """The turn of a command, for the block. A scheduled run gives way; False if another command does not in time."""
    leases = Leases(registry.backends.database, registry.backends.holder)
    deadline = time.monotonic() + seconds
    with leases.hold(WANTED, LEASE_SECONDS, succeeds_dead=True) as asked:
        if not asked:
            yield False
            return
        while True:
            with leases.hold(LEASE, LEASE_SECONDS, succeeds_dead=True) as held:
                if held:
                    yield True
                    return
            if time.monotonic() > deadline:
                yield False
                return
            time.sleep(POLL_SECONDS)

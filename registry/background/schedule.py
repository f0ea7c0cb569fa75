"""Schedule: background jobs of one process, each in a thread of its own and limited to a share of a core."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog

from registry.database.errors import DatabaseError
from registry.oci.errors import Unavailable
from registry.storage.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Callable

LONGEST_PAUSE = 60.0
"""Seconds between two attempts of a failing job, at most; each pause is twice the last one."""
_FORESEEN = (DatabaseError, StorageError, Unavailable)
"""Errors of an unreachable store: the reason says everything, and a trace would hide it."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Job:
    """Repeated work."""

    name: str
    run: Callable[[], None]
    interval: float
    """Seconds from the end of one run to the next, at least."""
    share: float = 0.1
    """Most processor time, as a share of a core: after t seconds of it the job rests for t * (1 / share - 1)."""
    wake: threading.Event | None = field(default=None)
    """If set, the job waits for it and then for ``interval``; it also runs each ``idle`` seconds."""
    idle: float = 5.0


class Schedule:
    """Runs jobs until it is stopped. A job that raises is logged and runs again, after longer and longer pauses."""

    def __init__(self, jobs: list[Job]) -> None:
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._loop, args=(job,), name=job.name, daemon=True) for job in jobs]
        self._wakes = [job.wake for job in jobs if job.wake is not None]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def stop(self, timeout: float) -> None:
        """Wait for running jobs, ``timeout`` seconds in all at most; the next start resumes the rest (I8)."""
        self._stop.set()
        for wake in self._wakes:
            wake.set()
        deadline = time.monotonic() + timeout
        for thread in self._threads:
            if thread.is_alive():
                thread.join(max(0.0, deadline - time.monotonic()))

    def _loop(self, job: Job) -> None:
        failures = 0
        while not self._stop.is_set():
            if job.wake is not None:
                job.wake.wait(job.idle)
            began = time.thread_time()
            failures = 0 if self._run(job) else failures + 1
            spent = time.thread_time() - began
            pause = min(LONGEST_PAUSE, 2.0**failures / 2) if failures else 0.0
            if self._stop.wait(max(job.interval, spent * (1 / job.share - 1), pause)):
                return

    def _run(self, job: Job) -> bool:
        """Run the job once. False if it failed."""
        try:
            job.run()
        except _FORESEEN as error:
            if not self._stop.is_set():
                log.warning(
                    "background work could not be done and will be tried again", job=job.name, reason=str(error).strip()
                )
        except Exception:
            log.exception("background work failed and will be tried again", job=job.name)
        else:
            return True
        return False

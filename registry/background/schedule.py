"""Schedule: background jobs of one process, each in a thread of its own and limited to a share of a core."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from registry.cores import cores
from registry.database.errors import DatabaseError
from registry.oci.errors import Unavailable
from registry.storage.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from registry.background.leases import Leases

LEASE_SECONDS = 30.0
"""Seconds after which the lease of a killed process is free; it is renewed while its job runs."""
LONGEST_PAUSE = 60.0
"""Seconds between two attempts of a failing job, at most; each pause is twice the last one."""
_FORESEEN = (DatabaseError, StorageError, Unavailable)
"""Errors of an unreachable store: the reason says everything, and a trace would hide it."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Job:
    """Repeated work."""

    name: str
    run: Callable[[], object]
    interval: float
    """Seconds from the end of one run to the next, at least."""
    share: float = 0.1
    """The job takes at most this share of a core: after t seconds of work it rests for t * (1 / share - 1)."""
    wake: threading.Event | None = None
    """The job waits for this event, at most ``idle`` seconds, before each run. None if it does not wait."""
    idle: float = 0.0
    """Seconds to the next look, at least, if the job was not needed or another process had its lease."""
    lease: str | None = None
    """The job is left out while another process holds this lease. None if every process runs it."""
    is_needed: Callable[[], bool] | None = None
    """Asked before the lease is taken. None if it always is."""


class Schedule:
    """Runs jobs until it is stopped. A job that raises is logged and runs again, after longer and longer pauses."""

    def __init__(
        self, jobs: list[Job], leases: Leases | None = None, *, stopping: threading.Event | None = None
    ) -> None:
        """``leases`` may be left out if no job has one. ``stopping`` is set when the jobs are to end."""
        self._leases = leases
        self._stop = stopping or threading.Event()
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
        cores.use_all()  # collections and scrubs hash
        failures = 0
        while not self._stop.is_set():
            if job.wake is not None:
                job.wake.wait(job.idle)
            began, pause = time.thread_time(), job.interval
            try:
                if not self._run(job):
                    pause = max(pause, job.idle)
                failures = 0
            except Exception as error:  # noqa: BLE001 - it is logged, and the job runs again
                failures += 1
                pause = max(pause, min(LONGEST_PAUSE, 2.0**failures / 2))
                self._report(job, error)
            spent = time.thread_time() - began
            if self._stop.wait(max(pause, spent * (1 / job.share - 1))):
                return

    def _run(self, job: Job) -> bool:
        """False if there was nothing to do, or another process does it."""
        if job.is_needed is not None and not job.is_needed():
            return False
        if job.lease is None:
            job.run()
            return True
        assert self._leases is not None  # noqa: S101 - see the constructor
        with self._leases.hold(job.lease, LEASE_SECONDS) as is_held:
            if is_held:
                job.run()
        return is_held

    def _report(self, job: Job, error: Exception) -> None:
        if not isinstance(error, _FORESEEN):
            log.error("background work failed and will be tried again", job=job.name, exc_info=error)
        elif not self._stop.is_set():
            reason = str(error).strip()
            log.warning("background work could not be done and will be tried again", job=job.name, reason=reason)

"""*Jobs*: the background work of a process that serves.

Tests: ``tests/background/test_schedule.py``, ``tests/server/test_workers.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry.auth.authentication import LOOK_INTERVAL
from registry.background.leases import Leases
from registry.background.schedule import Job, Schedule
from registry.maintenance.arrivals import Arrivals
from registry.maintenance.completion import Completion
from registry.maintenance.rescan import Rescan

if TYPE_CHECKING:
    from registry.auth.authentication import Authentication
    from registry.config.settings import Settings
    from registry.images.registry import Registry

FOLD_INTERVAL = 0.4
"""Seconds that records wait for more to be folded with them."""
FOLD_IDLE = 5.0
"""Seconds between two looks for records that another process has left."""
CHECKPOINT_INTERVAL = 1.0
"""Seconds between two moves of the database's log into its file."""
EXPIRY_INTERVAL = 300.0
"""Seconds between two looks for abandoned uploads, at most."""
ARRIVALS_INTERVAL = 30.0
"""Seconds between two looks for blobs that a release before this one took in without writing down that they came."""
COMPLETION_INTERVAL = 0.1
"""Seconds between two pages of manifests whose references a release before this one has left out."""
COMPLETION_IDLE = 30.0
"""Seconds between two looks for such manifests."""


def create_schedule(registry: Registry, settings: Settings, authentication: Authentication | None = None) -> Schedule:
    """The jobs over ``registry``, not yet started."""
    backends, rescan, completion = registry.backends, Rescan(registry), Completion(registry)
    interval = settings.storage.rescan_interval

    def expire() -> None:
        registry.uploads.expire()
        registry.blob_deletion.finish_abandoned()

    jobs = [
        Job("checkpoint", backends.database.checkpoint, CHECKPOINT_INTERVAL),
        Job("fold", registry.fold_waiting, FOLD_INTERVAL, wake=registry.folding.wake, idle=FOLD_IDLE),
        Job("upload-expiry", expire, min(EXPIRY_INTERVAL, settings.storage.upload_expiry / 2), lease="upload-expiry"),
        Job("arrivals", Arrivals(registry).step, ARRIVALS_INTERVAL, lease="arrivals"),
        Job(
            "references",
            completion.step,
            COMPLETION_INTERVAL,
            is_needed=lambda: completion.is_needed,
            idle=COMPLETION_IDLE,
            lease="references",
        ),
    ]
    if backends.driver.capabilities.external_writers:
        jobs.append(Job("rescan", rescan.run, interval, lease="rescan"))
    else:
        jobs += [
            Job("rescan", rescan.run_once, interval, is_needed=lambda: not rescan.is_done, lease="rescan"),
            # Here, so that no client waits for it.
            Job("source-locations", registry.source_locations.ensure, interval),
        ]
    if authentication is not None:
        jobs.append(Job("credentials", authentication.directory.look, LOOK_INTERVAL))
    return Schedule(jobs, Leases(backends.database, backends.holder, backends.clock))

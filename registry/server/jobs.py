"""*Jobs*: the background work of a process that serves."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, NamedTuple

from registry.auth.authentication import LOOK_INTERVAL
from registry.background.leases import Leases
from registry.background.schedule import Job, Schedule
from registry.config.sections import AUTO
from registry.images import pulls
from registry.images.fetching.expiry import expire as expire_fetches
from registry.images.fetching.policy import FetchPolicy
from registry.images.trash.trash_expiry import TrashExpiry
from registry.maintenance.arrivals import Arrivals
from registry.maintenance.collection.scheduled_collection import ScheduledCollection
from registry.maintenance.collection.survey.gc_state import GcState
from registry.maintenance.completion import Completion
from registry.maintenance.rescan import Rescan
from registry.maintenance.retention.scheduled_run import ScheduledRun
from registry.maintenance.scrub import scheduled_run as scrub
from registry.maintenance.usage.scheduled_count import ScheduledCount
from registry.mirror.expiry import expire_rows as expire_mirror_rows
from registry.server import tls_files

if TYPE_CHECKING:
    from collections.abc import Callable

    from registry.auth.authentication import Authentication
    from registry.config.settings import Settings
    from registry.images.registry import Registry
    from registry.maintenance.collection.ledger import Ledger
    from registry.maintenance.retention.report import Summary
    from registry.maintenance.scrub.findings import Observe
    from registry.maintenance.usage.figures import Figures
    from registry.observability.audit import AuditLog
    from registry.server.tls_files import TlsFiles

FOLD_INTERVAL = 0.4
"""Seconds that records wait for more to be folded with them."""
FOLD_IDLE = 5.0
"""Seconds between two looks for records that another process has left."""
CLOCK_INTERVAL = 60.0
"""Seconds between two looks at the clock of the database."""
CHECKPOINT_INTERVAL = 1.0
"""Seconds between two moves of the database's log into its file."""
PULLS_PAUSE = 1.0
"""Seconds between two times at which pulls are written down, at least."""
EXPIRY_INTERVAL = 300.0
"""Seconds between two looks for abandoned uploads, at most."""
SESSIONS_INTERVAL = 300.0
"""Seconds between two looks for sessions of browsers that have ended."""
COLLECTION_LOOK = 60.0
"""Seconds between two looks whether a collection is due, at most."""
TRASH_INTERVAL = 300.0
"""Seconds between two looks for what can be restored no longer."""
ARRIVALS_INTERVAL = 30.0
"""Seconds between two looks for blobs that a release before this one took in without writing down that they came."""
RETENTION_LOOK = 60.0
"""Seconds between two looks whether retention is to run, at most."""
USAGE_LOOK = 60.0
"""Seconds between two looks whether usage is to be counted, at most."""
MEETING_INTERVAL = 1.0
"""Seconds between two attempts to see whether storage is new to the database."""
MEETING_IDLE = 3600.0
"""Seconds between two looks whether that was seen."""
SCRUB_LOOK = 10.0
"""Seconds between two looks whether there is a round of scrubbing to go on with."""
COMPLETION_INTERVAL = 0.1
"""Seconds between two pages of manifests whose references a release before this one has left out."""
COMPLETION_IDLE = 30.0
"""Seconds between two looks for such manifests."""


class Listeners(NamedTuple):
    """What is told of the work: the first three after each run, the last while one goes on."""

    on_retention: Callable[[Summary, bool], object] = lambda _summary, _applies: None
    on_usage: Callable[[Figures, int], object] = lambda _figures, _repositories: None
    on_collection: Callable[[Ledger | None], object] = lambda _ledger: None
    observe_scrub: Observe = lambda _what, _count: None


def create_schedule(
    registry: Registry,
    settings: Settings,
    authentication: Authentication | None = None,
    tls: TlsFiles | None = None,
    audit: AuditLog | None = None,
    listeners: Listeners | None = None,
) -> Schedule:
    """The jobs over ``registry``, not yet started."""
    tell = listeners or Listeners()
    backends, rescan, completion = registry.backends, Rescan(registry), Completion(registry)
    gc_state = GcState(registry)
    stopping = threading.Event()
    interval = settings.storage.rescan_interval

    def expire() -> None:
        registry.uploads.expire()
        expire_fetches(backends, seconds=FetchPolicy().expiry)
        expire_mirror_rows(backends.database)
        registry.blob_deletion.finish_abandoned()
        registry.blob_deletion.prune()

    jobs = [
        Job("clock", backends.database.wall.read, CLOCK_INTERVAL),
        Job("checkpoint", backends.database.checkpoint, CHECKPOINT_INTERVAL),
        Job("fold", registry.fold_waiting, FOLD_INTERVAL, wake=registry.folding.wake, idle=FOLD_IDLE),
        Job("pulls", registry.pulls.flush, PULLS_PAUSE, wake=registry.pulls.wake, idle=pulls.FLUSH_SECONDS),
        Job("upload-expiry", expire, min(EXPIRY_INTERVAL, settings.storage.upload_expiry / 2), lease="upload-expiry"),
        Job("trash", TrashExpiry(backends).run, TRASH_INTERVAL, lease="trash"),
        Job("gc-state", gc_state.adopt, MEETING_INTERVAL, is_needed=lambda: not gc_state.is_met, idle=MEETING_IDLE),
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
    jobs += _runs(registry, settings, tell, audit, stopping)
    if backends.driver.capabilities.external_writers:
        jobs.append(Job("rescan", rescan.run, interval, lease="rescan"))
    else:
        jobs += [
            Job("rescan", rescan.run_once, interval, is_needed=lambda: not rescan.is_done, lease="rescan"),
            # Here, so that no client waits for it.
            Job("source-locations", registry.source_locations.ensure, interval),
        ]
    if authentication is not None:
        jobs.append(Job("credentials", authentication.look, LOOK_INTERVAL))
        if authentication.keys is not None:
            jobs.append(Job("revoked-keys", authentication.look_at_keys, LOOK_INTERVAL))
        if authentication.logins is not None:
            expire_sessions = authentication.logins.sessions.expire
            jobs.append(Job("browser-sessions", expire_sessions, SESSIONS_INTERVAL, lease="browser-sessions"))
    if tls is not None:
        jobs.append(Job("tls-files", tls.look, tls_files.LOOK_INTERVAL))
    return Schedule(jobs, Leases(backends.database, backends.holder), stopping=stopping)


def _runs(
    registry: Registry, settings: Settings, tell: Listeners, audit: AuditLog | None, stopping: threading.Event
) -> list[Job]:
    """What goes through all content now and then, each by its own interval."""
    jobs = []
    if settings.gc.interval is not None:
        collection = ScheduledCollection(registry, settings, tell.on_collection, stopping)
        look = min(COLLECTION_LOOK, settings.gc.interval) if settings.gc.interval != AUTO else COLLECTION_LOOK
        jobs.append(Job("collection", collection.run, look, is_needed=lambda: collection.is_due, lease="collection"))
    if settings.retention.interval is not None and settings.retention.rules:
        retention = ScheduledRun(registry, settings.retention, tell.on_retention, audit)
        look = min(RETENTION_LOOK, settings.retention.interval)
        jobs.append(Job("retention", retention.run, look, is_needed=lambda: retention.is_due, lease="retention"))
    if settings.metrics.enabled and settings.metrics.usage_interval is not None:
        usage = ScheduledCount(registry, settings.metrics.usage_interval, tell.on_usage)
        look = min(USAGE_LOOK, settings.metrics.usage_interval)
        jobs.append(Job("usage", usage.run, look, is_needed=lambda: usage.is_due, lease="usage"))
    if settings.scrub.interval is not None:
        scrubbing = scrub.ScheduledRun(registry, settings.scrub, tell.observe_scrub)
        jobs.append(
            Job(
                "scrub",
                scrubbing.run,
                min(SCRUB_LOOK, settings.scrub.interval),
                share=1.0,  # its rate is its limit
                wake=scrubbing.ending,
                idle=min(SCRUB_LOOK, settings.scrub.interval),
                is_needed=lambda: scrubbing.is_due,
                lease=scrub.LEASE,
            )
        )
    return jobs

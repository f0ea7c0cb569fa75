"""The application of one process: FastAPI with a route for every endpoint, reads from memory before, jobs behind it."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING

import structlog
from fastapi import FastAPI

from registry.api import blobs, catalog, errors, manifests, referrers, tags, uploads, version
from registry.api.context import ApiContext
from registry.api.http.access_log import AccessLog
from registry.background.leases import Leases
from registry.background.schedule import Job, Schedule
from registry.database.errors import DatabaseError
from registry.maintenance.arrivals import Arrivals
from registry.maintenance.completion import Completion
from registry.maintenance.rescan import Rescan
from registry.observability.logs import open_request_log
from registry.observability.request_log import BATCH_SECONDS
from registry.server.observability import ProcessMetrics
from registry.web import operations, reference

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from starlette.types import ASGIApp

    from registry.config import Settings
    from registry.images.registry import Registry

CHAPTERS = (uploads, blobs, manifests, tags, referrers, catalog, version)
"""The chapters of the specification, each a router; what a push asks most often comes first."""
FOLD_INTERVAL = 0.4
"""Seconds that records wait for more to be folded with them."""
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
EXPIRY_LEASE = 30.0
"""Seconds after which work of a killed process goes on in another; renewed while it runs."""
STOP_SECONDS = 5.0
"""How long background work may take to end."""

log = structlog.get_logger(__name__)


def create_application(
    registry: Registry,
    settings: Settings,
    watch: ProcessMetrics | None = None,
    on_stopped: Callable[[], object] = lambda: None,
) -> ASGIApp:
    """The ASGI application over ``registry``, which it does not close.

    ``watch`` keeps metrics and logs of this process.

    ``on_stopped`` is called when it has drained; what hangs then has not ended, and nothing waits for it any more.
    """
    watch = watch or ProcessMetrics(None, open_request_log(settings.log.format, settings.log.level))
    registry.backends.omissions.count = watch.count_omission
    context = ApiContext(registry, settings)
    application = FastAPI(
        title="Stowage",
        description="An OCI registry: the distribution API, and what operators need beside it.",
        docs_url=None,
        redoc_url=None,
        openapi_url="/api/openapi.json",
        redirect_slashes=False,
        telemetry={"tracing": False, "metrics": False, "logs": False},  # ours are elsewhere; asked for at each request
        lifespan=lambda _application: _lifespan(context, watch, _background(registry, settings), on_stopped),
    )
    application.state.context = context
    application.state.watch = watch
    application.state.probes = operations.probes_of(registry)
    operations.install(application, with_metrics=settings.metrics.enabled)
    application.include_router(reference.router)
    errors.install(application)
    # Flat and in front: a router in a router costs a third of what a request's way to its endpoint takes.
    application.router.routes[:0] = [route for chapter in CHAPTERS for route in chapter.router.routes]
    return AccessLog(
        application,
        context,
        watch.tally,
        watch.request_log,
    )


def _background(registry: Registry, settings: Settings) -> Schedule:
    leases = Leases(registry.backends.database, registry.backends.holder, registry.backends.clock)
    rescan = Rescan(registry)

    def expire() -> None:
        with leases.hold("upload-expiry", EXPIRY_LEASE) as held:
            if held:
                registry.uploads.expire()
                registry.blob_deletion.finish_abandoned()

    def look_for_layouts() -> None:
        with leases.hold("rescan", EXPIRY_LEASE) as held:
            if held:
                rescan.run()

    def fill_new_database() -> None:
        if rescan.is_done:
            registry.source_locations.ensure()  # here, so that no client waits for it
            return
        with leases.hold("rescan", EXPIRY_LEASE) as held:
            if held:
                rescan.run_once()

    def fold() -> None:
        registry.fold_waiting()

    jobs = [
        Job("checkpoint", registry.backends.database.checkpoint, CHECKPOINT_INTERVAL),
        Job("fold", fold, FOLD_INTERVAL, wake=registry.folding.wake),
        Job("upload-expiry", expire, min(EXPIRY_INTERVAL, settings.storage.upload_expiry / 2)),
    ]
    jobs += [_noting_arrivals(registry, leases), _completing_references(registry, leases)]
    look = look_for_layouts if registry.backends.driver.capabilities.external_writers else fill_new_database
    jobs.append(Job("rescan", look, settings.storage.rescan_interval))
    return Schedule(jobs)


def _noting_arrivals(registry: Registry, leases: Leases) -> Job:
    arrivals = Arrivals(registry)

    def step() -> None:
        with leases.hold("arrivals", EXPIRY_LEASE) as held:
            if held:
                arrivals.step()

    return Job("arrivals", step, ARRIVALS_INTERVAL)


def _completing_references(registry: Registry, leases: Leases) -> Job:
    completion, more = Completion(registry), threading.Event()
    more.set()

    def step() -> None:
        more.clear()
        if not completion.is_needed:
            return
        with leases.hold("references", EXPIRY_LEASE) as held:
            if held and completion.step():
                more.set()

    return Job("references", step, COMPLETION_INTERVAL, wake=more, idle=COMPLETION_IDLE)


@contextlib.asynccontextmanager
async def _lifespan(
    context: ApiContext, watch: ProcessMetrics, schedule: Schedule, on_stopped: Callable[[], object]
) -> AsyncIterator[None]:
    schedule.start()
    flushing = asyncio.create_task(_flush_regularly(watch))
    try:
        yield
    finally:
        flushing.cancel()
        with contextlib.suppress(
            TimeoutError
        ):  # requests that were cut at the end of the drain still put their things away
            async with asyncio.timeout(STOP_SECONDS):
                await context.quiet.wait()
        context.cache.close()  # here, where it is used: it has a query to give up
        await asyncio.to_thread(schedule.stop, STOP_SECONDS)
        await _fold(context.registry)
        await asyncio.to_thread(context.close)
        watch.flush()
        on_stopped()


async def _fold(registry: Registry) -> None:
    """What is not folded in time is folded by the next start, or by another process."""
    try:
        async with asyncio.timeout(STOP_SECONDS):
            await asyncio.to_thread(registry.fold_waiting)
    except TimeoutError:
        log.warning("records were not folded before the end; they are kept", seconds=STOP_SECONDS)
    except DatabaseError as error:
        log.warning("records were not folded before the end; they are kept", reason=str(error).strip())


async def _flush_regularly(watch: ProcessMetrics) -> None:
    """Lines of the request log are written within BATCH_SECONDS, metrics within a second."""
    turns = max(1, round(1 / BATCH_SECONDS))
    while True:
        for _ in range(turns):
            await asyncio.sleep(BATCH_SECONDS)
            if watch.request_log is not None:
                watch.request_log.flush()
        watch.flush_metrics()

"""The application of one process: FastAPI with a route for every endpoint, reads from memory before, jobs behind it.

Tests: ``tests/server/test_start.py``, ``tests/server/test_drain.py``.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import structlog
from fastapi import FastAPI

from registry.api import blobs, catalog, manifests, referrers, tags, token, uploads, version
from registry.api.context import ApiContext
from registry.api.http.access_log import AccessLog
from registry.api.http.routing import Routes
from registry.database.errors import DatabaseError
from registry.observability.logs import open_request_log
from registry.observability.request_log import BATCH_SECONDS
from registry.server.jobs import create_schedule
from registry.server.observability import ProcessMetrics
from registry.web import operations, reference

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from starlette.types import ASGIApp

    from registry.background.schedule import Schedule
    from registry.config.settings import Settings
    from registry.images.registry import Registry

CHAPTERS = (uploads, blobs, manifests, tags, referrers, catalog, version, token)
"""The chapters of the specification, each a router; what a push asks most often comes first."""
STOP_SECONDS = 5.0
"""How long background work may take to end."""

log = structlog.get_logger(__name__)


def create_application(
    registry: Registry,
    settings: Settings,
    metrics: ProcessMetrics | None = None,
    on_stopped: Callable[[], object] = lambda: None,
) -> ASGIApp:
    """The ASGI application over ``registry``, which it does not close.

    ``metrics`` are those of this process, with its log of requests.

    ``on_stopped`` is called when it has drained; what hangs then has not ended, and nothing waits for it any more.
    """
    metrics = metrics or ProcessMetrics(None, open_request_log(settings.log.format, settings.log.level))
    registry.backends.omissions.count = metrics.count_omission
    context = ApiContext(registry, settings)
    application = FastAPI(
        title="Stowage",
        description="An OCI registry: the distribution API, and what operators need beside it.",
        docs_url=None,
        redoc_url=None,
        openapi_url="/api/openapi.json",
        redirect_slashes=False,
        telemetry={"tracing": False, "metrics": False, "logs": False},  # ours are elsewhere; asked for at each request
        lifespan=lambda _application: _lifespan(
            context, metrics, create_schedule(registry, settings, context.authentication), on_stopped
        ),
    )
    application.state.context = context
    application.state.metrics = metrics
    application.state.probes = operations.probes_of(registry)
    # Flat and in front: a router in a router costs a third of what a request's way to its endpoint takes.
    routers = [*(chapter.router for chapter in CHAPTERS), operations.router_of(with_metrics=settings.metrics.enabled)]
    application.router.routes[:0] = [route for router in (*routers, reference.router) for route in router.routes]
    return AccessLog(application, Routes(application), context, metrics.tally, metrics.request_log)


@contextlib.asynccontextmanager
async def _lifespan(
    context: ApiContext, metrics: ProcessMetrics, schedule: Schedule, on_stopped: Callable[[], object]
) -> AsyncIterator[None]:
    schedule.start()
    flushing = asyncio.create_task(_flush_regularly(metrics))
    try:
        yield
    finally:
        flushing.cancel()
        # Requests that were cut at the end of the drain still put their things away.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_SECONDS):
                await context.quiet.wait()
        context.cache.close()  # here, where it is used: it has a query to give up
        await asyncio.to_thread(schedule.stop, STOP_SECONDS)
        await _fold(context.registry)
        await asyncio.to_thread(context.close)
        metrics.flush()
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


async def _flush_regularly(metrics: ProcessMetrics) -> None:
    """Lines of the request log are written within BATCH_SECONDS, metrics within a second."""
    turns = max(1, round(1 / BATCH_SECONDS))
    while True:
        for _ in range(turns):
            await asyncio.sleep(BATCH_SECONDS)
            if metrics.request_log is not None:
                metrics.request_log.flush()
        metrics.flush_metrics()

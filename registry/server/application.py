"""The application of one process: FastAPI with a route for every endpoint, reads from memory before, jobs behind it.

Tests: ``tests/server/test_start.py``, ``tests/server/test_drain.py``.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import structlog
from fastapi import FastAPI

from registry.admin import history, keys, mirrors, purge, retention, session, usage
from registry.api import blobs, catalog, manifests, referrers, tags, token, uploads, version
from registry.api.context import ApiContext
from registry.api.http.access_log import AccessLog
from registry.api.http.routing import Routes
from registry.database.errors import DatabaseError
from registry.observability.logs import open_request_log
from registry.observability.request_log import BATCH_SECONDS
from registry.server.jobs import Listeners, create_schedule
from registry.server.observability import ProcessMetrics
from registry.web import login, operations, reference

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from starlette.types import ASGIApp

    from registry.background.schedule import Schedule
    from registry.config.settings import Settings
    from registry.images.registry import Registry
    from registry.server.tls_files import TlsFiles

CHAPTERS = (uploads, blobs, manifests, tags, referrers, catalog, version, token)
"""The chapters of the specification, each a router; what a push asks most often comes first."""
ADMINISTRATION = (session, keys, retention, history, usage, purge, mirrors)
"""What is below ``/api/v1``."""
PAGES = (login, reference)
"""What browsers see."""
STOP_SECONDS = 5.0
"""How long background work may take to end."""

log = structlog.get_logger(__name__)


def create_application(
    registry: Registry,
    settings: Settings,
    metrics: ProcessMetrics | None = None,
    on_stopped: Callable[[], object] = lambda: None,
    tls: TlsFiles | None = None,
    on_started: Callable[[ApiContext], object] = lambda _context: None,
) -> ASGIApp:
    """The ASGI application over ``registry``, which it does not close.

    ``metrics`` are those of this process, with its log of requests.

    ``on_started`` is called in the event loop, before the first request.
    ``on_stopped`` is called when it has drained; what hangs then has not ended, and nothing waits for it any more.

    ``tls`` is looked at for changed files.
    """
    metrics = metrics or ProcessMetrics(None, open_request_log(settings.log.format, settings.log.level))
    registry.backends.omissions.count = metrics.count_omission
    context = ApiContext(registry, settings, metrics.audit_log, metrics.metrics.upstream)
    application = FastAPI(
        title="Stowage",
        description="An OCI registry: the distribution API, and what operators need beside it.",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,  # ``reference`` has it
        redirect_slashes=False,
        telemetry={"tracing": False, "metrics": False, "logs": False},  # ours are elsewhere; asked for at each request
        lifespan=lambda _application: _lifespan(
            context,
            metrics,
            create_schedule(
                registry,
                settings,
                context.authentication,
                tls,
                metrics.audit_log,
                Listeners(metrics.count_retention, metrics.count_usage, metrics.count_collection, metrics.count_scrub),
            ),
            on_started,
            on_stopped,
        ),
    )
    application.state.context = context
    application.state.metrics = metrics
    application.state.probes = operations.probes_of(registry)
    application.state.tls = tls
    # Flat and in front: a router in a router costs a third of what a request's way to its endpoint takes.
    first, rest = ((each.router for each in parts) for parts in (CHAPTERS, (*ADMINISTRATION, *PAGES)))
    routers = [*first, operations.router_of(settings.metrics), *rest]
    application.router.routes[:0] = [route for router in routers for route in router.routes]
    return AccessLog(application, Routes(application), context, metrics.tally, metrics.request_log)


@contextlib.asynccontextmanager
async def _lifespan(
    context: ApiContext,
    metrics: ProcessMetrics,
    schedule: Schedule,
    on_started: Callable[[ApiContext], object],
    on_stopped: Callable[[], object],
) -> AsyncIterator[None]:
    schedule.start()
    on_started(context)
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
        await _end_well("records were not folded before the end; they are kept", context.registry.fold_waiting)
        await _end_well("pulls were not written down before the end", context.registry.pulls.flush)
        await asyncio.to_thread(context.close)
        metrics.flush()
        on_stopped()


async def _end_well(failure: str, call: Callable[[], object]) -> None:
    """Do what the next start, or another process, does or misses where it takes too long here."""
    try:
        async with asyncio.timeout(STOP_SECONDS):
            await asyncio.to_thread(call)
    except TimeoutError:
        log.warning(failure, seconds=STOP_SECONDS)
    except DatabaseError as error:
        log.warning(failure, reason=str(error).strip())


async def _flush_regularly(metrics: ProcessMetrics) -> None:
    """Lines of the request log are written within BATCH_SECONDS, metrics within a second."""
    turns = max(1, round(1 / BATCH_SECONDS))
    while True:
        for _ in range(turns):
            await asyncio.sleep(BATCH_SECONDS)
            if metrics.request_log is not None:
                metrics.request_log.flush()
        metrics.flush_metrics()

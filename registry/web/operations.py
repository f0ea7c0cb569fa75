"""*Operations*: probes and metrics for an operator's machines; by HEAD too."""

from __future__ import annotations

import asyncio
import contextlib
import time
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel
from starlette.requests import Request  # noqa: TC002 - FastAPI reads the annotation at run time
from starlette.responses import JSONResponse, Response

from registry.api.access import Action
from registry.api.http.operations import Content, operation
from registry.api.http.routing import ACTION, OciRoute, context_of
from registry.database import stores
from registry.database.errors import DatabaseError
from registry.observability.metrics.metrics import CONTENT_TYPE
from registry.oci.errors import Unavailable
from registry.storage.errors import StorageError
from registry.web.probe import SECONDS, Probe

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from registry.config.sections import MetricsSettings
    from registry.database.engine import Database
    from registry.images.registry import Registry


COUNTED = 5
"""Seconds for which a count of upload sessions is shown: it lists those on local disk, 0.1 s for 10,000 of them."""


class Health(BaseModel):
    """The answer of a probe."""

    status: Literal["ok", "unavailable"]
    problems: list[str] = []
    """The parts that do not answer: ``storage``, ``database``; settings of which the file that is there is not used."""


def router_of(settings: MetricsSettings) -> APIRouter:
    """The routes, each for GET and HEAD."""
    open_to_all = {"openapi_extra": {ACTION: Action.NONE}, "response_model": Health}
    routes: list[tuple[str, Callable[[Request], Awaitable[Response]], dict[str, Any]]] = [
        ("/livez", livez, open_to_all),
        ("/readyz", readyz, open_to_all | {"responses": {503: {"model": Health}}}),
    ]
    if settings.enabled:
        action = Action.METRICS if settings.protect else Action.NONE
        text = Content("text/plain", {"type": "string"})
        routes.append(("/metrics", metrics, operation(action, answers=(200,), content=text)))
    router = APIRouter(route_class=OciRoute, tags=["operations"])
    for path, answer, documented in routes:
        router.add_api_route(path, answer, methods=["GET"], **documented)
        router.add_api_route(path, answer, methods=["HEAD"], include_in_schema=False, **documented)
    return router


async def livez(_request: Request) -> Response:
    """Answer as long as the process runs; asks nothing of storage or database."""
    return JSONResponse(Health(status="ok").model_dump())


async def readyz(request: Request) -> Response:
    """Answer 200 when storage and database do, else 503 naming which does not, within two seconds.

    Needs no administrator's right. What has a file that is wrong is named beside 200: the file before it is in use.
    """
    probes: list[Probe] = request.app.state.probes
    answers = await asyncio.gather(*(probe.is_answered() for probe in probes))
    problems = [probe.name for probe, is_answered in zip(probes, answers, strict=True) if not is_answered]
    authentication, tls = request.app.state.context.authentication, request.app.state.tls
    named = [] if authentication is None else authentication.problems
    if tls is not None and tls.problem is not None:
        named = [*named, "http.tls"]
    if request.app.state.context.has_stale_rules:
        named = [*named, "access.rules"]
    health = Health(status="unavailable" if problems else "ok", problems=problems + named)
    return JSONResponse(health.model_dump(), 503 if problems else 200)


async def metrics(request: Request) -> Response:
    """Prometheus metrics, the sum of all workers."""
    context = context_of(request)
    process = request.app.state.metrics
    process.flush_metrics()
    # The other metrics are shown also while the database or storage is away.
    if time.monotonic() >= process.uploads_due:
        with contextlib.suppress(DatabaseError, StorageError, TimeoutError, Unavailable):
            async with asyncio.timeout(SECONDS):
                process.metrics.uploads_open.set(await context.run(context.registry.uploads.count))
            process.uploads_due = time.monotonic() + COUNTED
    return Response(await asyncio.to_thread(process.metrics.render), headers={"Content-Type": CONTENT_TYPE})


def probes_of(registry: Registry) -> list[Probe]:
    """What ``/readyz`` asks."""
    return [
        Probe("storage", registry.backends.driver.check, "storage does not answer"),
        Probe("database", partial(_ask, registry.backends.database), "the database does not answer"),
    ]


def _ask(database: Database) -> None:
    """Read a row. Raises DatabaseError."""
    with database.autocommit() as connection:
        stores.is_reached(connection, stores.STORAGE_READ).get()

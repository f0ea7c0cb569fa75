"""*Operations*: what an operator's machines ask: is the process up, does it work, what has it done; by HEAD too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import structlog
from pydantic import BaseModel
from starlette.requests import Request  # noqa: TC002 - FastAPI reads the annotation at run time
from starlette.responses import JSONResponse, Response

from registry.database.errors import DatabaseError
from registry.observability.metrics import CONTENT_TYPE
from registry.storage.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from fastapi import FastAPI

    from registry.api.edge import Edge
    from registry.images.core import Core

log = structlog.get_logger(__name__)


class Health(BaseModel):
    """The answer of a probe."""

    status: Literal["ok", "unavailable"]
    problems: list[str] = []
    """What does not answer: ``storage``, ``database``."""


def install(application: FastAPI, *, with_metrics: bool) -> None:
    """Add the routes, each for GET and HEAD."""
    routes: list[tuple[str, Callable[..., Awaitable[object]], dict[str, Any]]] = [
        ("/livez", livez, {"response_model": Health}),
        ("/readyz", readyz, {"response_model": Health, "responses": {503: {"model": Health}}}),
    ]
    if with_metrics:
        text: dict[int, dict[str, Any]] = {200: {"content": {"text/plain": {}}}}
        routes.append(("/metrics", metrics, {"response_class": Response, "responses": text}))
    for path, answer, documented in routes:
        application.add_api_route(path, answer, methods=["GET"], tags=["operations"], **documented)
        application.add_api_route(path, answer, methods=["HEAD"], include_in_schema=False, **documented)


async def livez() -> Health:
    """Answer as long as the process runs; asks nothing of storage or database."""
    return Health(status="ok")


async def readyz(request: Request) -> Response:
    """Answer 200 when storage and database do, else 503 naming which does not. Needs no administrator's right."""
    edge: Edge = request.app.state.edge
    problems = await edge.run(_problems, edge.core)
    health = Health(status="unavailable" if problems else "ok", problems=problems)
    return JSONResponse(health.model_dump(), 503 if problems else 200)


async def metrics(request: Request) -> Response:
    """Prometheus metrics, the sum of all workers."""
    edge: Edge = request.app.state.edge
    watch = request.app.state.watch
    watch.flush_metrics()
    open_uploads = await edge.run(edge.core.uploads.count)
    watch.metrics.uploads_open.set(open_uploads)
    return Response(await edge.run(watch.metrics.render), headers={"Content-Type": CONTENT_TYPE})


def _problems(core: Core) -> list[str]:
    problems = []
    try:
        core.stores.driver.check()
    except StorageError as error:
        log.warning("storage does not answer", reason=str(error))
        problems.append("storage")
    try:
        core.uploads.count()
    except DatabaseError as error:
        log.warning("the database does not answer", reason=str(error))
        problems.append("database")
    return problems

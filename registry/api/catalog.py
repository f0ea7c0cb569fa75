"""``/v2/_catalog``: the repositories, a page at a time, in byte order (not in the specification; every client knows it)."""

from __future__ import annotations

import orjson
from fastapi import APIRouter
from starlette.requests import Request  # noqa: TC002 - FastAPI reads the annotation at run time
from starlette.responses import Response

from registry.api.edge import edge_of
from registry.api.listing import page_link
from registry.api.parameters import page_of

router = APIRouter()


@router.get("/v2/_catalog")
@router.head("/v2/_catalog")
async def catalog(request: Request) -> Response:
    """List the repositories."""
    edge = edge_of(request)
    page = page_of(request, edge.settings.limits.page_size)
    found = await edge.run(edge.core.repositories.page, last=page.last, count=page.size + 1)
    shown, link = page_link(edge, request, "/v2/_catalog", found, page.size)
    body = orjson.dumps({"repositories": shown})
    return Response(body, headers=link, media_type="application/json")

"""``/v2/_catalog``: the repositories, a page at a time, in byte order (not in the specification; clients know it)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson
from starlette.responses import Response

from registry.api.http.pagination import entries_of, page_link
from registry.api.http.parameters import page_of
from registry.api.http.routing import Route

if TYPE_CHECKING:
    from starlette.requests import Request

    from registry.api.context import ApiContext


async def catalog(context: ApiContext, request: Request) -> Response:
    """List the repositories."""
    page = page_of(request, context.settings.limits.page_size)
    found = await context.run(context.registry.repositories.page, last=page.last, count=entries_of(page.size) + 1)
    shown, link = page_link(context, request, "/v2/_catalog", found, page.size)
    body = orjson.dumps({"repositories": shown})
    return Response(body, headers=link, media_type="application/json")


routes = [
    Route("/v2/_catalog", catalog, methods=["GET", "HEAD"]),
]

"""end-8: listing tags (spec, "Listing Tags"), in byte order."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson
from starlette.responses import Response

from registry.api.cache.response_cache import CachedResponse, ResponseHeaders
from registry.api.http.pagination import entries_of, page_link
from registry.api.http.parameters import name_of, page_of
from registry.api.http.routing import Route

if TYPE_CHECKING:
    from starlette.requests import Request

    from registry.api.context import ApiContext

ROUTE = "/v2/{name:path}/tags/list"


async def tags(context: ApiContext, request: Request) -> Response:
    """List the tags of a repository, a page at a time."""
    name = name_of(request)
    page = page_of(request, context.settings.limits.page_size)
    mark = context.memory.mark()
    found, version = await context.run(
        context.registry.manifests.tags, name, last=page.last, count=entries_of(page.size) + 1
    )
    shown, link = page_link(context, request, f"/v2/{name}/tags/list", found, page.size)
    body = orjson.dumps({"name": name, "tags": shown})
    headers = {"Content-Type": "application/json", "Content-Length": str(len(body)), **link}
    if not link:
        answer = CachedResponse(name, version, ResponseHeaders(headers), body, ROUTE, None)
        context.memory.remember(request.scope["path"], request.scope["query_string"], answer, mark)
    return Response(body if request.method == "GET" else b"", headers=headers)


routes = [
    Route(ROUTE, tags, methods=["GET", "HEAD"]),
]

"""Tags: end-8, listing tags (spec, "Listing Tags"), in byte order.

Tests: ``tests/api/test_endpoints.py``.
"""

from __future__ import annotations

import orjson
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from registry.api.access import Action
from registry.api.cache.response_cache import CachedResponse, ResponseHeaders
from registry.api.http.operations import COUNT, LAST, NAME, TEXTS, json_object, operation
from registry.api.http.pagination import entries_of, page_link
from registry.api.http.parameters import name_of, page_of
from registry.api.http.routing import OciRoute, context_of
from registry.oci.errors import BadGateway, GatewayTimeout, NameInvalid, NameUnknown, PaginationInvalid

ROUTE = "/v2/{name:path}/tags/list"


ERRORS = (NameInvalid, NameUnknown, PaginationInvalid, BadGateway, GatewayTimeout)

router = APIRouter(route_class=OciRoute, tags=["Tags"])


@router.get(
    ROUTE,
    **operation(
        Action.PULL,
        NAME,
        COUNT,
        LAST,
        answers=(200,),
        errors=ERRORS,
        content=json_object(name={"type": "string"}, tags=TEXTS),
    ),
)
@router.head(ROUTE, **operation(Action.PULL, NAME, COUNT, LAST, answers=(200,), errors=ERRORS, head=True))
async def tags(request: Request) -> Response:
    """List the tags of a repository, a page at a time."""
    context = context_of(request)
    name = name_of(request)
    page = page_of(request, context.settings.limits.page_size)
    mirrored, last, count = context.mirrored(name), page.last, entries_of(page.size) + 1
    said: dict[str, str] = {}
    version: int | None = None
    if mirrored is not None and context.mirrors is not None:
        listed = await context.mirrors.tags(mirrored, last=last, count=count)
        found, said = listed.tags, listed.headers()
    else:
        found, version = await context.run(context.registry.manifests.tags, name, last=last, count=count)
    shown, link = page_link(context, request, f"/v2/{name}/tags/list", found, page.size)
    body = orjson.dumps({"name": name, "tags": shown})
    headers = {"Content-Type": "application/json", "Content-Length": str(len(body)), **link, **said}
    if not link and version is not None:
        context.cache.remember(request, CachedResponse(name, version, ResponseHeaders(headers), body, ROUTE))
    return Response(body if request.method == "GET" else b"", headers=headers)

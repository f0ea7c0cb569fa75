"""Catalog: ``/v2/_catalog``, the repositories page by page, in byte order (not specified; clients know it).

Tests: ``tests/api/test_endpoints.py``.
"""

from __future__ import annotations

import orjson
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from registry.api.access import Action
from registry.api.http.operations import COUNT, LAST, TEXTS, json_object, operation
from registry.api.http.pagination import entries_of, page_link
from registry.api.http.parameters import page_of
from registry.api.http.routing import OciRoute, context_of
from registry.oci.errors import PaginationInvalid

ERRORS = (PaginationInvalid,)

router = APIRouter(route_class=OciRoute, tags=["Catalog"])


@router.get(
    "/v2/_catalog",
    **operation(Action.CATALOG, COUNT, LAST, answers=(200,), errors=ERRORS, content=json_object(repositories=TEXTS)),
)
@router.head("/v2/_catalog", **operation(Action.CATALOG, COUNT, LAST, answers=(200,), errors=ERRORS, head=True))
async def catalog(request: Request) -> Response:
    """List the repositories."""
    context = context_of(request)
    page = page_of(request, context.settings.limits.page_size)
    found = await context.run(context.registry.repositories.page, last=page.last, count=entries_of(page.size) + 1)
    shown, link = page_link(context, request, "/v2/_catalog", found, page.size)
    body = orjson.dumps({"repositories": shown})
    return Response(body, headers=link, media_type="application/json")

"""end-1: whether this is a registry of the distribution specification."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import Response

from registry.api.http.routing import Route

if TYPE_CHECKING:
    from starlette.requests import Request

    from registry.api.context import ApiContext


async def base(_context: ApiContext, _request: Request) -> Response:
    """Answer 200: the specification is implemented."""
    return Response(b"{}", media_type="application/json")


routes = [
    Route("/v2", base, methods=["GET", "HEAD"]),
    Route("/v2/", base, methods=["GET", "HEAD"]),
]

"""Version: end-1, whether this is a registry of the distribution specification.

Tests: ``tests/api/test_endpoints.py``.
"""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from registry.api.access import Action
from registry.api.http.operations import json_object, operation
from registry.api.http.routing import OciRoute

router = APIRouter(route_class=OciRoute, tags=["Version"])


@router.get("/v2", **operation(Action.LOGIN, answers=(200,), content=json_object()))
@router.head("/v2", **operation(Action.LOGIN, answers=(200,), head=True))
@router.get("/v2/", **operation(Action.LOGIN, answers=(200,), content=json_object()))
@router.head("/v2/", **operation(Action.LOGIN, answers=(200,), head=True))
async def base(_request: Request) -> Response:
    """Answer 200: the specification is implemented."""
    return Response(b"{}", media_type="application/json")

"""end-1: whether this is a registry of the distribution specification."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request  # noqa: TC002 - FastAPI reads the annotation at run time
from starlette.responses import Response

router = APIRouter()


@router.api_route("/v2", methods=["GET", "HEAD"])
@router.api_route("/v2/", methods=["GET", "HEAD"])
async def base(_request: Request) -> Response:
    """Answer 200: the specification is implemented."""
    return Response(b"{}", media_type="application/json")

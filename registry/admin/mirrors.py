"""*Mirrors*: ``/api/v1/mirrors``: how each upstream does, and what of it is here, for administrators."""

from __future__ import annotations

from threading import BoundedSemaphore
from typing import TYPE_CHECKING, Any, Final

import orjson
from fastapi import APIRouter
from starlette.requests import Request  # noqa: TC002 - FastAPI reads the annotation at run time
from starlette.responses import Response

from registry.admin.routing import NOT_STORED, AdminRoute
from registry.api.access import Action, caller_of
from registry.api.http.operations import json_object, operation
from registry.api.http.routing import context_of
from registry.api.http.small_body import JSON
from registry.mirror.conditions import Condition, conditions
from registry.oci.errors import Denied, Unavailable

if TYPE_CHECKING:
    from registry.api.context import ApiContext

MIRRORS: Final = "/api/v1/mirrors"

_TEXT: Final = {"type": "string"}
_COUNT: Final = {"type": "integer", "minimum": 0}
_PROPERTIES: Final = {
    "name": _TEXT,
    "prefix": _TEXT,
    "upstreams": {"type": "array", "items": _TEXT},
    "state": {"enum": [str(each) for each in Condition]},
    "asked_in": {"type": "number", "minimum": 0},
    "remaining": {"type": ["integer", "null"]},
    "error": {"type": ["object", "null"], "properties": {"message": _TEXT, "at": _TEXT}},
    "repositories": _COUNT,
    "tags": _COUNT,
    "bytes": _COUNT,
    "fetches": _COUNT,
}
_ENTRY: Final = {"type": "object", "properties": _PROPERTIES, "required": list(_PROPERTIES)}
_turn: Final = BoundedSemaphore()
"""A process counts for one request at a time: a large mirror takes seconds."""

router = APIRouter(route_class=AdminRoute, tags=["Administration"])


@router.get(
    MIRRORS,
    **operation(Action.IDENTITY, answers=(200,), content=json_object(mirrors={"type": "array", "items": _ENTRY})),
)
async def mirrors(request: Request) -> Response:
    """Tell how the upstream of each mirror does, and how much of it is here. No upstream is asked."""
    context = context_of(request)
    rights = context.access.rights
    if rights is not None and not rights.is_admin(caller_of(request.scope).identity):
        raise Denied("the mirrors are shown to administrators: no rule allows admin in every repository")
    return Response(orjson.dumps(await context.run(_document, context)), headers=NOT_STORED, media_type=JSON)


def _document(context: ApiContext) -> dict[str, Any]:
    """Raises Unavailable while another request is counted for."""
    if not _turn.acquire(blocking=False):
        raise Unavailable("mirrors are being counted for another request; try again", headers={"Retry-After": "1"})
    try:
        found = conditions(context.registry.backends.database, context.settings.mirrors)
        return {"mirrors": [each.document() for each in found]}
    finally:
        _turn.release()

"""*Session*: ``/api/v1/session``, which tells a caller as which identity the registry knows it."""

from __future__ import annotations

from typing import Final

import orjson
from fastapi import APIRouter
from starlette.requests import Request  # noqa: TC002 - FastAPI reads the annotation at run time
from starlette.responses import Response

from registry.admin.routing import NOT_STORED, AdminRoute, find_session
from registry.api.access import Action, caller_of
from registry.api.http.operations import TEXTS, json_object, operation
from registry.api.http.routing import context_of
from registry.oci.errors import NotFound
from registry.oci.moment import to_text

CONTENT: Final = json_object(
    who={"type": "string"},
    kind={"type": "string"},
    groups=TEXTS,
    admin={"type": "boolean"},
    expires={"type": ["string", "null"], "format": "date-time"},
)

router = APIRouter(route_class=AdminRoute, tags=["Administration"])


@router.get("/api/v1/session", **operation(Action.IDENTITY, answers=(200,), errors=(NotFound,), content=CONTENT))
async def get(request: Request) -> Response:
    """Tell as which identity the caller is known, in which groups, and when the session of its browser ends."""
    context = context_of(request)
    rights = context.access.rights
    if context.authentication is None or rights is None:
        raise NotFound("this registry has no authentication: every caller may do everything")
    identity, session = caller_of(request.scope).identity, await find_session(request)
    document = {
        "who": identity.who,
        "kind": identity.kind,
        "groups": sorted(identity.groups),
        "admin": rights.is_admin(identity),
        "expires": None if session is None else to_text(session.expires),
    }
    return Response(orjson.dumps(document), headers=NOT_STORED, media_type="application/json")

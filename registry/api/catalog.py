"""Catalog: ``/v2/_catalog``, the repositories page by page, in byte order (not specified; clients know it)."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import orjson
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from registry.api.access import Action, caller_of
from registry.api.http.operations import COUNT, LAST, TEXTS, json_object, operation
from registry.api.http.pagination import entries_of, page_link
from registry.api.http.parameters import page_of
from registry.api.http.routing import OciRoute, context_of
from registry.oci.errors import PaginationInvalid

if TYPE_CHECKING:
    from registry.api.context import ApiContext
    from registry.auth.identity import Identity

ERRORS = (PaginationInvalid,)
BATCH = 1000
"""Names that are read at once, where a caller may not see all of them."""
END = "~"
"""A character behind all those of names."""

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
    find = partial(_visible, context, caller_of(request.scope).identity)
    found = await context.run(find, page.last, entries_of(page.size) + 1)
    shown, link = page_link(context, request, "/v2/_catalog", found, page.size)
    body = orjson.dumps({"repositories": shown})
    return Response(body, headers=link, media_type="application/json")


def _visible(context: ApiContext, identity: Identity, last: str, count: int) -> list[str]:
    """At most ``count`` names after ``last`` that the caller may pull, in byte order: a page is full if there are more.

    Names that begin with nothing that the rules allow it are not read.
    """
    rights, page = context.access.rights, context.registry.repositories.page
    if rights is None:
        return page(last=last, count=count)
    found: list[str] = []
    for prefix in rights.rules.prefixes(identity, Action.PULL):
        position, is_left = max(last, _before(prefix)), True
        while is_left and len(found) < count:
            names = page(last=position, count=BATCH)
            found += [name for name in names if name.startswith(prefix) and rights.may_see(identity, name)]
            is_left = len(names) == BATCH and names[-1] <= prefix + END
            position = names[-1] if names else position
    return found[:count]


def _before(prefix: str) -> str:
    """A text that comes before every name with that prefix, and behind every name that comes before these."""
    return prefix and prefix[:-1] + chr(ord(prefix[-1]) - 1) + END

"""*Usage*: ``/api/v1/repositories/{name}/usage`` and ``/api/v1/usage``: how many bytes repositories take.

Each caller is told of the repositories that it may pull from. What depends on other repositories, whose content a
caller could find out so, is for administrators: it is null for every other one.
"""

from __future__ import annotations

from functools import partial
from threading import BoundedSemaphore
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, TypeVar

import orjson
from fastapi import APIRouter
from starlette.requests import Request  # noqa: TC002 - FastAPI reads the annotation at run time
from starlette.responses import Response

from registry.admin.routing import NOT_STORED, AdminRoute
from registry.api.access import Action, caller_of
from registry.api.http.operations import COUNT, LAST, NAME, USED_DIGEST, USED_PREFIX, USED_TAG, json_object, operation
from registry.api.http.pagination import next_link
from registry.api.http.parameters import name_of, page_of
from registry.api.http.routing import context_of
from registry.api.http.small_body import JSON
from registry.maintenance.usage.range_usage import ALL, below
from registry.maintenance.usage.usage import Usage
from registry.oci.digest import Digest
from registry.oci.errors import (
    DigestInvalid,
    ManifestUnknown,
    NameInvalid,
    NameUnknown,
    PaginationInvalid,
    RequestInvalid,
    TagInvalid,
    Unavailable,
)
from registry.oci.name import parse_name
from registry.oci.tag import parse_tag

if TYPE_CHECKING:
    from collections.abc import Callable

    from registry.database.usage.holders import Range
    from registry.images.registry import Registry

USAGE: Final = "/api/v1/usage"
OF_REPOSITORY: Final = "/api/v1/repositories/{name:path}/usage"
SECONDS: Final = 5.0
"""Seconds after which a page ends with the repository that it is at."""
AT_ONCE: Final = 2
"""Requests that a process counts for at once: a large repository takes seconds."""

_BYTES: Final = {"type": "integer", "minimum": 0}
_FOR_ADMINISTRATORS: Final = {"type": ["integer", "null"], "description": "Null for a caller that is no administrator."}
_FIGURES: Final = {
    "repository": {"type": "string"},
    "logical": _BYTES,
    "stored": _BYTES,
    "own": _FOR_ADMINISTRATORS,
    "waiting": {
        "type": "object",
        "properties": {"unreferenced": _BYTES, "doomed": _BYTES, "trash": _BYTES},
        "required": ["unreferenced", "doomed", "trash"],
    },
    "quarantine": _BYTES,
    "dedupe": {"type": ["number", "null"]},
    "frees": _FOR_ADMINISTRATORS,
}
_ENTRY: Final = {"type": "object", "properties": _FIGURES, "required": list(_FIGURES)}
_OF_TAG: Final = json_object(
    repository={"type": "string"},
    tag={"type": ["string", "null"]},
    digest={"type": "string"},
    bytes=_BYTES,
    manifests=_BYTES,
    frees=_FOR_ADMINISTRATORS,
    kept_by={"type": "array", "items": {"type": "string"}},
)
_EITHER: Final = _OF_TAG._replace(schema={"anyOf": [_ENTRY, _OF_TAG.schema]})
_PAGE: Final = json_object(
    repositories={"type": "array", "items": _ENTRY},
    next={"type": ["string", "null"], "description": "The value of `last` for the next page; null if there is none."},
)

T = TypeVar("T")
_turns: Final = BoundedSemaphore(AT_ONCE)

router = APIRouter(route_class=AdminRoute, tags=["Administration"])


@router.get(
    OF_REPOSITORY,
    **operation(
        Action.PULL,
        NAME,
        USED_TAG,
        USED_DIGEST,
        answers=(200,),
        errors=(NameInvalid, NameUnknown, TagInvalid, DigestInvalid, ManifestUnknown, RequestInvalid),
        content=_EITHER,
    ),
)
async def of_repository(request: Request) -> Response:
    """Tell how many bytes a repository takes, or one of its tags or manifests, and what deleting it would free."""
    context, name = context_of(request), name_of(request)
    usage, knows_others = Usage(context.registry), _knows_others(request)
    tag, digest = request.query_params.get("tag"), request.query_params.get("digest")
    if tag is not None and digest is not None:
        raise RequestInvalid("it is a tag or a digest")
    if tag is None and digest is None:
        figures = await context.run(_in_turn, partial(usage.repository, name))
        return _json({"repository": name, **figures.document(knows_others=knows_others)})
    reference = Digest.parse(digest) if digest is not None else parse_tag(tag or "")
    found = await context.run(_in_turn, partial(usage.manifest, name, reference, tag))
    return _json(found.document(knows_others=knows_others))


@router.get(
    USAGE,
    **operation(
        Action.IDENTITY,
        USED_PREFIX,
        COUNT,
        LAST,
        answers=(200,),
        errors=(PaginationInvalid, NameInvalid),
        content=_PAGE,
    ),
)
async def usage(request: Request) -> Response:
    """Tell how many bytes each repository takes, or each below a prefix, in pages."""
    context = context_of(request)
    page = page_of(request, context.settings.limits.page_size)
    prefix = request.query_params.get("prefix")
    within = ALL if prefix is None else below(parse_name(prefix))
    count = partial(
        _page,
        context.registry,
        within,
        _visible(request),
        last=page.last,
        count=page.size,
        knows_others=_knows_others(request),
    )
    document = await context.run(_in_turn, count)
    following = document["next"]
    query = {"n": page.size, "last": following, **({} if prefix is None else {"prefix": prefix})}
    link = {} if following is None else next_link(context, request, USAGE, query)
    return Response(orjson.dumps(document), headers={**NOT_STORED, **link}, media_type=JSON)


def _in_turn(count: Callable[[], T]) -> T:
    """What ``count`` returns. Raises Unavailable while AT_ONCE further requests are counted for."""
    if not _turns.acquire(blocking=False):
        raise Unavailable("usage is being counted for other requests; try again", headers={"Retry-After": "1"})
    try:
        return count()
    finally:
        _turns.release()


def _knows_others(request: Request) -> bool:
    """Whether the caller may be told what depends on all repositories."""
    rights = context_of(request).access.rights
    return rights is None or rights.is_admin(caller_of(request.scope).identity)


def _visible(request: Request) -> Callable[[str], bool]:
    """Tells of which repositories the caller is told."""
    rights, identity = context_of(request).access.rights, caller_of(request.scope).identity
    return (lambda _name: True) if rights is None else (lambda name: rights.allows(identity, Action.PULL, name))


def _page(
    registry: Registry,
    within: Range,
    is_visible: Callable[[str], bool],
    *,
    last: str,
    count: int,
    knows_others: bool,
) -> dict[str, Any]:
    """The figures of at most ``count`` repositories after ``last``."""
    usage, deadline = Usage(registry), monotonic() + SECONDS
    found: list[dict[str, Any]] = []
    following: str | None = None
    for name, figures in usage.repositories(filter(is_visible, usage.names(within, last) if count else ())):
        found.append({"repository": name, **figures.document(knows_others=knows_others)})
        if len(found) >= count or monotonic() > deadline:
            following = name
            break
    return {"repositories": found, "next": following}


def _json(document: dict[str, Any]) -> Response:
    return Response(orjson.dumps(document), headers=NOT_STORED, media_type=JSON)

"""*Retention*: ``/api/v1/retention``, which tells administrators which tags rules keep and remove; nothing is changed.

Each caller is told of the repositories in which it has the right ``admin``, and of no other one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fastapi import APIRouter
from starlette.requests import Request  # noqa: TC002 - FastAPI reads the annotation at run time
from starlette.responses import Response

from registry.admin.retention_page import Position, RetentionPages
from registry.admin.routing import NOT_STORED, AdminRoute
from registry.api.access import Action, caller_of
from registry.api.http.operations import COUNT, LAST, REPOSITORY, TEXTS, Content, json_object, operation
from registry.api.http.pagination import next_link
from registry.api.http.parameters import page_of
from registry.api.http.routing import context_of
from registry.api.http.small_body import JSON, document_of
from registry.auth.rights import ADMIN
from registry.config.file import ConfigError
from registry.config.retention_sections import RetentionSettings, parse_retention
from registry.oci.errors import Denied, PaginationInvalid, RequestInvalid, RequestTimeout

if TYPE_CHECKING:
    from collections.abc import Callable

REPORT: Final = "/api/v1/retention/report"
PREVIEW: Final = "/api/v1/retention/preview"
MAX_BODY: Final = 256 << 10
"""Bytes of the rules of a preview."""
_TEXT: Final = {"type": "string"}
_TEXT_OR_NULL: Final = {"type": ["string", "null"]}
_ENTRY: Final = json_object(
    repository=_TEXT,
    tag=_TEXT,
    digest=_TEXT,
    action={"type": "string", "enum": ["keep", "remove"]},
    rule=_TEXT_OR_NULL,
    because=_TEXT,
    pushed_at=_TEXT_OR_NULL,
    pulled_at=_TEXT_OR_NULL,
    bytes={"type": "integer"},
)
DECIDED: Final = json_object(
    tags={"type": "array", "items": _ENTRY.schema},
    problems={**TEXTS, "description": "Repositories that a run leaves alone, each with the reason."},
    next={
        **_TEXT_OR_NULL,
        "description": "The value of `last` for the next page, a repository or a tag of one; null if there is none.",
    },
)
_RULES: Final = Content(
    JSON,
    {
        "type": "object",
        "properties": {"rules": {"type": "array", "items": {"type": "object"}}},
        "description": "A section `retention` of the configuration, or its `rules` alone.",
    },
)

router = APIRouter(route_class=AdminRoute, tags=["Administration"])


@router.get(
    REPORT,
    **operation(Action.IDENTITY, REPOSITORY, COUNT, LAST, answers=(200,), errors=(PaginationInvalid,), content=DECIDED),
)
async def report(request: Request) -> Response:
    """Tell which tags the rules of the settings keep and remove, and why."""
    return await _decided(request, REPORT, context_of(request).settings.retention)


@router.post(
    PREVIEW,
    **operation(
        Action.IDENTITY,
        REPOSITORY,
        COUNT,
        LAST,
        answers=(200,),
        errors=(PaginationInvalid, RequestInvalid, RequestTimeout),
        content=DECIDED,
        body=_RULES,
    ),
)
async def preview(request: Request) -> Response:
    """Tell which tags other rules, those in the body, would keep and remove; they are not stored."""
    _visible(request)
    try:
        retention = parse_retention(await document_of(request, MAX_BODY))
    except ConfigError as error:
        raise RequestInvalid(str(error)) from error
    return await _decided(request, PREVIEW, retention)


async def _decided(request: Request, path: str, retention: RetentionSettings) -> Response:
    """A page; it may end within a repository."""
    context, is_visible = context_of(request), _visible(request)
    page = page_of(request, context.settings.limits.page_size)
    only = request.query_params.get("repository", "")
    pages = RetentionPages(context.registry, retention, is_visible, only=only)
    found = await context.run(pages.read, Position.parse(page.last), page.size)
    link = {}
    if found.last is not None:
        query: dict[str, str | int] = {"n": page.size, "last": str(found.last)}
        link = next_link(context, request, path, query | ({"repository": only} if only else {}))
    return Response(found.document, headers={**NOT_STORED, **link}, media_type=JSON)


def _visible(request: Request) -> Callable[[str], bool]:
    """Tells of which repositories the caller is told. Raises Denied for one that is told of none."""
    rights, identity = context_of(request).access.rights, caller_of(request.scope).identity
    if rights is None:
        return lambda _name: True
    if not rights.rules.prefixes(identity, ADMIN):
        raise Denied("retention is for administrators: no rule allows admin in any repository")
    return lambda name: rights.allows(identity, ADMIN, name)

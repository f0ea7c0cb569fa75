"""*History*: ``/api/v1/repositories/{name}/history`` and ``/restore``: what happened, and undoing it."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import orjson
from fastapi import APIRouter
from starlette.requests import Request  # noqa: TC002 - FastAPI reads the annotation at run time
from starlette.responses import Response

from registry.admin.routing import NOT_STORED, AdminRoute
from registry.api.access import Action, caller_of
from registry.api.http.operations import BEFORE, COUNT, NAME, SHOWN_TAG, TEXTS, Content, json_object, operation
from registry.api.http.pagination import next_link
from registry.api.http.parameters import name_of, page_of
from registry.api.http.routing import context_of
from registry.api.http.small_body import JSON, document_of
from registry.images.records import change_history
from registry.oci.change_reference import ChangeReference
from registry.oci.digest import Digest
from registry.oci.errors import (
    DigestInvalid,
    ManifestUnknown,
    NameInvalid,
    NameUnknown,
    PaginationInvalid,
    RequestInvalid,
    RequestTimeout,
    TagInvalid,
)
from registry.oci.tag import parse_tag

if TYPE_CHECKING:
    from collections.abc import Mapping

HISTORY: Final = "/api/v1/repositories/{name:path}/history"
RESTORE: Final = "/api/v1/repositories/{name:path}/restore"
PAGE: Final = 100
"""Changes of a page, where the caller does not say."""
SECONDS: Final = 5.0
"""Seconds after which a page ends: the changes of one tag may be far apart, and each record may be an object."""
MOST_BYTES: Final = 2 << 20
"""Bytes of changes after which a page ends likewise: one deletion may name thousands of tags."""
MAX_BODY: Final = 4 << 10

NOTHING: Final[Mapping[str, str]] = MappingProxyType({})

_TEXT: Final = {"type": "string"}
CHANGES: Final = json_object(
    repository=_TEXT,
    changes={
        "type": "array",
        "items": {
            "type": "object",
            "properties": {
                "change": {"type": "integer"},
                "time": _TEXT,
                "actor": _TEXT,
                "operation": _TEXT,
                "digest": {"type": ["string", "null"]},
                "tags": TEXTS,
                "before": {"type": "object", "additionalProperties": _TEXT},
            },
        },
    },
    next={
        "type": ["integer", "null"],
        "description": "The value of `before` for the next page, null if there is none; this one may be empty.",
    },
)
RESTORED: Final = json_object(
    repository=_TEXT,
    restored={"type": "array", "items": {"type": "object", "properties": {"digest": _TEXT, "tags": TEXTS}}},
)
WANTED: Final = Content(
    JSON,
    {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "tag": {**_TEXT, "description": "A tag that becomes what it was."},
            "change": {"type": "integer", "description": "With a tag: the change after which it was that."},
            "digest": {**_TEXT, "description": "A manifest that comes back without a tag."},
        },
    },
)

router = APIRouter(route_class=AdminRoute, tags=["Administration"])


@router.get(
    HISTORY,
    **operation(
        Action.PULL,
        NAME,
        SHOWN_TAG,
        BEFORE,
        COUNT,
        answers=(200,),
        errors=(NameInvalid, NameUnknown, TagInvalid, PaginationInvalid, RequestInvalid),
        content=CHANGES,
    ),
)
async def history(request: Request) -> Response:
    """List what happened to a repository or a tag, the last first."""
    context, name = context_of(request), name_of(request)
    tag, before = request.query_params.get("tag"), request.query_params.get("before")
    if tag is not None:
        parse_tag(tag)
    if before is not None and not (before.isascii() and before.isdecimal()):
        raise RequestInvalid("before is no number of a change")
    count = page_of(request, PAGE).size
    limit = None if before is None else int(before[:18])
    found = await context.run(
        context.registry.change_history.page,
        name,
        tag,
        before=limit,
        count=count,
        seconds=SECONDS,
        most_bytes=MOST_BYTES,
    )
    changes = [change_history.document_of(each, tag) for each in found.records]
    link: Mapping[str, str] = NOTHING
    if found.before is not None:
        query: dict[str, str | int] = {"n": count, "before": found.before} | ({} if tag is None else {"tag": tag})
        link = next_link(context, request, HISTORY.replace("{name:path}", name), query)
    return _json({"repository": name, "changes": changes, "next": found.before}, link)


@router.post(
    RESTORE,
    **operation(
        Action.PUSH,
        NAME,
        answers=(200,),
        errors=(NameInvalid, NameUnknown, TagInvalid, DigestInvalid, ManifestUnknown, RequestInvalid, RequestTimeout),
        content=RESTORED,
        body=WANTED,
    ),
)
async def restore(request: Request) -> Response:
    """Bring back what was deleted or overwritten: all of the last deletion, a tag, or a manifest."""
    context, name = context_of(request), name_of(request)
    wanted = _wanted(name, await document_of(request, MAX_BODY))
    caller = caller_of(request.scope)
    restored = await context.run(
        context.registry.restoration.restore, wanted, actor=caller.actor, address=caller.actor_address
    )
    shown = [{"digest": each.digest, "tags": list(each.tags)} for each in restored]
    return _json({"repository": name, "restored": shown})


def _wanted(name: str, document: Mapping[str, object]) -> ChangeReference:
    """Raises RequestInvalid, TagInvalid, DigestInvalid."""
    tag, change, digest = (document.get(member) for member in ("tag", "change", "digest"))
    if document.keys() - {"tag", "change", "digest"}:
        raise RequestInvalid("a request to restore has tag, change and digest, and nothing else")
    if (tag is not None and digest is not None) or (change is not None and tag is None):
        raise RequestInvalid("it is a tag, perhaps with a change, or a digest")
    if not (tag is None or isinstance(tag, str)) or not (digest is None or isinstance(digest, str)):
        raise RequestInvalid("tag and digest are texts")
    if change is not None and (type(change) is not int or not 0 < change < 1 << 63):
        raise RequestInvalid("change is the number of a change")
    return ChangeReference(
        name,
        None if tag is None else parse_tag(tag),
        change if isinstance(change, int) else None,
        None if digest is None else Digest.parse(digest),
    )


def _json(document: Mapping[str, object], headers: Mapping[str, str] = NOTHING) -> Response:
    return Response(orjson.dumps(document), headers={**NOT_STORED, **headers}, media_type="application/json")

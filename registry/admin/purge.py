"""*Purge*: ``/api/v1/repositories/{name}/purge``: content goes for good, for administrators of its repository.

What other repositories have is named as far as the caller may pull from these.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import orjson
from fastapi import APIRouter
from starlette.requests import Request  # noqa: TC002 - FastAPI reads the annotation at run time
from starlette.responses import Response

from registry.admin.routing import NOT_STORED, AdminRoute
from registry.api.access import Action, caller_of
from registry.api.http.operations import NAME, TEXTS, Content, json_object, operation
from registry.api.http.parameters import name_of
from registry.api.http.routing import context_of
from registry.api.http.small_body import JSON, document_of
from registry.auth.rights import ADMIN, PULL
from registry.maintenance.collection.survey.survey import Survey
from registry.observability.audit import Event
from registry.oci.digest import Digest
from registry.oci.errors import (
    Denied,
    DigestInvalid,
    ManifestUnknown,
    NameInvalid,
    NameUnknown,
    RequestInvalid,
    RequestTimeout,
    TagImmutable,
    Unsupported,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

PURGE: Final = "/api/v1/repositories/{name:path}/purge"
MAX_BODY: Final = 4 << 10
_FLAGS: Final = ("everywhere", "dry_run")

_TEXT: Final = {"type": "string"}
_KEPT: Final = json_object(digest=_TEXT, because=_TEXT, repositories=TEXTS, manifests=TEXTS).schema
PURGED: Final = json_object(
    repository=_TEXT,
    digest=_TEXT,
    repositories={**TEXTS, "description": "Those that lose something."},
    tags={**TEXTS, "description": "The tags that go, as REPO:TAG."},
    manifests=TEXTS,
    removed={**TEXTS, "description": "Blobs of which storage has nothing more."},
    bytes={"type": "integer"},
    objects={**TEXTS, "description": "The keys of the files or objects that go."},
    kept={"type": "array", "items": _KEPT},
    unreachable=TEXTS,
    unfinished={**TEXTS, "description": "What the same request has to be sent again for."},
    signed_urls={"type": "integer", "description": "Seconds for which an address in the store may still be good."},
)
WANTED: Final = Content(
    JSON,
    {
        "type": "object",
        "additionalProperties": False,
        "required": ["digest"],
        "properties": {
            "digest": {**_TEXT, "description": "A manifest, or a blob that no manifest of the repository names."},
            "everywhere": {
                "type": "boolean",
                "description": "Also from each other repository that has it; for administrators of all of them.",
            },
            "dry_run": {"type": "boolean", "description": "Change nothing, and answer what would come of it."},
        },
    },
)

router = APIRouter(route_class=AdminRoute, tags=["Administration"])


@router.post(
    PURGE,
    **operation(
        Action.IDENTITY,
        NAME,
        answers=(200,),
        errors=(
            NameInvalid,
            NameUnknown,
            DigestInvalid,
            ManifestUnknown,
            RequestInvalid,
            RequestTimeout,
            TagImmutable,
            Unsupported,
        ),
        content=PURGED,
        body=WANTED,
    ),
)
async def purge(request: Request) -> Response:
    """Remove a manifest or a blob for good, past the trash: it cannot be restored."""
    context, name = context_of(request), name_of(request)
    caller, rights = caller_of(request.scope), context.access.rights
    digest, everywhere, dry_run = _wanted(await document_of(request, MAX_BODY))
    if rights is not None and not rights.allows(caller.identity, ADMIN, name):
        raise Denied(f"a purge of {name} needs the action admin there")
    if rights is not None and everywhere and not rights.is_admin(caller.identity):
        raise Denied("a purge everywhere needs the action admin in every repository")
    unknown = Survey(context.registry, dry=dry_run).unknown
    if dry_run:
        done = await context.run(context.registry.purge.preview, name, digest, unknown=unknown, everywhere=everywhere)
    else:
        context.audit.note(request.scope, Event.PURGE, repository=name, digest=digest, everywhere=everywhere or None)
        done = await context.run(
            context.registry.purge.run,
            name,
            digest,
            actor=caller.actor,
            unknown=unknown,
            address=caller.actor_address,
            everywhere=everywhere,
        )
    storage = context.settings.storage
    document = done.document(signed_urls=storage.redirect_expiry if storage.redirect != "off" else 0)
    if rights is not None:
        for kept in document["kept"]:
            kept["repositories"] = [each for each in kept["repositories"] if rights.allows(caller.identity, PULL, each)]
    return Response(orjson.dumps(document), headers=NOT_STORED, media_type=JSON)


def _wanted(document: Mapping[str, Any]) -> tuple[Digest, bool, bool]:
    """The digest, whether everywhere, and whether nothing is to be changed. Raises RequestInvalid, DigestInvalid."""
    digest, flags = document.get("digest"), [document.get(name, False) for name in _FLAGS]
    is_known = not document.keys() - {"digest", *_FLAGS} and all(type(flag) is bool for flag in flags)
    if not isinstance(digest, str) or not is_known:
        raise RequestInvalid(f"a request to purge has a digest, perhaps {' and '.join(_FLAGS)} (true or false)")
    everywhere, dry_run = flags
    return Digest.parse(digest), everywhere, dry_run

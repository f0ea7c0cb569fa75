"""Manifests: end-3, 7, 9 (spec, "Pulling manifests", "Pushing Manifests", "Deleting").

Tests: ``tests/api/test_endpoints.py``.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from registry.api.access import Action, caller_of
from registry.api.cache.response_cache import CachedResponse, ResponseHeaders
from registry.api.http.blob_response import BlobResponse
from registry.api.http.conditional import is_not_modified, unmodified
from registry.api.http.empty_response import EmptyResponse
from registry.api.http.fields import field
from registry.api.http.manifest_body import with_manifest
from registry.api.http.operations import ANY, NAME, REFERENCE, TAG, Content, operation
from registry.api.http.parameters import name_of, query_of, reference_of
from registry.api.http.routing import OciRoute, context_of
from registry.observability.audit import Event
from registry.oci.digest import Digest
from registry.oci.errors import (
    BadGateway,
    DigestInvalid,
    GatewayTimeout,
    InsufficientStorage,
    ManifestBlobUnknown,
    ManifestInvalid,
    ManifestTooLarge,
    ManifestUnknown,
    NameInvalid,
    NameUnknown,
    RequestTimeout,
    SizeInvalid,
    TagImmutable,
    TagInvalid,
    Unsupported,
)
from registry.oci.ranges import ByteRange
from registry.oci.tag import parse_tag

if TYPE_CHECKING:
    from registry.api.context import ApiContext
    from registry.images.manifest_store import FoundManifest
    from registry.images.manifests import PutManifest
    from registry.mirror.mirrored_manifest import MirroredManifest
    from registry.storage.driver import ObjectReader

ROUTE = "/v2/{name:path}/manifests/{reference}"
LARGE = 1 << 20
"""Bytes from which on a manifest is sent as a blob is, and never whole in memory."""
MAX_TAGS = 100
"""``tag`` parameters of one request (spec: at least 10)."""


DELETE_ERRORS = (NameInvalid, TagInvalid, DigestInvalid, NameUnknown, ManifestUnknown, Unsupported, TagImmutable)
PUSH_ERRORS = (
    NameInvalid,
    TagInvalid,
    DigestInvalid,
    SizeInvalid,
    ManifestInvalid,
    ManifestBlobUnknown,
    ManifestTooLarge,
    NameUnknown,
    Unsupported,
    RequestTimeout,
    InsufficientStorage,
    TagImmutable,
)
READ_ERRORS = (
    NameInvalid,
    TagInvalid,
    DigestInvalid,
    NameUnknown,
    ManifestUnknown,
    BadGateway,
    GatewayTimeout,
)

router = APIRouter(route_class=OciRoute, tags=["Manifests"])


@router.get(
    ROUTE, **operation(Action.PULL, NAME, REFERENCE, answers=(200, 304), errors=READ_ERRORS, content=Content(ANY))
)
@router.head(ROUTE, **operation(Action.PULL, NAME, REFERENCE, answers=(200, 304), errors=READ_ERRORS, head=True))
async def get(request: Request) -> Response:
    """Send the manifest exactly as it was pushed, under the digest and media type that it was pushed with (I5).

    HEAD leases it, where the caller may push (I7).
    """
    context = context_of(request)
    name, reference = name_of(request), reference_of(request)
    for_a_push = request.method == "HEAD" and context.access.may(caller_of(request.scope), Action.PUSH, name)
    mirrored = context.mirrored(name)
    if mirrored is not None and context.mirrors is not None:
        served = await context.mirrors.manifest(mirrored, reference)
        found, body, reader = await context.run(_read, context, served.found)
    else:
        served = None
        found, body, reader = await context.run(_find_and_read, context, name, reference, for_a_push=for_a_push)
    headers = _headers(found)
    remembered = CachedResponse(
        name,
        found.version,
        ResponseHeaders(headers if served is None else headers | served.kept_headers()),
        body,
        ROUTE,
        found.digest,
        key=found.key,
        size=found.size,
        leased_until=found.leased_until,
        pull=context.registry.pulls.pulled(name, found.digest),
    )
    if served is None:
        context.cache.remember(request, remembered)
    else:
        headers |= served.headers()
        if served.fresh_for > 0:
            context.cache.remember(request, _while_fresh(remembered, served))
    unchanged = is_not_modified(request, found.digest)
    if reader is not None:
        if request.method == "GET" and not unchanged:
            return BlobResponse(context, reader, ByteRange(0, found.size - 1), 200, headers)
        await context.end(reader.close)
    if unchanged:
        return Response(status_code=304, headers=unmodified(headers))
    return Response(body if request.method == "GET" else b"", headers=headers)


@router.put(ROUTE, **operation(Action.PUSH, NAME, REFERENCE, TAG, answers=(201,), errors=PUSH_ERRORS, body=ANY))
async def put(request: Request) -> Response:
    """Store a manifest by tag, or by digest with any number of ``tag`` parameters (end-7b)."""
    context = context_of(request)
    name, reference = name_of(request), reference_of(request)
    tags = [parse_tag(tag) for tag in query_of(request).get("tag", ())]
    digest = reference if isinstance(reference, Digest) else None
    if digest is None:
        if tags:
            raise TagInvalid("tag parameters go with a digest in the path")
        tags = [str(reference)]
    if len(tags) > MAX_TAGS:
        raise TagInvalid(f"at most {MAX_TAGS} tags at once")
    content_type = field(request, "content-type")
    caller = caller_of(request.scope)

    def store(body: bytes) -> PutManifest:
        done = context.registry.manifests.put(
            name, body, content_type, digest=digest, tags=tags, actor=caller.actor, address=caller.actor_address
        )
        context.audit.note_put(request.scope, name, done.digest, tags, done.old)
        return done

    done = await with_manifest(context, request, name, store)
    headers = {
        "Location": context.urls.url(request, f"/v2/{name}/manifests/{done.digest}"),
        "Docker-Content-Digest": done.digest,
    }
    if digest is not None and tags:
        headers["OCI-Tag"] = ", ".join(tags)
    if done.subject is not None:
        headers["OCI-Subject"] = done.subject
    return EmptyResponse(201, headers)


@router.delete(ROUTE, **operation(Action.DELETE, NAME, REFERENCE, answers=(202,), errors=DELETE_ERRORS))
async def delete(request: Request) -> Response:
    """Remove a tag, or a manifest and every tag that points at it."""
    context = context_of(request)
    name, reference = name_of(request), reference_of(request)
    caller = caller_of(request.scope)
    actor, address, of = caller.actor, caller.actor_address, context.registry.manifests

    def remove() -> None:
        if isinstance(reference, Digest):
            removed = of.delete(name, reference, actor=actor, address=address)
            context.audit.note_removal(request.scope, Event.DELETE, name, reference, [*removed.tags] if removed else [])
        else:
            untagged = of.untag(name, reference, actor=actor, address=address)
            digest = untagged.tags[reference] if untagged else ""
            context.audit.note_removal(request.scope, Event.UNTAG, name, digest, [reference])

    await context.run(remove)
    return EmptyResponse(202, {})


class _Read(NamedTuple):
    """A manifest for GET."""

    found: FoundManifest
    body: bytes | None = None
    reader: ObjectReader | None = None
    """In place of the body of a large one: how slowly a client reads is no matter of memory."""


def _find_and_read(context: ApiContext, name: str, reference: Digest | str, *, for_a_push: bool) -> _Read:
    return _read(context, context.registry.manifests.find(name, reference, for_a_push=for_a_push))


def _read(context: ApiContext, found: FoundManifest) -> _Read:
    if found.size > LARGE:
        return _Read(found, reader=context.registry.manifests.open(found))
    return _Read(found, context.registry.manifests.read(found))


def _while_fresh(answer: CachedResponse, served: MirroredManifest) -> CachedResponse:
    """What memory gives for as long as the upstream need not be asked."""
    now = time.monotonic()
    return replace(answer, until=now + served.fresh_for, asked_at=None if served.age is None else now - served.age)


def _headers(found: FoundManifest) -> dict[str, str]:
    return {
        "Content-Type": found.media_type,
        "Content-Length": str(found.size),
        "Docker-Content-Digest": found.digest,
        "ETag": f'"{found.digest}"',
    }

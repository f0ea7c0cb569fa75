"""Blobs: end-2, end-10, pulling and deleting blobs (spec, "Pulling blobs", "Deleting Blobs").

Tests: ``tests/api/test_endpoints.py``, ``tests/api/test_ranges.py``.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, NamedTuple

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from registry.api.access import Action, caller_of
from registry.api.cache.response_cache import CachedResponse, Redirect, ResponseHeaders
from registry.api.http.blob_response import BlobResponse, MultipartResponse
from registry.api.http.conditional import is_not_modified, ranges_apply, unmodified
from registry.api.http.fields import field
from registry.api.http.operations import BYTES, DIGEST, NAME, RANGE, Content, operation
from registry.api.http.parameters import digest_of, name_of
from registry.api.http.routing import OciRoute, context_of
from registry.api.mirroring import mirrored_blobs
from registry.images.verification import WrongBytes
from registry.observability.audit import Event
from registry.oci.errors import (
    BadGateway,
    BlobUnknown,
    DigestInvalid,
    GatewayTimeout,
    NameInvalid,
    NameUnknown,
    RangeInvalid,
    Unavailable,
    Unsupported,
)
from registry.oci.ranges import parse_range

if TYPE_CHECKING:
    from registry.api.context import ApiContext
    from registry.images.blobs import HeldBlob
    from registry.oci.digest import Digest

ROUTE = "/v2/{name:path}/blobs/{digest}"

PLACES = 5
"""Places with wrong bytes that one request goes on from: nothing was sent yet."""
SMALL = 64 << 10
"""Bytes up to which a blob is read in one piece and may be kept in memory: configs, and layers of artifacts."""


DELETE_ERRORS = (NameInvalid, DigestInvalid, NameUnknown, BlobUnknown, Unsupported)
HEAD_ERRORS = (NameInvalid, DigestInvalid, NameUnknown, BlobUnknown, BadGateway, GatewayTimeout)
READ_ERRORS = (*HEAD_ERRORS, RangeInvalid)

router = APIRouter(route_class=OciRoute, tags=["Blobs"])


@router.head(ROUTE, **operation(Action.PULL, NAME, DIGEST, answers=(200, 304), errors=HEAD_ERRORS, head=True))
async def head(request: Request) -> Response:
    """Say that the blob is here; it is then leased, where the caller may push (I7)."""
    context = context_of(request)
    name, digest = name_of(request), digest_of(request)
    may_push = context.access.may(caller_of(request.scope), Action.PUSH, name)
    mirrored = context.mirrored(name)
    try:
        blob = await context.run(context.registry.blobs.find, name, digest, for_a_push=may_push and mirrored is None)
    except (BlobUnknown, NameUnknown):
        if mirrored is None:
            raise
        return await mirrored_blobs.head(context, request, mirrored, digest)
    headers = _headers(context, name, blob)
    _remember(context, request, name, blob)
    if is_not_modified(request, digest):
        return Response(status_code=304, headers=unmodified(headers))
    return Response(headers=headers)


@router.get(
    ROUTE,
    **operation(
        Action.PULL, NAME, DIGEST, RANGE, answers=(200, 206, 304, 307), errors=READ_ERRORS, content=Content(BYTES)
    ),
)
async def get(request: Request) -> Response:
    """Send the blob, or the ranges asked for (RFC 9110, section 14)."""
    context = context_of(request)
    name, digest = name_of(request), digest_of(request)
    redirected = context.redirects.wanted(name, caller_of(request.scope))
    opened = await _open_or_bring(context, request, name, digest, redirected=redirected)
    if isinstance(opened, Response):
        return opened
    blob, body, address = opened
    if address is not None:
        return _redirect(context, request, name, blob, address)
    headers = _headers(context, name, blob)
    if body is not None:
        _remember(context, request, name, blob, body=body)
    if is_not_modified(request, digest):
        await _prove(context, name, blob, body)
        return Response(status_code=304, headers=unmodified(headers))
    try:
        wanted = parse_range(field(request, "range"), blob.size) if ranges_apply(request, digest) else None
    except RangeInvalid:
        await _prove(context, name, blob, body)
        raise
    if wanted is None and body is not None:
        return Response(body, headers=headers)
    if wanted is None or len(wanted) == 1:
        return await BlobResponse.open(context, blob, headers, None if wanted is None else wanted[0])
    return await MultipartResponse.open(context, blob, headers, wanted)


@router.delete(ROUTE, **operation(Action.DELETE, NAME, DIGEST, answers=(202,), errors=DELETE_ERRORS))
async def delete(request: Request) -> Response:
    """End the blob's membership in this repository."""
    context = context_of(request)
    name, digest = name_of(request), digest_of(request)

    def remove() -> None:
        context.registry.blobs.delete(name, digest)
        context.audit.note(request.scope, Event.DELETE, repository=name, digest=digest)

    await context.run(remove)
    return Response(status_code=202)


async def _prove(context: ApiContext, name: str, blob: HeldBlob, body: bytes | None) -> None:
    """Look for bytes that were not read, before an answer without them says that they are here (I6)."""
    if body is None:
        await context.run(context.registry.blobs.find, name, blob.digest)


def _redirect(context: ApiContext, request: Request, name: str, blob: HeldBlob, address: str) -> Response:
    """Send the client to the store, which knows about ranges too."""
    headers = {
        "Location": address,
        "Docker-Content-Digest": blob.digest,
        "Cache-Control": "no-store",  # the address is valid for a while only
        "Content-Length": "0",
    }
    elsewhere = Redirect(ResponseHeaders(headers), time.monotonic() + context.redirects.again_seconds)
    _remember(context, request, name, blob, elsewhere=elsewhere)
    context.audit.note(request.scope, Event.REDIRECT, repository=name, digest=blob.digest)
    return Response(status_code=307, headers=headers)


class _Opened(NamedTuple):
    """A blob for GET."""

    blob: HeldBlob
    body: bytes | None = None
    """Its bytes, where they are few and its client is not sent away."""
    address: str | None = None
    """Where its client is sent for them."""


async def _open_or_bring(
    context: ApiContext, request: Request, name: str, digest: Digest, *, redirected: bool
) -> _Opened | Response:
    """The blob, or the answer that has it on its way, where a mirror brings it. Raises RegistryError."""
    try:
        return await context.run(_open, context, name, digest, redirected=redirected)
    except (BlobUnknown, NameUnknown):
        mirrored = context.mirrored(name)
        if mirrored is None:
            raise
    coming = await mirrored_blobs.get(context, request, mirrored, digest)
    if coming is not None:
        return coming
    return await context.run(_open, context, name, digest, redirected=redirected)


def _open(context: ApiContext, name: str, digest: Digest, *, redirected: bool) -> _Opened:
    """In a thread. An unverified blob is hashed while it is served: its client is not redirected (I6)."""
    for _ in range(PLACES):
        blob = context.registry.blobs.open(name, digest)
        if redirected and blob.is_verified:
            return _Opened(blob, address=context.redirects.address(blob.key))
        if blob.size > SMALL:
            return _Opened(blob)
        with contextlib.suppress(WrongBytes), context.registry.blobs.read(blob) as reader:
            body = reader.read(SMALL + 1)
            if len(body) != blob.size:
                raise BlobUnknown
            return _Opened(blob, body)
    raise Unavailable(headers={"Retry-After": "1"})


def _remember(
    context: ApiContext,
    request: Request,
    name: str,
    blob: HeldBlob,
    *,
    body: bytes | None = None,
    elsewhere: Redirect | None = None,
) -> None:
    answer = CachedResponse(
        name,
        blob.version,
        ResponseHeaders(_headers(context, name, blob)),
        body,
        ROUTE,
        blob.digest,
        key=blob.key,
        size=blob.size,
        leased_until=blob.leased_until,
        is_of_a_blob=True,
        elsewhere=elsewhere,
    )
    context.cache.remember(request, answer)


def _headers(context: ApiContext, name: str, blob: HeldBlob) -> dict[str, str]:
    source = {} if context.mirrored(name) is None else {"X-Artifact-Source": "cache"}
    return source | {
        "Content-Type": "application/octet-stream",
        "Content-Length": str(blob.size),
        "Docker-Content-Digest": blob.digest,
        "ETag": f'"{blob.digest}"',
        "Accept-Ranges": "bytes",
        "Cache-Control": "max-age=31536000, immutable",
    }

"""end-2, end-10: pulling and deleting blobs (spec, "Pulling blobs", "Deleting Blobs")."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import APIRouter
from starlette.requests import Request  # noqa: TC002 - FastAPI reads the annotation at run time
from starlette.responses import Response

from registry.api.edge import edge_of
from registry.api.parameters import digest_of, name_of
from registry.api.reads import Answer
from registry.api.sending import BlobResponse, MultipartResponse
from registry.api.validators import is_not_modified, ranges_apply
from registry.oci.ranges import parse_range

if TYPE_CHECKING:
    from registry.images.blobs import HeldBlob

ROUTE = "/v2/{name:path}/blobs/{digest}"

router = APIRouter()


@router.head(ROUTE)
async def head(request: Request) -> Response:
    """Say that the blob is here; it is then leased (I7)."""
    edge, name, digest = edge_of(request), name_of(request), digest_of(request)
    mark = edge.memory.mark()
    blob = await edge.run(edge.core.blobs.find, name, digest)
    headers = _headers(blob)
    raw = [(key.lower().encode(), value.encode()) for key, value in headers.items()]
    answer = Answer(
        name,
        blob.version,
        raw,
        None,
        ROUTE,
        f'"{digest}"'.encode(),
        digest,
        key=blob.key,
        size=blob.size,
        leased_until=blob.leased_until,
    )
    edge.memory.remember(request.scope["path"], request.scope["query_string"], answer, mark)
    if is_not_modified(request, digest):
        return Response(status_code=304, headers=_unmodified(headers))
    return Response(headers=headers)


@router.get(ROUTE)
async def get(request: Request) -> Response:
    """Send the blob, or the ranges asked for (RFC 9110, section 14)."""
    edge, name, digest = edge_of(request), name_of(request), digest_of(request)
    blob = await edge.run(edge.core.blobs.open, name, digest)
    headers = _headers(blob)
    if is_not_modified(request, digest):
        return Response(status_code=304, headers=_unmodified(headers))
    wanted = parse_range(request.headers.get("range"), blob.size) if ranges_apply(request, digest) else None
    if wanted is None:
        return await BlobResponse.open(edge, blob, headers)
    if len(wanted) == 1:
        return await BlobResponse.open(edge, blob, headers, wanted[0])
    return await MultipartResponse.open(edge, blob, headers, wanted)


@router.delete(ROUTE)
async def delete(request: Request) -> Response:
    """End the blob's membership in this repository."""
    edge, name, digest = edge_of(request), name_of(request), digest_of(request)
    await edge.run(edge.core.blobs.delete, name, digest)
    return Response(status_code=202)


def _headers(blob: HeldBlob) -> dict[str, str]:
    return {
        "Content-Type": "application/octet-stream",
        "Content-Length": str(blob.size),
        "Docker-Content-Digest": blob.digest,
        "ETag": f'"{blob.digest}"',
        "Accept-Ranges": "bytes",
        "Cache-Control": "max-age=31536000, immutable",
    }


def _unmodified(headers: dict[str, str]) -> dict[str, str]:
    return {key: value for key, value in headers.items() if not key.startswith("Content-")}



"""*Mirrored blobs*: what clients are answered that ask a mirror for a blob which is not here yet.

Tests: ``tests/api/mirroring/test_mirror_edge.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import Response

from registry.api.http.conditional import is_not_modified, ranges_apply, unmodified
from registry.api.http.fields import field
from registry.api.mirroring.growing_response import GrowingResponse
from registry.oci.errors import RangeInvalid
from registry.oci.ranges import ByteRange, parse_range

if TYPE_CHECKING:
    from starlette.requests import Request

    from registry.api.context import ApiContext
    from registry.api.mirroring.mirror_edge import MirrorEdge
    from registry.mirror.names import MirroredName
    from registry.oci.digest import Digest


async def head(context: ApiContext, request: Request, name: MirroredName, digest: Digest) -> Response:
    """Say that the upstream has it, and how many bytes, where it tells that. Raises RegistryError."""
    size = await _edge(context).blob_size(name, digest)
    headers = _headers(digest) | ({} if size is None else {"Content-Length": str(size)})
    if is_not_modified(request, digest):
        return Response(status_code=304, headers=unmodified(headers))
    answer = Response(headers=headers)
    if size is None:
        del answer.headers["content-length"]  # of its empty body: it would be that of the blob
    return answer


async def get(context: ApiContext, request: Request, name: MirroredName, digest: Digest) -> Response | None:
    """The blob on its way, or one range of it; None if it is here by now. Raises RegistryError.

    The answer to several ranges is the whole blob, as any server may give it (RFC 9110, section 14.2).
    """
    if is_not_modified(request, digest):
        await _edge(context).blob_size(name, digest)
        return Response(status_code=304, headers=unmodified(_headers(digest)))
    coming = await _edge(context).blob(name, digest)
    if coming is None:
        return None
    reader, size = coming
    headers = _headers(digest)
    try:
        wanted = parse_range(field(request, "range"), size) if ranges_apply(request, digest) else None
    except RangeInvalid:
        await context.end(reader.close)
        raise
    if wanted is None or len(wanted) != 1:
        part = ByteRange(0, size - 1)
        return GrowingResponse(context, reader, part, 200, headers | {"Content-Length": str(size)})
    (part,) = wanted
    reader.want(part.start, part.start + part.length)
    ranged = {"Content-Length": str(part.length), "Content-Range": part.content_range(size)}
    return GrowingResponse(context, reader, part, 206, headers | ranged)


def _edge(context: ApiContext) -> MirrorEdge:
    assert context.mirrors is not None  # noqa: S101 - a repository is of one of them
    return context.mirrors


def _headers(digest: Digest) -> dict[str, str]:
    return {
        "Content-Type": "application/octet-stream",
        "Docker-Content-Digest": digest,
        "ETag": f'"{digest}"',
        "Accept-Ranges": "bytes",
        "Cache-Control": "max-age=31536000, immutable",
        "X-Artifact-Source": "remote",
    }

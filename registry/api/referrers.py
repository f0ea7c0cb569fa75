"""end-12: referrers (spec, "Listing Referrers"): never 404, an empty index for what nothing refers to."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from starlette.responses import Response

from registry.api.cache.response_cache import CachedResponse, ResponseHeaders
from registry.api.http.pagination import PAGE_BYTES, next_link
from registry.api.http.parameters import digest_of, name_of, page_of
from registry.api.http.routing import Route
from registry.oci.media_types import OCI_INDEX

if TYPE_CHECKING:
    from starlette.requests import Request

    from registry.api.context import ApiContext
    from registry.api.http.parameters import Page
    from registry.oci.digest import Digest

ROUTE = "/v2/{name:path}/referrers/{digest}"


async def referrers(context: ApiContext, request: Request) -> Response:
    """List the manifests whose subject is this digest, filtered by artifact type where asked."""
    name, subject = name_of(request), digest_of(request)
    page = page_of(request, context.settings.limits.page_size)
    artifact_type = request.query_params.get("artifactType") or None
    mark = context.memory.mark()
    listed = await context.run(_list, context, name, subject, artifact_type, page)
    headers = {"Content-Type": OCI_INDEX, "Content-Length": str(len(listed.body))}
    if artifact_type is not None:
        headers["OCI-Filters-Applied"] = "artifactType"
    if listed.after is not None:
        parameters: dict[str, str | int] = {"n": page.size, "last": listed.after}
        if artifact_type is not None:
            parameters["artifactType"] = artifact_type
        headers |= next_link(context, request, f"/v2/{name}/referrers/{subject}", parameters)
    elif listed.version is not None:
        answer = CachedResponse(name, listed.version, ResponseHeaders(headers), listed.body, ROUTE, None)
        context.memory.remember(request.scope["path"], request.scope["query_string"], answer, mark)
    return Response(listed.body if request.method == "GET" else b"", headers=headers)


class _Listed(NamedTuple):
    """A page as it is sent."""

    body: bytes
    after: str | None
    """Where the next page begins; None if there is none."""
    version: int | None
    """Of the repository; None where it does not exist."""


def _list(context: ApiContext, name: str, subject: Digest, artifact_type: str | None, page: Page) -> _Listed:
    """In a thread: the body is put together here too."""
    found, version = context.registry.manifests.referrers(
        name, subject, artifact_type=artifact_type, last=page.last, count=page.size, max_bytes=PAGE_BYTES
    )
    body = b'{"schemaVersion":2,"mediaType":"%s","manifests":[%s]}' % (
        OCI_INDEX.encode(),
        b",".join(found.descriptors),
    )
    return _Listed(body, found.last if found.more and found.descriptors else None, version)


routes = [
    Route(ROUTE, referrers, methods=["GET", "HEAD"]),
]

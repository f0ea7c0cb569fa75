"""Referrers: end-12 (spec, "Listing Referrers"): never 404, but an empty index if there are none.

Tests: ``tests/api/test_endpoints.py``, ``tests/api/http/test_pagination.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from registry.api.access import Action
from registry.api.cache.response_cache import CachedResponse, ResponseHeaders
from registry.api.http.operations import ARTIFACT_TYPE, COUNT, DIGEST, LAST, NAME, json_object, operation
from registry.api.http.pagination import PAGE_BYTES, next_link
from registry.api.http.parameters import digest_of, name_of, page_of
from registry.api.http.routing import OciRoute, context_of
from registry.images.referrers import Wanted
from registry.oci.errors import DigestInvalid, NameInvalid, PaginationInvalid
from registry.oci.media_types import OCI_INDEX

if TYPE_CHECKING:
    from registry.api.context import ApiContext
    from registry.images.referrers import Referrers
    from registry.oci.digest import Digest

ROUTE = "/v2/{name:path}/referrers/{digest}"


ERRORS = (NameInvalid, DigestInvalid, PaginationInvalid)

INDEX = json_object(
    OCI_INDEX,
    schemaVersion={"const": 2},
    mediaType={"const": OCI_INDEX},
    manifests={"type": "array", "items": {"type": "object"}},
)

router = APIRouter(route_class=OciRoute, tags=["Referrers"])


@router.get(
    ROUTE,
    **operation(Action.PULL, NAME, DIGEST, ARTIFACT_TYPE, COUNT, LAST, answers=(200,), errors=ERRORS, content=INDEX),
)
@router.head(
    ROUTE, **operation(Action.PULL, NAME, DIGEST, ARTIFACT_TYPE, COUNT, LAST, answers=(200,), errors=ERRORS, head=True)
)
async def referrers(request: Request) -> Response:
    """List the manifests whose subject is this digest, filtered by artifact type where asked."""
    context = context_of(request)
    name, subject = name_of(request), digest_of(request)
    page = page_of(request, context.settings.limits.page_size)
    artifact_type = request.query_params.get("artifactType") or None
    wanted = Wanted(artifact_type, page.last, page.size, PAGE_BYTES)
    mirrored = context.mirrored(name)
    if mirrored is not None and context.mirrors is not None:
        found = await context.mirrors.referrers(mirrored, subject, wanted)
        listed, said = _listed(found.found, None), found.headers()
    else:
        listed, said = await context.run(_list, context, name, subject, wanted), {}
    headers = {"Content-Type": OCI_INDEX, "Content-Length": str(len(listed.body)), **said}
    if artifact_type is not None:
        headers["OCI-Filters-Applied"] = "artifactType"
    if listed.after is not None:
        parameters: dict[str, str | int] = {"n": page.size, "last": listed.after}
        if artifact_type is not None:
            parameters["artifactType"] = artifact_type
        headers |= next_link(context, request, f"/v2/{name}/referrers/{subject}", parameters)
    elif listed.version is not None:
        context.cache.remember(
            request, CachedResponse(name, listed.version, ResponseHeaders(headers), listed.body, ROUTE)
        )
    return Response(listed.body if request.method == "GET" else b"", headers=headers)


class _Listed(NamedTuple):
    """A page as it is sent."""

    body: bytes
    after: str | None
    """Where the next page begins; None if there is none."""
    version: int | None
    """The version of the repository; None if that does not exist, or is of a mirror."""


def _list(context: ApiContext, name: str, subject: Digest, wanted: Wanted) -> _Listed:
    """In a thread: the body is put together here too."""
    return _listed(*context.registry.manifests.referrers(name, subject, wanted))


def _listed(found: Referrers, version: int | None) -> _Listed:
    body = b'{"schemaVersion":2,"mediaType":"%s","manifests":[%s]}' % (
        OCI_INDEX.encode(),
        b",".join(found.descriptors),
    )
    return _Listed(body, found.last if found.more and found.descriptors else None, version)

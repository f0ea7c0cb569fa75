"""end-12: referrers (spec, "Listing Referrers"): never 404, an empty index for what nothing refers to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson
from starlette.responses import Response

from registry.api.listing import next_link
from registry.api.parameters import digest_of, name_of, page_of
from registry.api.reads import Answer, Head
from registry.api.route import Route
from registry.oci.media_types import OCI_INDEX

if TYPE_CHECKING:
    from starlette.requests import Request

    from registry.api.edge import Edge
    from registry.database.manifests import ReferrerRow

ROUTE = "/v2/{name:path}/referrers/{digest}"


async def referrers(edge: Edge, request: Request) -> Response:
    """List the manifests whose subject is this digest, filtered by artifact type where asked."""
    name, subject = name_of(request), digest_of(request)
    page = page_of(request, edge.settings.limits.page_size)
    artifact_type = request.query_params.get("artifactType") or None
    mark = edge.memory.mark()
    found, version = await edge.run(
        edge.core.manifests.referrers,
        name,
        subject,
        artifact_type=artifact_type,
        last=page.last,
        count=page.size + 1,
    )
    shown = found[: page.size]
    headers = {"Content-Type": OCI_INDEX}
    if artifact_type is not None:
        headers["OCI-Filters-Applied"] = "artifactType"
    if shown and len(found) > page.size:
        parameters: dict[str, str | int] = {"n": page.size, "last": shown[-1].digest}
        if artifact_type is not None:
            parameters["artifactType"] = artifact_type
        headers |= next_link(edge, request, f"/v2/{name}/referrers/{subject}", parameters)
    body = _index(shown)
    headers["Content-Length"] = str(len(body))
    if version is not None and "Link" not in headers:
        answer = Answer(name, version, Head(headers), body, ROUTE, None)
        edge.memory.remember(request.scope["path"], request.scope["query_string"], answer, mark)
    return Response(body if request.method == "GET" else b"", headers=headers)


def _index(found: list[ReferrerRow]) -> bytes:
    return orjson.dumps(
        {
            "schemaVersion": 2,
            "mediaType": OCI_INDEX,
            "manifests": [_descriptor(row) for row in found],
        }
    )


def _descriptor(row: ReferrerRow) -> dict[str, object]:
    descriptor: dict[str, object] = {"mediaType": row.media_type, "digest": row.digest, "size": row.size}
    if row.artifact_type is not None:
        descriptor["artifactType"] = row.artifact_type
    annotations = orjson.loads(row.annotations)
    if annotations:
        descriptor["annotations"] = annotations
    return descriptor


routes = [
    Route(ROUTE, referrers, methods=["GET", "HEAD"]),
]

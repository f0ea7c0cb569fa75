"""Operations: what the OpenAPI document says about each endpoint of the OCI API.

Tests: ``tests/hostile/test_openapi.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pydantic import BaseModel
from starlette.responses import Response

from registry.api.http.routing import ACTION
from registry.oci.errors import Denied, MalformedRequest, Unauthorized, Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from registry.api.access import Action
    from registry.oci.errors import RegistryError


class Content(NamedTuple):
    """What a successful answer has."""

    media_type: str
    schema: Mapping[str, object] = {"type": "string", "format": "binary"}
    """JSON Schema of its body."""


def json_object(media_type: str = "application/json", **properties: Mapping[str, object]) -> Content:
    """A JSON object with these properties, each of which it has."""
    return Content(media_type, {"type": "object", "properties": properties, "required": list(properties)})


class OciError(BaseModel):
    """One error (spec, "Error Codes")."""

    code: str
    message: str = ""
    detail: Any = None


class OciErrors(BaseModel):
    """The body of every answer from 400 on."""

    errors: list[OciError]


def _parameter(name: str, place: str, description: str, schema: Mapping[str, object] | None = None) -> dict[str, Any]:
    return {
        "name": name,
        "in": place,
        "required": place == "path",
        "description": description,
        "schema": {"type": "string", **(schema or {})},
    }


NAME: Final = _parameter("name", "path", "Name of the repository; it may contain slashes.")
REFERENCE: Final = _parameter("reference", "path", "Tag or digest of the manifest.")
DIGEST: Final = _parameter("digest", "path", "Digest, as `sha256:` and 64 hex digits.")
UPLOAD: Final = _parameter("upload", "path", "Identifier of the upload session: the Location of POST has it.")
REPOSITORY: Final = _parameter("repository", "query", "Only this repository.")
COUNT: Final = _parameter("n", "query", "Entries of the page at most.", {"type": "integer", "minimum": 0})
LAST: Final = _parameter("last", "query", "The page begins after this value, which need not exist.")
ARTIFACT_TYPE: Final = _parameter("artifactType", "query", "Only referrers of this type.")
CLOSING_DIGEST: Final = _parameter("digest", "query", "Digest of the whole blob, which is then published.")
MOUNT: Final = _parameter("mount", "query", "Digest of a blob that another repository has.")
SOURCE: Final = _parameter("from", "query", "The repository to mount from; without it any that has the blob.")
ALGORITHM: Final = _parameter("digest-algorithm", "query", "Algorithm of the digest that will close the session.")
TAG: Final = _parameter("tag", "query", "A tag for a manifest that is pushed by digest; may be repeated.")
SHOWN_TAG: Final = _parameter("tag", "query", "Only changes of this tag.")
BEFORE: Final = _parameter("before", "query", "Only changes with a smaller number.", {"type": "integer", "minimum": 0})
USED_TAG: Final = _parameter("tag", "query", "Only this tag, with all that its manifest needs.")
USED_DIGEST: Final = _parameter("digest", "query", "Only this manifest, with all that it needs.")
USED_PREFIX: Final = _parameter("prefix", "query", "Only repositories below this name: `team` is for `team/app`.")
SERVICE: Final = _parameter("service", "query", "Service, as the challenge names it.")
SCOPE: Final = _parameter("scope", "query", "`repository:NAME:ACTIONS`; repeated, or several with spaces between.")
ACCOUNT: Final = _parameter("account", "query", "Name of the account; the Authorization header is what counts.")
CLIENT: Final = _parameter("client_id", "query", "Name of the client.")
OFFLINE: Final = _parameter("offline_token", "query", "`true` asks for a refresh token too.")
KEY: Final = _parameter("key", "path", "Id of an API key, in 16 hex digits.")
ALL_KEYS: Final = _parameter("all", "query", "`true` lists the keys of all users, for administrators.")
CONTENT_RANGE: Final = _parameter("Content-Range", "header", "First and last byte of the chunk, as `0-1023`.")
RANGE: Final = _parameter("Range", "header", "Ranges of bytes (RFC 9110, section 14).")

ANY: Final = "*/*"
"""Media type of a manifest: the one that it was pushed with."""
BYTES: Final = "application/octet-stream"
TEXTS: Final = {"type": "array", "items": {"type": "string"}}
"""JSON Schema of a list of names."""

NEEDS_NOTHING: Final = "none"
"""The action of an endpoint that is for every caller."""
_STATUS: Final[Mapping[int, str]] = {
    200: "OK",
    201: "Created: it is durable and visible. Location says where.",
    202: "Accepted",
    204: "No content",
    206: "The ranges asked for",
    304: "Not modified",
    307: "The store has the bytes: Location is a signed address.",
}


def operation(
    action: Action,
    *parameters: Mapping[str, object],
    answers: tuple[int, ...],
    errors: Iterable[type[RegistryError]] = (),
    content: Content | None = None,
    body: str | Content | None = None,
    head: bool = False,
) -> dict[str, Any]:
    """The options of a route's decorator.

    ``answers`` are the statuses without an error, ``errors`` what the endpoint raises beside Unavailable and what
    refuses a caller. ``content`` is what a 200, 201 or 206 has, ``body`` what the request has, or its media type. With
    ``head`` no answer has a body.
    """
    refusing = (Unavailable,) if action == NEEDS_NOTHING else (MalformedRequest, Unauthorized, Denied, Unavailable)
    extra: dict[str, Any] = {ACTION: str(action), "parameters": list(parameters)}
    if body is not None:
        sent = Content(body) if isinstance(body, str) else body
        extra["requestBody"] = {"content": {sent.media_type: {"schema": dict(sent.schema)}}}
    return {
        "openapi_extra": extra,
        "status_code": answers[0],
        "response_class": Response,
        "response_model": None,
        "responses": {status: _answer(status, None if head else content) for status in answers}
        | _refusals(dict.fromkeys((*errors, *refusing)), head=head),
    }


def _answer(status: int, content: Content | None) -> dict[str, Any]:
    described: dict[str, Any] = {"description": _STATUS[status]}
    if content is not None and status in {200, 201, 206}:
        described["content"] = {content.media_type: {"schema": dict(content.schema)}}
    return described


def _refusals(errors: Iterable[type[RegistryError]], *, head: bool) -> dict[int | str, dict[str, Any]]:
    """The errors by their status: what each code means."""
    lines: dict[int, list[str]] = {}
    for error in errors:
        lines.setdefault(error.status, []).append(f"`{error.code}`: {error.default}")
    return {
        status: {"description": "; ".join(said)} | ({} if head else {"model": OciErrors})
        for status, said in sorted(lines.items())
    }

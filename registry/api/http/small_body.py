"""*Small body*: a form or a document of a request, which is read as a whole, within a bound and a time.

Tests: ``tests/api/test_token.py``, ``tests/admin/test_keys.py``.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs

from registry.api.http.request_body import Body, Interrupted
from registry.api.http.routing import context_of
from registry.oci import strict_json
from registry.oci.errors import RequestInvalid

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from starlette.requests import Request

FORM: Final = "application/x-www-form-urlencoded"
JSON: Final = "application/json"
MAX_FIELDS: Final = 1000


async def form_of(request: Request, most: int) -> Mapping[str, Sequence[str]]:
    """The fields of a form of at most so many bytes. Raises RequestInvalid, and Interrupted: see ``_read``."""
    body = await _read(request, FORM, most)
    try:
        return parse_qs(body.decode(), keep_blank_values=True, max_num_fields=MAX_FIELDS, errors="strict")
    except ValueError as error:  # too many fields, or no UTF-8
        raise RequestInvalid("the form cannot be read") from error


async def document_of(request: Request, most: int) -> dict[str, Any]:
    """The JSON object in a body of at most so many bytes. Raises as ``form_of``."""
    body = await _read(request, JSON, most)
    try:
        document = strict_json.loads(body)
    except strict_json.StrictJSONError as error:
        raise RequestInvalid(f"the body is no JSON: {error}") from error
    if not isinstance(document, dict):
        raise RequestInvalid("the body is no object of JSON")
    return document


async def _read(request: Request, media_type: str, most: int) -> bytes:
    """The body. Raises Interrupted when it does not arrive in the time that one without a byte may take."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != media_type:
        raise RequestInvalid(f"the Content-Type is not {media_type}")
    seconds = context_of(request).settings.http.idle_timeout
    body = Body(request, seconds)
    try:
        async with asyncio.timeout(seconds):
            await body.gather(most + 1)
    except TimeoutError as error:
        raise Interrupted(timed_out=True) from error
    if body.gathered > most:
        raise RequestInvalid(f"the body has more than {most} bytes", headers={"Connection": "close"})
    return body.take()

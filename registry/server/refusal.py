"""Refusal: the answer to what never becomes a request of the application, after which its connection ends.

Tests: ``tests/hostile/test_framing.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

if TYPE_CHECKING:
    from registry.api.cache.response_cache import RawHeaders
    from registry.oci.errors import RegistryError


def render(error: RegistryError, headers: RawHeaders, *, is_head: bool = False) -> bytes:
    """The answer of HTTP/1.1 that an error is, with further headers. ``is_head``: without the body."""
    body = orjson.dumps(error.body())
    lines = [
        *headers,
        *((name.lower().encode(), value.encode()) for name, value in error.headers.items()),
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
    ]
    head = STATUS_LINE[error.status] + b"".join([name + b": " + value + b"\r\n" for name, value in lines]) + b"\r\n"
    return head if is_head else head + body

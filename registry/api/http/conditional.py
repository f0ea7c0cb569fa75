"""Conditional requests: content is named by its digest, which is the strong validator (RFC 9110, section 13).

Tests: ``tests/api/test_ranges.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry.api.http.fields import field

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request

    from registry.oci.digest import Digest


def is_not_modified(request: Request, digest: Digest) -> bool:
    """Whether If-None-Match names what the client would get."""
    return matches(field(request, "if-none-match"), digest)


def ranges_apply(request: Request, digest: Digest) -> bool:
    """Whether a Range header counts: without If-Range, or with one that names this very content."""
    condition = field(request, "if-range")
    return condition is None or condition.strip() == f'"{digest}"'


def unmodified(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers of 304 in place of an answer with these (RFC 9110, section 15.4.5)."""
    return {name: value for name, value in headers.items() if not name.startswith("Content-")}


def matches(header: str | None, digest: str) -> bool:
    """Whether a list of entity tags, weak or not, names ``digest``."""
    if header is None:
        return False
    tags = [tag.strip().removeprefix("W/") for tag in header.split(",")]
    return "*" in tags or f'"{digest}"' in tags

"""*Fields*: headers of a request as RFC 9110 reads them, section 5.3: all lines of one name are one value.

Tests: ``tests/api/http/test_forwarding.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlette.requests import Request


def field(request: Request, name: str) -> str | None:
    """The value of a header, its lines joined; None if there is none.

    A header that can have one value and comes twice is thus one that nothing understands, never one of the two: a proxy
    in front may have looked at the other.
    """
    lines = request.headers.getlist(name)
    return ", ".join(lines) if lines else None


def members(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> list[str]:
    """The members of a list header, over all its lines and in their order, without empty ones (section 5.6.1).

    ``name`` is in lower case, as the names of ``headers`` are.
    """
    lines = [value for key, value in headers if key == name]
    if not lines:
        return []
    return [member for part in b",".join(lines).decode("latin-1").split(",") if (member := part.strip(" \t"))]

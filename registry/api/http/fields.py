"""*Fields*: headers of a request as RFC 9110 reads them, section 5.3: all lines of one name are one value.

Tests: ``tests/api/http/test_forwarding.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from starlette.requests import Request
    from starlette.types import Scope

_FIRST_LINES: Final = "registry.first_lines"


def first_lines(scope: Scope) -> Mapping[bytes, bytes]:
    """The first value of each header of a request, by its name in lower case; made once."""
    lines: dict[bytes, bytes] | None = scope.get(_FIRST_LINES)
    if lines is None:
        lines = scope[_FIRST_LINES] = dict(reversed(scope["headers"]))
    return lines


def field(request: Request, name: str) -> str | None:
    """The value of a header, its lines joined; None if there is none. ``name`` is in lower case.

    A header that can have one value and comes twice is thus one that nothing understands, never one of the two: a proxy
    in front may have looked at the other.
    """
    wanted = name.encode("latin-1")
    if wanted not in first_lines(request.scope):
        return None
    lines = [value for key, value in request.scope["headers"] if key == wanted]
    return b", ".join(lines).decode("latin-1")


def members(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> list[str]:
    """The members of a list header, over all its lines and in their order, without empty ones (section 5.6.1).

    ``name`` is in lower case, as the names of ``headers`` are.
    """
    lines = [value for key, value in headers if key == name]
    if not lines:
        return []
    return [member for part in b",".join(lines).decode("latin-1").split(",") if (member := part.strip(" \t"))]

"""Pages of lists: one more entry is read than is shown, and tells whether there is a next page."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlencode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.requests import Request

    from registry.api.edge import Edge


def next_link(edge: Edge, request: Request, path: str, parameters: dict[str, str | int]) -> dict[str, str]:
    """The Link header of a page that is not the last (RFC 8288)."""
    return {"Link": f'<{edge.locations.url(request, f"{path}?{urlencode(parameters)}")}>; rel="next"'}


def page_link(
    edge: Edge, request: Request, path: str, found: Sequence[str], count: int
) -> tuple[Sequence[str], dict[str, str]]:
    """What of ``found`` (read with ``count + 1``) the page shows, and its Link header."""
    if count == 0 or len(found) <= count:
        return found[:count], {}
    shown = found[:count]
    return shown, next_link(edge, request, path, {"n": count, "last": shown[-1]})

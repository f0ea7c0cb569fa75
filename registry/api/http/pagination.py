"""Pages of lists, bounded in entries and in bytes: one more entry is read than is shown, and tells of a next page."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

from registry.api.http.urls import ASKED_PATH

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.requests import Request

    from registry.api.context import ApiContext

PAGE_BYTES = 1 << 20
"""Bytes of the entries of a page."""
MOST_ENTRIES = 10_000
"""Entries of a page, whatever ``limits.page_size`` says: they are objects in memory before they are bytes."""


def next_link(context: ApiContext, request: Request, path: str, parameters: dict[str, str | int]) -> dict[str, str]:
    """The Link header of a page that is not the last (RFC 8288): by the name under which the client has asked."""
    asked: str | None = request.scope.get(ASKED_PATH)
    path = path if asked is None else quote(asked)
    return {"Link": f'<{context.urls.url(request, f"{path}?{urlencode(parameters)}")}>; rel="next"'}


def entries_of(size: int) -> int:
    """How many entries a page of ``size`` has at most."""
    return min(size, MOST_ENTRIES)


def page_link(
    context: ApiContext, request: Request, path: str, found: Sequence[str], count: int
) -> tuple[Sequence[str], dict[str, str]]:
    """What of ``found`` (read with ``entries_of(count) + 1``) the page shows, and its Link header."""
    shown = _fitting(found[: entries_of(count)])
    if not shown or len(found) <= len(shown):
        return shown, {}
    return shown, next_link(context, request, path, {"n": count, "last": shown[-1]})


def _fitting(entries: Sequence[str]) -> Sequence[str]:
    """Those from the first that fit into PAGE_BYTES: names and tags, which are ASCII that JSON writes as it is."""
    size = 0
    for position, entry in enumerate(entries):
        size += len(entry) + len('"",')
        if size > PAGE_BYTES:
            return entries[:position]
    return entries

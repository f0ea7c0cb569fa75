"""*Remote tags*: the tags of a repository of an upstream, whole, sorted and small in memory."""

from __future__ import annotations

import threading
from array import array
from bisect import bisect_right
from typing import TYPE_CHECKING, Final

import orjson

from registry.mirror.remote_pages import Bounds, RemotePages
from registry.oci.tag import is_tag
from registry.upstream.errors import AnswerInvalid

if TYPE_CHECKING:
    from collections.abc import Iterable

    from registry.mirror.patient_upstream import PagesAsked

MOST: Final = 100_000
"""Tags of a repository."""
BOUNDS: Final = Bounds(32 << 20, 2000, 60.0)
_PER_PAGE: Final = 1000
"""Tags that a page is asked for; upstreams give fewer, or all of them."""
_VALUES: Final = 500_000
"""Values of the JSON of a page, in which some upstreams describe each manifest too; each is an object in memory."""


class TagList:
    """Tags in byte order. Immutable: one text, of which each tag is a piece."""

    def __init__(self, tags: Iterable[str]) -> None:
        found = sorted(set(tags))
        self._text = "".join(found)
        self._ends = array("I")
        end = 0
        for tag in found:
            end += len(tag)
            self._ends.append(end)

    def __len__(self) -> int:
        return len(self._ends)

    @property
    def size(self) -> int:
        """Bytes that it takes in memory, roughly."""
        return len(self._text) + self._ends.itemsize * len(self._ends)

    def after(self, last: str, count: int) -> list[str]:
        """At most ``count`` tags behind ``last``; all of them come behind an empty text."""
        start = bisect_right(range(len(self)), last, key=self._at)
        return [self._at(place) for place in range(start, min(start + count, len(self)))]

    def _at(self, place: int) -> str:
        return self._text[self._ends[place - 1] if place else 0 : self._ends[place]]


class RemoteTags:
    """Those of one upstream. Any thread."""

    def __init__(self, upstream: PagesAsked, *, bounds: Bounds = BOUNDS, most: int = MOST) -> None:
        self._pages = RemotePages(upstream)
        self._bounds = bounds
        self._most = most

    def list(self, name: str, *, first: float | None = None) -> TagList:
        """The tags of a repository, whatever the order and size of the upstream's pages; for ``first`` see ``walk``.

        What no client could ask for is left out. Raises UpstreamError; a list that is not whole is an error.
        """
        path, scope = f"/v2/{name}/tags/list?n={_PER_PAGE}", f"repository:{name}:pull"
        found: set[str] = set()
        for page in self._pages.walk(path, scope=scope, accept="application/json", bounds=self._bounds, first=first):
            found.update(tag for tag in _tags(page.body, page.host) if is_tag(tag))
            if len(found) > self._most:
                raise AnswerInvalid(f"{page.host}: {name} has more than {self._most} tags")
        return TagList(found)


_decoding = threading.Lock()
"""One page at a time is objects in memory."""


def _tags(body: bytes, host: str) -> list[str]:
    """Raises AnswerInvalid."""
    if sum(map(body.count, (b",", b"[", b"{"))) > _VALUES:
        raise AnswerInvalid(f"{host}: a page of tags has more than {_VALUES} values")
    try:
        with _decoding:
            document = orjson.loads(body)
            tags = document.get("tags") if isinstance(document, dict) else document
            if tags is None:  # as one of the clients writes an empty list
                return []
            if isinstance(document, dict) and isinstance(tags, list):
                return [tag for tag in tags if isinstance(tag, str)]
    except orjson.JSONDecodeError:
        pass
    raise AnswerInvalid(f"{host}: a page of tags is no list of tags")

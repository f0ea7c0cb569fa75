"""*Remote referrers*: what an upstream lists as attached to a manifest, small in memory."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import orjson

from registry.mirror.remote_pages import Bounds, RemotePages
from registry.oci.descriptor import Descriptor
from registry.oci.errors import ManifestInvalid
from registry.oci.media_types import OCI_INDEX
from registry.oci.strict_json import StrictJSONError, loads
from registry.upstream.errors import AnswerInvalid, UpstreamStatus

if TYPE_CHECKING:
    from registry.mirror.patient_upstream import PagesAsked
    from registry.oci.digest import Digest

MOST: Final = 10_000
"""Referrers of a subject."""
BOUNDS: Final = Bounds(4 << 20, 100, 30.0)
_UNSUPPORTED: Final = frozenset({400, 404, 405, 406, 410})
"""Answers of servers that keep no referrers, as clients take them."""


class Listed(NamedTuple):
    """A referrer."""

    digest: str
    artifact_type: str | None
    descriptor: bytes
    """A JSON object."""


class RemoteReferrers:
    """Those of one upstream. Any thread."""

    def __init__(self, upstream: PagesAsked, *, bounds: Bounds = BOUNDS, most: int = MOST) -> None:
        self._pages = RemotePages(upstream)
        self._bounds = bounds
        self._most = most

    def list(self, name: str, subject: Digest, *, first: float | None = None) -> list[Listed] | None:
        """The referrers by digest; None if the upstream lists none at all, so that clients look for a tag of theirs.

        For ``first`` see ``walk``. Raises UpstreamError; a list that is not whole is an error.
        """
        path, scope = f"/v2/{name}/referrers/{subject}", f"repository:{name}:pull"
        found: dict[str, Listed] = {}
        try:
            for page in self._pages.walk(path, scope=scope, accept=OCI_INDEX, bounds=self._bounds, first=first):
                if page.media_type != OCI_INDEX:
                    return None
                found.update((each.digest, each) for each in listed_in(page.body, page.host))
                if len(found) > self._most:
                    raise AnswerInvalid(f"{page.host}: {subject} has more than {self._most} referrers")
        except UpstreamStatus as error:
            if error.status in _UNSUPPORTED:
                return None
            raise
        return sorted(found.values())


_decoding = threading.Lock()
"""One index at a time is objects in memory."""


def listed_in(body: bytes, host: str) -> list[Listed]:
    """The entries of an index, whose fields that a list of referrers has are kept. An entry without them is left out.

    Raises AnswerInvalid, which names ``host``.
    """
    with _decoding:
        entries: object = None
        with contextlib.suppress(StrictJSONError):
            document = loads(body)
            if isinstance(document, dict):
                entries = [] if document.get("manifests") is None else document["manifests"]
        if not isinstance(entries, list):
            raise AnswerInvalid(f"{host}: a list of referrers is no index")
        return [listed for entry in entries if (listed := _listed(entry)) is not None]


def _listed(entry: Any) -> Listed | None:  # noqa: ANN401 - decoded JSON
    try:
        descriptor = Descriptor.from_json(entry)
    except ManifestInvalid:
        return None
    document = descriptor.to_json()
    document.pop("urls", None)
    return Listed(str(descriptor.digest), descriptor.artifact_type, orjson.dumps(document))

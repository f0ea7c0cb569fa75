"""Parameters: values of path and query, checked before any other use.

Tests: ``tests/api/test_uploads.py``.
"""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import parse_qsl

from registry.images.uploads.session_ids import SessionId
from registry.oci.digest import Digest
from registry.oci.errors import BlobUploadUnknown, DigestInvalid, NameInvalid, PaginationInvalid
from registry.oci.name import parse_name
from registry.oci.reference import parse_reference

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from starlette.requests import Request

    Query = Mapping[str, Sequence[str]]

_UPLOAD = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
"""A UUID as ``str`` writes it."""
_NO_QUERY: Final[Query] = MappingProxyType({})
MAX_DIGITS = 18
"""Digits of the largest ``n``."""


class Page(NamedTuple):
    """Which part of a list is asked for (spec, "Listing Tags")."""

    size: int
    """Entries of one page at most."""
    last: str
    """The page begins after this value, which need not exist."""


class Mount(NamedTuple):
    """What a client would rather have mounted than upload (spec, "Mounting a blob from another repository")."""

    digest: Digest
    source: str | None
    """The repository that has it; None if any may."""


def name_of(request: Request) -> str:
    """The repository. Raises NameInvalid."""
    return parse_name(request.path_params["name"])


def digest_of(request: Request) -> Digest:
    """The digest in the path. Raises DigestInvalid."""
    return Digest.parse(request.path_params["digest"])


def reference_of(request: Request) -> Digest | str:
    """The tag or digest in the path. Raises TagInvalid, DigestInvalid."""
    return parse_reference(request.path_params["reference"])


def upload_of(request: Request) -> str:
    """The upload session in the path. Raises BlobUploadUnknown for what is no id of ours."""
    text: str = request.path_params["upload"]
    if SessionId.parse(text) is None and not _UPLOAD.fullmatch(text):
        raise BlobUploadUnknown
    return text


def query_of(request: Request) -> Query:
    """The parameters of the query, each with all of its values."""
    text: bytes = request.scope["query_string"]
    if not text:
        return _NO_QUERY
    query: dict[str, list[str]] = {}
    for name, value in parse_qsl(text.decode("latin-1"), keep_blank_values=True):
        query.setdefault(name, []).append(value)
    return query


def query_digest(query: Query) -> Digest:
    """The ``digest`` parameter, which must be there once. Raises DigestInvalid."""
    values = query.get("digest", ())
    if len(values) != 1:
        raise DigestInvalid("the digest parameter must be given once")
    return Digest.parse(values[0])


def page_of(request: Request, limit: int) -> Page:
    """The ``n`` and ``last`` parameters; ``limit`` is the most that one page holds. Raises PaginationInvalid."""
    last = request.query_params.get("last", "")
    text = request.query_params.get("n")
    if text is None:
        return Page(limit, last)
    if not (text.isascii() and text.isdecimal()) or len(text) > MAX_DIGITS:
        raise PaginationInvalid
    return Page(min(int(text), limit), last)


def mount_of(query: Query) -> Mount | None:
    """What ``mount`` and ``from`` name; None if there is nothing here that they could mean.

    They are a hint, which a client is free to give wrongly: the path of another registry, a digest that is none.
    """
    digests, sources = query.get("mount", ()), query.get("from", ())
    if len(digests) != 1 or len(sources) > 1:
        return None
    try:
        return Mount(Digest.parse(digests[0]), parse_name(sources[0]) if sources else None)
    except (DigestInvalid, NameInvalid):
        return None

"""Name: the name of a repository (distribution spec, "Pulling manifests", ``<name>``)."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from registry.oci.errors import NameInvalid
from registry.oci.escaping import quoted

MAXIMUM_LENGTH: Final = 255
"""Characters; the limit that clients and the reference implementation agree on."""

_SEGMENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
# Every separator starts with a character outside [a-z0-9] and is followed by one inside: matching is linear.
_NAME = re.compile(f"{_SEGMENT}(?:/{_SEGMENT})*")

_RESERVED_FIRST = "storage"
"""Where object stores keep the blobs of all repositories."""
_RESERVED_LATER = frozenset({"blobs", "index.json", "oci-layout"})
"""Names that the layout of the repository one level up needs."""


def is_name(text: str) -> bool:
    """Whether ``text`` can be the name of a repository; each part before a slash can be one then, too."""
    try:
        parse_name(text)
    except NameInvalid:
        return False
    return True


@lru_cache(maxsize=4096)
def parse_name(text: str) -> str:
    """Return ``text``, if it can be the name of a repository on every storage driver.

    Raises:
        NameInvalid: it is empty, longer than 255 characters, outside the grammar, or uses a segment that the storage
            layout needs for itself: ``storage`` in front; ``blobs``, ``index.json`` or ``oci-layout`` further on.
    """
    if not text or len(text) > MAXIMUM_LENGTH:
        raise NameInvalid(f"the repository name has {len(text)} characters; it needs 1 to {MAXIMUM_LENGTH}")
    if not _NAME.fullmatch(text):
        raise NameInvalid(
            f"the repository name {quoted(text)} is not valid; segments of a-z and 0-9, "
            "joined inside by '.', '_', '__' or '-', are separated by '/'"
        )
    first, *later = text.split("/")
    if first == _RESERVED_FIRST:
        raise NameInvalid(f"repository names cannot start with the segment {_RESERVED_FIRST!r}: storage uses it")
    if not _RESERVED_LATER.isdisjoint(later):
        raise NameInvalid(
            f"after the first segment, {', '.join(sorted(_RESERVED_LATER))} are reserved for the image layout"
        )
    return text

"""What a part of a listing looked like, in one line: another one means that something of it is other."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import orjson

if TYPE_CHECKING:
    from collections.abc import Iterable

    from registry.migration.source.inventory import Inventory


def fingerprint(objects: Iterable[tuple[str, int, str]]) -> str:
    """The sha256 over (key, size, signature) of objects that are sorted by key, as ``sha256:{hex}``.

    Each is one line of JSON, so that no two lists of objects have the same bytes.
    """
    hasher = hashlib.sha256()
    for key, size, signature in objects:
        hasher.update(orjson.dumps((key, size, signature), option=orjson.OPT_APPEND_NEWLINE))
    return f"sha256:{hasher.hexdigest()}"


def repository_fingerprint(inventory: Inventory, path: str) -> str:
    """Of the keys of a repository, without those of its index, marker, uploads and records."""
    return fingerprint(
        inventory.each(
            "SELECT key, size, signature FROM object WHERE repository = ?"
            " AND kind NOT IN ('index', 'marker', 'upload', 'our-record') ORDER BY key",
            path,
        )
    )

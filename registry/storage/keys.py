"""Keys, prefixes and upload ids: what every driver refuses before it looks at its store.

Tests: ``tests/storage/test_driver_contract.py``.
"""

from __future__ import annotations

import re
from functools import lru_cache

TEMPORARY_SEGMENT = ".tmp-"
"""Begins the names of files that are not objects yet, beside the objects that they become."""

OWN_SEGMENTS = frozenset({".uploads", ".locks"})
"""First segments that belong to the drivers."""

_UPLOAD_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,127}")


_SHA256 = re.compile(r"(?:.*/)?sha256/([0-9a-f]{64})")


def sha256_of(key: str) -> str | None:
    """The SHA-256 of a blob's bytes, in hexadecimal digits, where its key says it."""
    found = _SHA256.fullmatch(key)
    return found[1] if found is not None else None


@lru_cache(maxsize=1024)
def check_key(key: str) -> None:
    """Raises ValueError unless ``key`` names an object below the root and nothing else."""
    # Nearly every key passes this line; segments are only looked at where one begins with a dot.
    if key and "/." not in key and "//" not in key and "\0" not in key and key[0] not in "./" and key[-1] != "/":
        return
    segments = key.split("/")
    if "\0" in key or segments[0] in OWN_SEGMENTS or any(not _is_segment(segment) for segment in segments):
        raise ValueError(f"not a storage key: {key!r}")


def check_prefix(prefix: str) -> None:
    """Raises ValueError unless ``prefix`` is empty or a key."""
    if prefix:
        check_key(prefix)


@lru_cache(maxsize=1024)
def check_upload_id(upload_id: str) -> None:
    """Raises ValueError unless ``upload_id`` is 1 to 128 letters, digits, ``_`` and ``-``, not beginning with ``-``."""
    if not _UPLOAD_ID.fullmatch(upload_id):
        raise ValueError(f"not an upload id: {upload_id!r}")


def is_own(key: str) -> bool:
    """Whether a key that a store has is none of the contract's."""
    segments = key.split("/")
    return segments[0] in OWN_SEGMENTS or any(segment.startswith(TEMPORARY_SEGMENT) for segment in segments)


def _is_segment(segment: str) -> bool:
    return segment not in {"", ".", ".."} and not segment.startswith(TEMPORARY_SEGMENT)

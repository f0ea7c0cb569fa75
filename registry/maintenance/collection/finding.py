"""*Finding*: one thing that a collection removes, or will remove later (lifecycle of content, proposal 0013).

Tests: ``tests/maintenance/collection/test_run.py``.
"""

from __future__ import annotations

import enum
from typing import Any, NamedTuple


class Kind(enum.StrEnum):
    """What a finding is about."""

    BLOB = "blob"
    """The bytes of a blob on storage."""
    MEMBERSHIP = "membership"
    """That a repository has a blob, of which all repositories share the bytes."""
    MANIFEST = "manifest"
    """An untagged manifest: it goes into the trash."""
    TAG = "tag"
    """A tag of a mirror that was not pulled for long."""
    TRASH = "trash"
    """A manifest that was deleted, which cannot be restored from now on."""
    UPLOAD = "upload"
    """An upload that no client went on with."""
    ORPHAN = "orphan"
    """An object of which no row knows."""
    REPOSITORY = "repository"
    """An empty repository: lists leave it out from now on, and its records stay."""


class Kept(enum.StrEnum):
    """Why something that is out of use stays."""

    UNTAGGED = "untagged manifests stay: gc.untagged_after is not set"
    MIRRORED = "manifests of a mirror stay: its unused_after is not set"
    FOUND = "another tool has put it into the directory of the repository: --orphans removes it"
    LEASED = "a client was told that it is here"
    UPLOADING = "a client is uploading to the repository"
    UNWRITTEN = "a change of the repository is not written down yet"
    UNKNOWN = "not everything that storage has of the repository is known"
    SHARED = "a repository of which not everything is known may have it"
    NAMED = "no row knows of the object, and a manifest names it, or seems to"
    STRANGE = "an object below storage/blobs is named like no blob"
    FOREIGN = "its object is not this registry's to delete, or is being deleted"


class Removed(NamedTuple):
    """Something that a run removes."""

    kind: Kind
    reason: str
    digest: str | None = None
    key: str | None = None
    """Where there is no digest; a tag beside that of its manifest."""
    repository: str | None = None
    bytes: int = 0
    """Bytes that storage has less for it."""
    objects: int = 0
    """Objects that storage has less; on local disk names of files."""

    def entry(self) -> dict[str, Any]:
        """As JSON has it."""
        return _present(self, "digest", "key", "repository") | {"reason": self.reason, "bytes": self.bytes}


class Waiting(NamedTuple):
    """Something that a later run removes, if it stays as it is."""

    kind: Kind
    reason: str
    until: float
    """Seconds since the epoch."""
    digest: str | None = None
    repository: str | None = None
    bytes: int = 0

    def entry(self) -> dict[str, Any]:
        """As JSON has it."""
        more = {"reason": self.reason, "bytes": self.bytes, "until": self.until}
        return _present(self, "digest", "repository") | more


def _present(finding: Removed | Waiting, *names: str) -> dict[str, Any]:
    given = {name: getattr(finding, name) for name in names}
    return {"kind": str(finding.kind)} | {name: value for name, value in given.items() if value is not None}

"""Objects: what the key of an object says, where a repository is, and what it holds in the source registry.

Tests: ``tests/migration/source/test_inventory.py``.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from registry.migration.report import Problem
    from registry.oci.descriptor import Descriptor
    from registry.oci.digest import Digest


class ObjectKind(enum.StrEnum):
    """What an object is, as its key tells."""

    BLOB = "blob"
    """Bytes by digest in a repository, or a stub for them."""
    INDEX = "index"
    MARKER = "marker"
    """``oci-layout``."""
    DATA = "data"
    """Bytes by digest, for all repositories of a distribution tree."""
    LAYER_LINK = "layer-link"
    REVISION_LINK = "revision-link"
    TAG_LINK = "tag-link"
    """What a tag points at now."""
    OLD_TAG_LINK = "old-tag-link"
    """History of a tag: one link for each manifest it has pointed at, the current one included."""
    UPLOAD = "upload"
    """A part of an upload that was not finished."""
    LEFT = "left"
    """What these registries are known to leave beside images: databases of scanners, sessions."""
    OUR_BLOB = "our-blob"
    OUR_RECORD = "our-record"
    UNKNOWN = "unknown"


class KeyInfo(NamedTuple):
    """What a key says."""

    kind: ObjectKind
    repository: str = ""
    """The path of its repository, as the keys have it: with a prefix, if there is one."""
    digest: str = ""


@dataclass(frozen=True, slots=True)
class RepositoryPath:
    """Where a repository is."""

    name: str
    path: str
    """What its keys begin with; in a distribution tree its name."""
    prefix: str
    """What stands before the name; empty if nothing does."""
    has_blobs: bool = True


@dataclass(slots=True)
class SourceRepository:
    """What a repository of the source registry holds."""

    name: str
    path: str
    prefix: str
    index_key: str = ""
    """Empty in a layout without indexes."""
    index_etag: str = ""
    """Empty if the index could not be read."""
    tags: dict[str, Digest] = field(default_factory=dict)
    manifests: dict[Digest, Descriptor | None] = field(default_factory=dict)
    """The descriptor in its index; None if the layout says no more than a digest."""
    problems: list[Problem] = field(default_factory=list)

    @property
    def is_unreadable(self) -> bool:
        """Whether it has an index that could not be read."""
        return bool(self.index_key) and not self.index_etag


class ListedObject(NamedTuple):
    """An object in the listing."""

    key: str
    kind: str
    repository: str
    """The path of its repository; empty if it belongs to none."""
    digest: str
    size: int
    etag: str


class Link(NamedTuple):
    """A link of a distribution tree."""

    key: str
    kind: str
    digest: str
    size: int
    has_data: bool
    """Whether the listing shows the bytes of the digest."""


class RepositoryRow(NamedTuple):
    """A repository of the source registry that was read."""

    path: str
    name: str
    prefix: str
    index_key: str
    index_etag: str


class Tag(NamedTuple):
    """A tag of the source registry."""

    name: str
    digest: Digest
    is_readable: bool
    """Whether its manifest can be served."""


class Member(NamedTuple):
    """A manifest of a repository of the source registry."""

    digest: Digest
    media_type: str | None
    """None if the manifest cannot be served; so is ``size``."""
    size: int | None


class SourceObject(NamedTuple):
    """An object with the bytes of a digest."""

    digest: Digest
    size: int
    key: str
    etag: str
    is_hashed: bool


class UnreadManifest(NamedTuple):
    """A manifest that repositories name and that was not read yet."""

    digest: Digest
    media_type: str | None
    size: int | None
    repository: str
    """The first repository that names it."""

"""How another registry lays out a bucket, and what one of its repositories holds."""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, NamedTuple

if TYPE_CHECKING:
    from registry.migration.problem import Problem
    from registry.migration.snapshot import Snapshot
    from registry.oci.descriptor import Descriptor
    from registry.oci.digest import Digest
    from registry.storage.driver import StorageDriver


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
    """What a tag pointed at once, and now."""
    UPLOAD = "upload"
    """Of an upload that was not finished."""
    LEFT = "left"
    """What these registries are known to leave beside images: databases of scanners, sessions."""
    OUR_BLOB = "our-blob"
    OUR_RECORD = "our-record"
    UNKNOWN = "unknown"


class Entry(NamedTuple):
    """What a key says."""

    kind: ObjectKind
    repository: str = ""
    """The path of its repository, as the keys have it: with a prefix, where there is one."""
    digest: str = ""


@dataclass(frozen=True, slots=True)
class Located:
    """Where a repository is."""

    name: str
    path: str
    """What its keys begin with; in a distribution tree its name."""
    prefix: str
    """What stands before the name; empty for none."""
    has_blobs: bool = True


@dataclass(slots=True)
class OriginalRepository:
    """What a repository of the original holds."""

    name: str
    path: str
    prefix: str
    index_key: str = ""
    index_signature: str = ""
    tags: dict[str, Digest] = field(default_factory=dict)
    manifests: dict[Digest, Descriptor | None] = field(default_factory=dict)
    """What its index says of each; None where the layout does not say more than a digest."""
    problems: list[Problem] = field(default_factory=list)

    @property
    def is_unreadable(self) -> bool:
        """Whether it has an index, of which nothing is known."""
        return bool(self.index_key) and not self.index_signature


class OriginalLayout(ABC):
    """One of the layouts that can be migrated. Reads only."""

    kind: ClassVar[str]
    """``per-repository`` or ``distribution``."""
    bytes_kind: ClassVar[ObjectKind]
    """Objects with the bytes of blobs and manifests."""
    member_kinds: ClassVar[tuple[ObjectKind, ...]]
    """Objects by which a repository has a digest."""
    has_stubs: ClassVar[bool]
    """An object of 0 bytes stands for bytes that are elsewhere."""
    link_requests: ClassVar[int]
    """PUTs for a tag, or for a manifest or blob beside its bytes, that a rollback would write."""

    def __init__(self, prefixes: tuple[str, ...]) -> None:
        self.prefixes = prefixes
        """Below which no repository of ours can be: its keys would lie in the original's trees."""

    @staticmethod
    @abstractmethod
    def classify(key: str) -> Entry | None:
        """What an object is; None where the key is none of this layout's."""

    @abstractmethod
    def repositories(self, snapshot: Snapshot) -> list[Located]:
        """Every repository that may be there, by the keys alone."""

    @abstractmethod
    def read(self, located: Located, snapshot: Snapshot, driver: StorageDriver) -> OriginalRepository | None:
        """What a repository holds, from its index or its links; None where it is one of ours. Any thread.

        What cannot be read is a problem of it. Raises StorageError when the store fails.
        """

    @abstractmethod
    def home(self, located: Located, digest: Digest) -> str:
        """The key at which the original looks for the bytes of a digest of this repository."""

    def overwrites_index(self, located: Located) -> bool:
        """Whether the key of our index of that repository is one of the original's."""
        return self.bytes_kind is ObjectKind.BLOB and not located.prefix

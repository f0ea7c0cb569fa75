"""How another registry lays out a bucket, and what one of its repositories holds."""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from registry.migration.rollback.steps import Copy, Loss

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from registry.migration.report import Problem
    from registry.migration.rollback.steps import Step, TargetContent, WantedManifest
    from registry.migration.source.inventory import Inventory
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


class KeyInfo(NamedTuple):
    """What a key says."""

    kind: ObjectKind
    repository: str = ""
    """The path of its repository, as the keys have it: with a prefix, where there is one."""
    digest: str = ""


@dataclass(frozen=True, slots=True)
class RepositoryPath:
    """Where a repository is."""

    name: str
    path: str
    """What its keys begin with; in a distribution tree its name."""
    prefix: str
    """What stands before the name; empty for none."""
    has_blobs: bool = True


@dataclass(slots=True)
class SourceRepository:
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


class SourceLayout(ABC):
    """One of the layouts that can be migrated. Reads only; how it is written is told as values."""

    kind: ClassVar[str]
    """``per-repository`` or ``distribution``."""
    bytes_kind: ClassVar[ObjectKind]
    """Objects with the bytes of blobs and manifests."""
    member_kinds: ClassVar[tuple[ObjectKind, ...]]
    """Objects by which a repository has a digest."""
    has_stubs: ClassVar[bool]
    """An object of 0 bytes stands for bytes that are elsewhere."""
    keeps_media_types: ClassVar[bool]
    """Of manifests, beside their bytes."""
    link_requests: ClassVar[int]
    """PUTs for a tag, or for a manifest or blob beside its bytes, that a rollback would write."""

    def __init__(self, prefixes: tuple[str, ...]) -> None:
        self.prefixes = prefixes
        """Below which no repository of ours can be: its keys would lie in the original's trees."""

    @staticmethod
    @abstractmethod
    def classify(key: str) -> KeyInfo | None:
        """What an object is; None where the key is none of this layout's."""

    @abstractmethod
    def repositories(self, inventory: Inventory) -> list[RepositoryPath]:
        """Every repository that may be there, by the keys alone."""

    @abstractmethod
    def read(self, located: RepositoryPath, inventory: Inventory, driver: StorageDriver) -> SourceRepository | None:
        """What a repository holds, from its index or its links; None where it is one of ours. Any thread.

        What cannot be read is a problem of it. Raises StorageError when the store fails.
        """

    @abstractmethod
    def home(self, located: RepositoryPath, digest: Digest) -> str:
        """The key at which the original looks for the bytes of a digest of this repository."""

    def overwrites_index(self, located: RepositoryPath) -> bool:
        """Whether the key of our index of that repository is one of the original's."""
        return self.bytes_kind is ObjectKind.BLOB and not located.prefix

    @abstractmethod
    def steps(self, wanted: TargetContent, inventory: Inventory) -> Iterator[Step]:
        """What makes a repository of the original what is wanted, in order; nothing that the listing shows already.

        Whenever it stops, between any two of them or for ever, the original serves no image that lacks something, and
        what it served before and is still wanted. Going on is asking again, with a new listing.
        """

    @abstractmethod
    def waste(self, located: RepositoryPath, inventory: Inventory) -> Iterator[str]:
        """Keys of what a repository has beside blobs, of no use once nobody asks the original any more."""

    @abstractmethod
    def has_manifest(self, located: RepositoryPath, digest: Digest, inventory: Inventory) -> bool:
        """Whether the listing shows that the original has a manifest in a repository."""

    @abstractmethod
    def has_bytes(
        self, located: RepositoryPath, digest: Digest, size: int, inventory: Inventory, lost: Collection[str]
    ) -> bool:
        """Whether the listing shows that the original finds the bytes of a digest of a repository.

        ``lost``: keys of objects with other bytes.
        """

    def refuses(self, digest: Digest, manifest: WantedManifest | None = None) -> str:  # noqa: ARG002 - a layout may
        """Why the layout cannot represent a blob or a manifest; empty where it can."""
        return ""

    def losses(self, wanted: TargetContent, inventory: Inventory) -> Iterator[Loss]:
        """What was pushed since and cannot be given to the original, and the manifests that name such a thing.

        Nothing that the original has already is a loss, whatever it lacks itself.
        """
        old = {digest for digest in wanted.manifests if self.has_manifest(wanted.located, digest, inventory)}
        lacking = {blob for digest in old for blob in wanted.manifests[digest].named_blobs}
        lost: dict[Digest, str] = {}

        def find(digest: Digest, size: int, reason: str) -> None:
            if not reason and digest not in wanted.sources:
                has_bytes = self.has_bytes(wanted.located, digest, size, inventory, wanted.lost)
                reason = "" if has_bytes else "nobody has its bytes"
            if reason:
                lost[digest] = reason

        for digest, size in wanted.blobs.items():
            if digest not in lacking:
                find(digest, size, self.refuses(digest))
        for digest, manifest in wanted.manifests.items():
            if digest not in old:
                named = next((named for named in (*manifest.blobs, *manifest.children) if named in lost), None)
                find(digest, manifest.size, self.refuses(digest, manifest) or (f"it names {named}" if named else ""))
        return (Loss(wanted.located.name, digest, reason) for digest, reason in lost.items())

    def _copies(self, wanted: TargetContent, lost: Collection[Digest], inventory: Inventory) -> Iterator[Copy]:
        """Of everything that the original lacks and somebody has."""
        for digest, size in wanted.sizes():
            source = wanted.sources.get(digest)
            if source is None or digest in lost:
                continue
            if not self.has_bytes(wanted.located, digest, size, inventory, wanted.lost):
                yield Copy(digest, source.key, source.signature, self.home(wanted.located, digest), size)

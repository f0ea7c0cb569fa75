"""Source layout: how another registry lays out a bucket, and the steps that make it hold something.

Tests: ``tests/migration/test_golden_trees.py``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

from registry.migration.rollback.steps import Copy, Loss
from registry.migration.source.objects import ObjectKind

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from registry.migration.rollback.steps import Step, TargetContent, WantedManifest
    from registry.migration.source.inventory import Inventory
    from registry.migration.source.objects import KeyInfo, RepositoryPath, SourceRepository
    from registry.oci.digest import Digest
    from registry.storage.driver import StorageDriver


class SourceLayout(ABC):
    """One of the layouts that can be migrated. It writes nothing: the steps that change a bucket are values."""

    kind: ClassVar[str]
    """``per-repository`` or ``distribution``."""
    bytes_kind: ClassVar[ObjectKind]
    """Objects with the bytes of blobs and manifests."""
    member_kinds: ClassVar[tuple[ObjectKind, ...]]
    """Objects by which a repository has a digest."""
    has_stubs: ClassVar[bool]
    """Whether an object of 0 bytes stands for bytes in another repository."""
    keeps_media_types: ClassVar[bool]
    """Whether it has the media types of manifests beside their bytes."""
    link_requests: ClassVar[int]
    """PUTs that a rollback makes for a tag, or for a manifest or blob beside its bytes."""

    def __init__(self, prefixes: tuple[str, ...]) -> None:
        self.prefixes = prefixes
        """Directories of the source registry: Stowage can have no repository with such a name."""

    @staticmethod
    @abstractmethod
    def classify(key: str) -> KeyInfo | None:
        """What an object is; None if the key is not one of this layout."""

    @abstractmethod
    def repositories(self, inventory: Inventory) -> list[RepositoryPath]:
        """Every repository that may be there, by the keys alone."""

    @abstractmethod
    def read(self, located: RepositoryPath, inventory: Inventory, driver: StorageDriver) -> SourceRepository | None:
        """What a repository holds, from its index or its links; None if it is one of ours. Any thread.

        Its ``problems`` tell what cannot be read. Raises StorageError.
        """

    @abstractmethod
    def home(self, located: RepositoryPath, digest: Digest) -> str:
        """The key at which the source registry looks for the bytes of a digest of this repository."""

    def overwrites_index(self, located: RepositoryPath) -> bool:
        """Whether our index of that repository has the key of the source registry's."""
        return self.bytes_kind is ObjectKind.BLOB and not located.prefix

    @abstractmethod
    def steps(self, wanted: TargetContent, inventory: Inventory) -> Iterator[Step]:
        """The steps that make a repository of the source registry what is wanted, in order.

        Steps whose result the listing shows already are left out. If the process stops between any two steps, the
        source registry serves only whole images, and still serves what it served before and is wanted. To go on, list
        the bucket again and ask for the steps again.
        """

    @abstractmethod
    def removable_keys(self, located: RepositoryPath, inventory: Inventory) -> Iterator[str]:
        """The keys that a repository has beside blobs and that only the source registry needs."""

    @abstractmethod
    def has_manifest(self, located: RepositoryPath, digest: Digest, inventory: Inventory) -> bool:
        """Whether the listing shows that the source registry has a manifest in a repository."""

    @abstractmethod
    def has_bytes(
        self, located: RepositoryPath, digest: Digest, size: int, inventory: Inventory, lost: Collection[str]
    ) -> bool:
        """Whether the listing shows that the source registry finds the bytes of a digest of a repository.

        ``lost``: keys of objects with wrong bytes.
        """

    def refuses(self, digest: Digest, manifest: WantedManifest | None = None) -> str:  # noqa: ARG002 - a layout may
        """Why the layout cannot represent a blob or a manifest; empty if it can."""
        return ""

    def losses(self, wanted: TargetContent, inventory: Inventory) -> Iterator[Loss]:
        """What was pushed to Stowage and the source registry cannot have, and the manifests that name such content.

        A manifest that the source registry has already is no loss, even if it lacks a blob there.
        """
        old = {digest for digest in wanted.manifests if self.has_manifest(wanted.located, digest, inventory)}
        lacking = {blob for digest in old for blob in wanted.manifests[digest].named_blobs}
        lost: dict[Digest, str] = {}

        def find(digest: Digest, size: int, reason: str) -> None:
            if not reason and digest not in wanted.sources:
                has_bytes = self.has_bytes(wanted.located, digest, size, inventory, wanted.lost)
                reason = "" if has_bytes else "no object has its bytes"
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
        """Copies of everything that the source registry lacks and some object has."""
        for digest, size in wanted.sizes():
            source = wanted.sources.get(digest)
            if source is None or digest in lost:
                continue
            if not self.has_bytes(wanted.located, digest, size, inventory, wanted.lost):
                yield Copy(digest, source.key, source.etag, self.home(wanted.located, digest), size)

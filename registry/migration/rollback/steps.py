"""Rollback steps: what a rollback does to a source registry, and what that is to hold then, as values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from registry.migration.source.objects import RepositoryPath
    from registry.oci.digest import Digest


class Copy(NamedTuple):
    """A copy inside the store of one version of an object; it replaces what is at its target."""

    digest: Digest
    source: str
    etag: str
    """The version of the source."""
    target: str
    size: int
    """Bytes."""


class Write(NamedTuple):
    """A small object, on a condition."""

    key: str
    data: bytes
    if_etag: str
    """The version that it replaces; empty if there must be no object."""


class Delete(NamedTuple):
    """Links to delete, in this order."""

    keys: tuple[str, ...]


Step = Copy | Write | Delete


class Loss(NamedTuple):
    """Content that Stowage serves and the source registry will not. Ordered."""

    repository: str
    digest: Digest
    detail: str
    """Why, for a person."""


class Source(NamedTuple):
    """An object with the bytes of a digest."""

    key: str
    etag: str


@dataclass(frozen=True, slots=True)
class WantedManifest:
    """A manifest that a repository is to have."""

    media_type: str
    size: int
    """Bytes."""
    blobs: tuple[Digest, ...] = ()
    """Blobs that it needs."""
    optional: tuple[Digest, ...] = ()
    """Blobs that it names and that need not be there."""
    children: tuple[Digest, ...] = ()
    taken_for: str = ""
    """The media type that its bytes alone say; empty if the source registry has it already."""

    @property
    def named_blobs(self) -> tuple[Digest, ...]:
        """Every blob that it names (I13)."""
        return (*self.blobs, *self.optional)


@dataclass(frozen=True, slots=True)
class SourceIndex:
    """The ``index.json`` of a repository of the source registry."""

    key: str
    data: bytes
    """The source registry's, into which changes are made; empty if it has none."""
    present: bytes
    """What is at the key now; empty if nothing is."""
    etag: str
    """The version of what is there; empty if nothing is."""
    sequence: int = 0
    """Our last record, for a source that is an earlier layout of ours and counts them."""


@dataclass(frozen=True, slots=True)
class TargetContent:
    """What a repository of the source registry is to hold; what else it has and was not adopted stays."""

    located: RepositoryPath
    tags: Mapping[str, Digest]
    manifests: Mapping[Digest, WantedManifest]
    """Each after those that it names; every tag points at one of them."""
    blobs: Mapping[Digest, int]
    """Size by digest, manifests aside."""
    sources: Mapping[Digest, Source] = field(default_factory=dict)
    """Objects from which the content that the source registry lacks is copied; absent if no object has the bytes."""
    document: SourceIndex | None = None
    """None if its index stays as it is, or the layout has no indexes."""
    said: Mapping[str, Digest] = field(default_factory=dict)
    """The tags that the source registry has, and what they point at."""
    gone_tags: Collection[str] = ()
    """Tags of the source registry that were removed since it was adopted."""
    gone_manifests: Collection[Digest] = ()
    """Manifests of the source registry that were deleted since, with every tag that points at them."""
    gone_blobs: Collection[Digest] = ()
    """Blobs that only these name and that were deleted too."""
    lost: Collection[str] = ()
    """Keys of objects of the source registry with wrong bytes."""

    def sizes(self) -> Iterator[tuple[Digest, int]]:
        """Everything with bytes, in the order in which it is to be there."""
        yield from self.blobs.items()
        for digest, manifest in self.manifests.items():
            yield digest, manifest.size

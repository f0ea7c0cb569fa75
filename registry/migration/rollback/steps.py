"""What a rollback does to an original, and what the original is to hold when it is done: values, without any store."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from registry.migration.source.layout import RepositoryPath
    from registry.oci.digest import Digest


class Copy(NamedTuple):
    """A copy inside the store: of one version of an object, over whatever is at its target."""

    digest: Digest
    source: str
    signature: str
    """Of the source."""
    target: str
    size: int
    """Bytes."""


class Write(NamedTuple):
    """A small object, on a condition."""

    key: str
    data: bytes
    if_signature: str
    """Of the version that it replaces; empty: only where nothing is."""


class Delete(NamedTuple):
    """Links that go, in this order."""

    keys: tuple[str, ...]


Step = Copy | Write | Delete


class Loss(NamedTuple):
    """Something that Stowage serves and that the original will not. Ordered."""

    repository: str
    digest: Digest
    detail: str
    """Why, for a person."""


class Source(NamedTuple):
    """An object with the bytes of a digest."""

    key: str
    signature: str


@dataclass(frozen=True, slots=True)
class WantedManifest:
    """A manifest that a repository is to have."""

    media_type: str
    size: int
    """Bytes."""
    blobs: tuple[Digest, ...] = ()
    """Those that it cannot be without."""
    optional: tuple[Digest, ...] = ()
    """Those that it names, and that need not be there."""
    children: tuple[Digest, ...] = ()
    taken_for: str = ""
    """The media type that its bytes alone say; empty: they were not asked, because the original has it already."""

    @property
    def named_blobs(self) -> tuple[Digest, ...]:
        """Every blob that it names (I13)."""
        return (*self.blobs, *self.optional)


@dataclass(frozen=True, slots=True)
class SourceIndex:
    """The ``index.json`` of a repository of the original."""

    key: str
    data: bytes
    """The original's, into which changes are made; empty: it has none."""
    present: bytes
    """What is at the key now; empty: nothing."""
    signature: str
    """Of what is there; empty: nothing."""
    sequence: int = 0
    """The last record of ours, for an original that is an earlier layout of ours and counts them."""


@dataclass(frozen=True, slots=True)
class TargetContent:
    """What a repository of the original is to hold; what else it has, because it could not be taken, is let alone."""

    located: RepositoryPath
    tags: Mapping[str, Digest]
    manifests: Mapping[Digest, WantedManifest]
    """Each after those that it names; every tag points at one of them."""
    blobs: Mapping[Digest, int]
    """Size by digest, manifests aside."""
    sources: Mapping[Digest, Source] = field(default_factory=dict)
    """From where what the original lacks is copied; absent: nobody has its bytes."""
    document: SourceIndex | None = None
    """None: its index stays as it is, or the layout has none."""
    said: Mapping[str, Digest] = field(default_factory=dict)
    """Tags that the original has, and at what they point."""
    gone_tags: Collection[str] = ()
    """Tags of the original that were removed since it was taken."""
    gone_manifests: Collection[Digest] = ()
    """Manifests of the original that were deleted since, with every tag that points at them."""
    gone_blobs: Collection[Digest] = ()
    """Blobs that only these name, and that were deleted too."""
    lost: Collection[str] = ()
    """Keys of objects of the original with other bytes than they should have."""

    def sizes(self) -> Iterator[tuple[Digest, int]]:
        """Everything with bytes, in the order in which it is to be there."""
        yield from self.blobs.items()
        for digest, manifest in self.manifests.items():
            yield digest, manifest.size

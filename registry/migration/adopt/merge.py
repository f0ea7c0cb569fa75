"""Merge: what the source registry changed, by its content when it was last adopted, its content now, and ours."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from registry.images.migration_journal.documents import ManifestInfo
    from registry.oci.digest import Digest


@dataclass(frozen=True, slots=True)
class Content:
    """The tags and manifests of a repository, in one of the three versions."""

    tags: dict[str, Digest] = field(default_factory=dict)
    manifests: dict[Digest, ManifestInfo] = field(default_factory=dict)


class Kept(NamedTuple):
    """A tag that both registries changed: Stowage's stays, because its clients were told so (M4)."""

    tag: str
    ours: Digest | None
    """None if Stowage removed it."""
    theirs: Digest | None
    """None if the source registry removed it."""


@dataclass(slots=True)
class Difference:
    """The changes that Stowage has to make to follow the source registry, without those that it has made already."""

    manifests: dict[Digest, ManifestInfo] = field(default_factory=dict)
    """Manifests to add."""
    tags: dict[str, Digest] = field(default_factory=dict)
    """Tags to set; what they point at is there, or among ``manifests``."""
    gone_tags: list[str] = field(default_factory=list)
    """Tags to remove, unless Stowage has moved them by then."""
    gone_manifests: list[Digest] = field(default_factory=list)
    """Manifests to remove, as long as no tag points at them and no other manifest lists them."""
    kept: list[Kept] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.manifests or self.tags or self.gone_tags or self.gone_manifests)


def difference(base: Content, theirs: Content, ours: Content) -> Difference:
    """Compare three versions; pure, and sorted by names and digests. Empty once it was applied.

    ``base`` is what the source registry had when it was last adopted; empty if it never was.
    """
    found = Difference()
    for tag in sorted({*base.tags, *theirs.tags}):
        _compare_tag(found, tag, base.tags.get(tag), theirs.tags.get(tag), ours.tags.get(tag))
    for digest, named in sorted(theirs.manifests.items()):
        is_new = digest not in base.manifests or digest in found.tags.values()
        if is_new and digest not in ours.manifests:
            found.manifests[digest] = named
    left = {digest for tag, digest in ours.tags.items() if tag not in found.gone_tags and tag not in found.tags}
    left.update(found.tags.values())
    found.gone_manifests = sorted(
        digest
        for digest in base.manifests
        if digest not in theirs.manifests and digest in ours.manifests and digest not in left
    )
    return found


def _compare_tag(found: Difference, tag: str, base: Digest | None, theirs: Digest | None, ours: Digest | None) -> None:
    if theirs in {base, ours}:
        return
    if ours != base:
        found.kept.append(Kept(tag, ours, theirs))
    elif theirs is None:
        found.gone_tags.append(tag)
    else:
        found.tags[tag] = theirs

"""What the original changed since it was last taken, three ways: what it said then, what it says, what Stowage has."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from registry.images.migration_journal.documents import ManifestInfo
    from registry.oci.digest import Digest


@dataclass(frozen=True, slots=True)
class Content:
    """The tags and manifests of a repository, in one of the three places."""

    tags: dict[str, Digest] = field(default_factory=dict)
    manifests: dict[Digest, ManifestInfo] = field(default_factory=dict)


class Kept(NamedTuple):
    """A tag that both changed: Stowage's stays, because it has told its clients so (M4)."""

    tag: str
    ours: Digest | None
    """None: Stowage removed it."""
    theirs: Digest | None


@dataclass(slots=True)
class Difference:
    """What Stowage is to change so that it has what the original changed; nothing of it that is done already."""

    manifests: dict[Digest, ManifestInfo] = field(default_factory=dict)
    """To be added."""
    tags: dict[str, Digest] = field(default_factory=dict)
    """To be set; what they point at is there, or among ``manifests``."""
    gone_tags: list[str] = field(default_factory=list)
    """To be removed. Where Stowage has something else by then, it stays."""
    gone_manifests: list[Digest] = field(default_factory=list)
    """To be removed, as long as no tag points at them and no other manifest lists them."""
    kept: list[Kept] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.manifests or self.tags or self.gone_tags or self.gone_manifests)


def difference(base: Content, theirs: Content, ours: Content) -> Difference:
    """Compare; pure, and in the order of names and digests. Made again after it was applied it is empty.

    ``base`` is what the original said when it was last taken: nothing, where it never was.
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

"""What a registry is, in plain Python: repositories with blobs, manifests and tags, and nothing between them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.support.payloads import Manifest


@dataclass
class Repository:
    """The content of one repository."""

    blobs: set[str] = field(default_factory=set)
    """Digests that were pushed or mounted."""
    doubtful: set[str] = field(default_factory=set)
    """Digests of blobs of which either answer is right: a manifest of the same bytes was deleted, or the database."""
    manifests: dict[str, Manifest] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    def missing(self, manifest: Manifest) -> set[str]:
        """Digests that a manifest needs and that are not here."""
        return {digest for digest in manifest.blobs if digest not in self.blobs} | {
            digest for digest in manifest.children if digest not in self.manifests
        }

    def needs(self, digest: str) -> bool:
        """Whether a manifest refers to this as a blob, or is it."""
        return digest in self.manifests or self.is_layer(digest)

    def is_layer(self, digest: str) -> bool:
        """Whether a manifest refers to this as a blob."""
        return any(digest in manifest.blobs for manifest in self.manifests.values())

    def lists(self, digest: str) -> bool:
        """Whether an index lists this manifest."""
        return any(digest in manifest.children for manifest in self.manifests.values())

    def put(self, manifest: Manifest, tags: list[str]) -> None:
        """A manifest was accepted, so everything that it names is here."""
        self.manifests[manifest.digest] = manifest
        self.blobs.update(manifest.blobs)
        self.doubtful.difference_update(manifest.blobs)
        self.tags.update(dict.fromkeys(tags, manifest.digest))

    def remove(self, digest: str) -> set[str]:
        """A manifest was deleted, with what is attached to it, and with the tags that point at these. Returns these."""
        gone = {digest, *self._attached(digest)}
        self.discard(gone)
        return gone

    def discard(self, gone: set[str]) -> None:
        """These manifests are no more."""
        self.manifests = {found: manifest for found, manifest in self.manifests.items() if found not in gone}
        self.tags = {tag: target for tag, target in self.tags.items() if target not in gone}
        unneeded = {found for found in gone & self.blobs if not self.needs(found)}
        self.blobs -= unneeded
        self.doubtful |= unneeded

    def in_use(self) -> set[str]:
        """Digests of the manifests that a tag keeps, or another one that is in use: as a child, layer or subject."""
        found, waiting = set[str](), set(self.tags.values())
        while waiting:
            digest = waiting.pop()
            found.add(digest)
            manifest = self.manifests[digest]
            needed = {*manifest.children, *manifest.blobs, *self.referrers(digest)}
            waiting |= (needed & self.manifests.keys()) - found
        return found

    def named(self) -> set[str]:
        """Digests of all manifests and of what they name."""
        return {*self.manifests, *(digest for manifest in self.manifests.values() for digest in manifest.blobs)}

    def _attached(self, digest: str) -> set[str]:
        """Its referrers, and theirs, but for those that a tag or another manifest keeps, with what these alone have."""
        stay: set[str] = set()
        while True:
            found, waiting = set[str](), {digest}
            while waiting:
                subject = waiting.pop()
                waiting |= (new := self.referrers(subject) - found - stay - {digest})
                found |= new
            gone = {digest, *found}
            listed = {
                child for name, manifest in self.manifests.items() if name not in gone for child in manifest.children
            }
            kept = found & (listed | set(self.tags.values()))
            if not kept:
                return found
            stay |= kept

    def referrers(self, digest: str, artifact_type: str | None = None) -> set[str]:
        """Digests of the manifests with this subject."""
        return {
            found
            for found, manifest in self.manifests.items()
            if manifest.subject == digest and artifact_type in {None, manifest.artifact_type}
        }

    def forget_unreferenced(self) -> None:
        """A rebuilt repository holds what its manifests reference, where all repositories share one place for blobs."""
        kept = {digest for manifest in self.manifests.values() for digest in manifest.blobs}
        # Pushed content may still be there in other repositories; here it is not until it is pushed or mounted again.
        self.doubtful = {digest for digest in self.doubtful | self.blobs if digest in self.manifests} - kept
        self.blobs = kept

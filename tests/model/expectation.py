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

    def remove(self, digest: str) -> None:
        """A manifest was deleted, and with it the tags that point at it."""
        del self.manifests[digest]
        self.tags = {tag: target for tag, target in self.tags.items() if target != digest}
        if digest in self.blobs and not self.needs(digest):
            self.blobs.discard(digest)
            self.doubtful.add(digest)

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

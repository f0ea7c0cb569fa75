"""Small content to push: blobs, image manifests and indexes with their digests, made without a registry."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"


def digest_of(data: bytes, algorithm: str = "sha256") -> str:
    """``algorithm:hex`` of the bytes."""
    return f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"


@dataclass(frozen=True)
class Blob:
    """Bytes and the digest they are pushed under."""

    data: bytes
    algorithm: str = "sha256"

    @cached_property
    def digest(self) -> str:
        """The digest, in this blob's algorithm."""
        return digest_of(self.data, self.algorithm)

    def descriptor(self, media_type: str = LAYER) -> dict[str, object]:
        """How a manifest refers to it."""
        return {"mediaType": media_type, "digest": self.digest, "size": len(self.data)}


@dataclass(frozen=True)
class Manifest:
    """The exact bytes of a manifest or index, and what they name."""

    data: bytes
    media_type: str
    blobs: tuple[str, ...] = ()
    children: tuple[str, ...] = ()
    subject: str | None = None
    artifact_type: str | None = None
    annotations: dict[str, str] = field(default_factory=dict, hash=False)
    algorithm: str = "sha256"

    @property
    def digest(self) -> str:
        """The digest, in this manifest's algorithm."""
        return digest_of(self.data, self.algorithm)

    def descriptor(self) -> dict[str, object]:
        """How an index or a subject refers to it."""
        return {"mediaType": self.media_type, "digest": self.digest, "size": len(self.data)}


def image(
    config: Blob,
    layers: Sequence[Blob],
    *,
    subject: Manifest | None = None,
    artifact_type: str | None = None,
    annotations: dict[str, str] | None = None,
    algorithm: str = "sha256",
    elsewhere: Sequence[dict[str, object]] = (),
) -> Manifest:
    """An OCI image manifest over a configuration and layers.

    ``elsewhere``: descriptors of further layers, which clients fetch from another place.
    """
    document: dict[str, object] = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": config.descriptor(CONFIG),
        "layers": [*(layer.descriptor() for layer in layers), *elsewhere],
    }
    if artifact_type is not None:
        document["artifactType"] = artifact_type
    return Manifest(
        data=_encode(document, subject, annotations),
        media_type=MANIFEST,
        blobs=(config.digest, *(layer.digest for layer in layers)),
        subject=subject.digest if subject else None,
        artifact_type=artifact_type or CONFIG,
        annotations=annotations or {},
        algorithm=algorithm,
    )


def index(
    children: Sequence[Manifest],
    *,
    subject: Manifest | None = None,
    artifact_type: str | None = None,
    annotations: dict[str, str] | None = None,
) -> Manifest:
    """An OCI image index over manifests."""
    document: dict[str, object] = {
        "schemaVersion": 2,
        "mediaType": INDEX,
        "manifests": [child.descriptor() for child in children],
    }
    if artifact_type is not None:
        document["artifactType"] = artifact_type
    return Manifest(
        data=_encode(document, subject, annotations),
        media_type=INDEX,
        children=tuple(child.digest for child in children),
        subject=subject.digest if subject else None,
        artifact_type=artifact_type,
        annotations=annotations or {},
    )


def _encode(document: dict[str, object], subject: Manifest | None, annotations: dict[str, str] | None) -> bytes:
    if subject is not None:
        document["subject"] = subject.descriptor()
    if annotations:
        document["annotations"] = annotations
    # Spaces that no serialiser of ours would write: a re-serialised manifest would not match (I5).
    return json.dumps(document, indent=1, separators=(" ,", ": ")).encode()

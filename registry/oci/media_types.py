"""Media types: those with a meaning for a registry; every other type is opaque (image-spec, "Media Types")."""

from __future__ import annotations

from typing import Final

OCI_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX: Final = "application/vnd.oci.image.index.v1+json"
DOCKER_MANIFEST: Final = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST: Final = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_SCHEMA1: Final = "application/vnd.docker.distribution.manifest.v1+json"
DOCKER_SCHEMA1_SIGNED: Final = "application/vnd.docker.distribution.manifest.v1+prettyjws"
EMPTY_JSON: Final = "application/vnd.oci.empty.v1+json"

IMAGE_MANIFESTS: Final = frozenset({OCI_MANIFEST, DOCKER_MANIFEST})
"""Manifests with a config and layers."""
INDEXES: Final = frozenset({OCI_INDEX, DOCKER_LIST})
"""Manifests with a list of manifests."""
MANIFESTS: Final = IMAGE_MANIFESTS | INDEXES
"""Everything that can be pushed to ``/manifests/``."""
SCHEMA1: Final = frozenset({DOCKER_SCHEMA1, DOCKER_SCHEMA1_SIGNED})
"""Recognised, so that the message can say that they are not supported."""

_NONDISTRIBUTABLE = (
    "application/vnd.oci.image.layer.nondistributable.",
    "application/vnd.docker.image.rootfs.foreign.",
)


def is_nondistributable(media_type: str) -> bool:
    """Whether layers of this type may be absent: OCI non-distributable and Docker foreign layers, any compression."""
    return media_type.startswith(_NONDISTRIBUTABLE)


def without_parameters(content_type: str) -> str:
    """The media type of a Content-Type header: lower-case, trimmed, without ``; charset=...`` (RFC 9110, 8.3.1)."""
    return content_type.partition(";")[0].strip().lower()

"""Manifest store: the bytes of manifests, and the rows that say what they name."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import orjson

from registry.database import blobs, manifest_bodies, manifests, references
from registry.images.blob_locations import BlobLocations, Location
from registry.images.verification import hash_reader
from registry.oci.digest import Digest
from registry.oci.errors import ManifestUnknown
from registry.storage.errors import ObjectTooLarge, PathNotFound

if TYPE_CHECKING:
    from collections.abc import Callable

    from registry.database.transaction import Transaction
    from registry.images.backends import Backends
    from registry.oci.descriptor import Descriptor
    from registry.oci.manifest import Manifest
    from registry.storage.driver import ObjectReader

T = TypeVar("T")

ATTEMPTS = 20
"""Places that are tried."""
KEPT = 256 << 10
"""Bytes of the largest manifest that the database keeps."""


class FoundManifest(NamedTuple):
    """A manifest as pushed."""

    digest: Digest
    media_type: str
    size: int
    """Bytes."""
    key: str
    """Where the bytes are on storage."""
    version: int
    """The version of the repository, read with the row."""
    leased_until: float = 0.0
    """Until when it is safe from collection, whatever names it, by this machine's ``clocks.boot``."""


class ManifestBytes:
    """Any thread, any process: what one has read or pushed, every other reads without a call to storage."""

    def __init__(self, backends: Backends) -> None:
        self._backends = backends
        self._locations = BlobLocations(backends)

    def read(self, manifest: FoundManifest) -> bytes:
        """The bytes, compared with their digest. Raises ManifestUnknown when they are lost."""
        kept = self._is_kept(manifest.size)
        if kept:
            with self._backends.database.autocommit() as connection:
                body = manifest_bodies.find(connection, manifest.digest).get()
            if body is not None and _is_right(body, manifest.digest):
                return body
        body = self._read_storage(manifest)
        if kept:
            with self._backends.database.transaction() as connection:
                manifest_bodies.keep(connection, manifest.digest, body)
        return body

    def note(self, connection: Transaction, blob_id: int, body: bytes) -> None:
        """Keep the bytes of a manifest in the transaction that puts it."""
        if self._is_kept(len(body)):
            manifest_bodies.put(connection, blob_id, body)

    def _is_kept(self, size: int) -> bool:
        return size <= KEPT and not self._backends.driver.capabilities.stat_is_local

    def open(self, manifest: FoundManifest) -> ObjectReader:
        """A reader of the bytes, compared with their digest before. A large one is never whole in memory.

        Raises ManifestUnknown when they are lost.
        """
        return self._from_places(manifest, lambda key: self._open_intact(key, manifest.digest))

    def _open_intact(self, key: str, digest: Digest) -> ObjectReader | None:
        driver = self._backends.driver.serving
        with driver.open(key) as proof:
            if hash_reader(proof, digest.algorithm) != digest:
                return None
            reader = driver.open(key)
            if reader.stat.is_same(proof.stat):
                return reader
        reader.close()
        return None

    def _read_storage(self, manifest: FoundManifest) -> bytes:
        def read(key: str) -> bytes | None:
            body, _ = self._backends.driver.serving.read(key, max_bytes=manifest.size)
            return body if _is_right(body, manifest.digest) else None

        return self._from_places(manifest, read)

    def _from_places(self, manifest: FoundManifest, read: Callable[[str], T | None]) -> T:
        """What ``read`` returns for the first location that has the bytes; None if it has other bytes."""
        location: Location | None = Location(manifest.key)
        if not self._backends.layout.per_repository:
            location = self._locations.best(manifest.digest) or location
        for _ in range(ATTEMPTS):
            if location is None:
                break
            with contextlib.suppress(PathNotFound, ObjectTooLarge):
                found = read(location.key)
                if found is not None:
                    return found
            location = self._locations.mark_lost_and_next(manifest.digest, manifest.size, location, blobs.MISSING)
        raise ManifestUnknown("the bytes of the manifest are missing or damaged on storage; push it again")


def _is_right(body: bytes, digest: Digest) -> bool:
    return Digest.of(body, digest.algorithm) == digest


def slim(manifest: Manifest) -> Manifest:
    """What ``note`` needs of a manifest, for a caller that keeps many: without most of their annotations."""
    return replace(
        manifest,
        config=_bare(manifest.config) if manifest.config is not None else None,
        layers=tuple(map(_bare, manifest.layers)),
        manifests=tuple(map(_bare, manifest.manifests)),
        subject=_bare(manifest.subject) if manifest.subject is not None else None,
        annotations=_fitting(manifest.annotations),
    )


def note(connection: Transaction, repository_id: int, blob_id: int, manifest: Manifest, *, now: float) -> None:
    """Write the rows of a manifest whose bytes are stored and verified."""
    manifests.put(
        connection,
        repository_id,
        blob_id,
        media_type=manifest.media_type,
        artifact_type=manifest.artifact_type,
        subject=manifest.subject.digest if manifest.subject else None,
        annotations=orjson.dumps(_fitting(manifest.annotations)).decode(),
        now=now,
    )
    # If a digest is named twice, the first counts.
    named = [(child.digest, references.MANIFEST) for child in manifest.children()]
    named += [(blob.digest, references.BLOB) for blob in manifest.needed_blobs()]
    named += [(blob.digest, references.OPTIONAL) for blob in manifest.named_blobs()]
    references.add(connection, repository_id, blob_id, named)


def _bare(descriptor: Descriptor) -> Descriptor:
    return replace(descriptor, annotations=None)


def _fitting(annotations: dict[str, str]) -> dict[str, str]:
    """Those that fit into MOST_ANNOTATIONS as JSON, in their order; one that does not fit is left out."""
    room = manifests.MOST_ANNOTATIONS - len("{}")
    kept = {}
    for name, value in annotations.items():
        size = len(orjson.dumps({name: value})) - 1  # its comma in place of two braces
        if size <= room:
            room -= size
            kept[name] = value
    return kept

"""What is pushed: large blobs that differ in their first bytes, and small images."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.wire import Connection, Reply, closing

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
LAYER_BYTES = (4096, 4096)
_STEP = 1 << 20
_MARK_BYTES = 32


def sha256(data: bytes) -> str:
    """Return the digest of the bytes in the spec's notation."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@dataclasses.dataclass(frozen=True, slots=True)
class LargeBlob:
    """A blob that is its own mark followed by the shared source from the mark's length on."""

    mark: bytes
    digest: str
    size: int


class Source:
    """One file in memory whose bytes every large blob shares, so that eight distinct GiB cost one."""

    def __init__(self, size: int, descriptor: int) -> None:
        """Take over the open file ``descriptor`` of ``size`` bytes."""
        self.size = size
        self.descriptor = descriptor
        self._blobs: dict[int, LargeBlob] = {}

    def blob(self, number: int) -> LargeBlob:
        """Return the blob of that number; its digest is computed at the first call."""
        if number not in self._blobs:
            mark = f"{number:0{_MARK_BYTES}d}".encode()
            running = hashlib.sha256(mark)
            for offset in range(_MARK_BYTES, self.size, _STEP):
                running.update(os.pread(self.descriptor, min(_STEP, self.size - offset), offset))
            self._blobs[number] = LargeBlob(mark, f"sha256:{running.hexdigest()}", self.size)
        return self._blobs[number]


@contextlib.contextmanager
def source(size: int) -> Iterator[Source]:
    """Make the source in shared memory (else in the temporary directory) for as long as the context lasts."""
    memory = Path("/dev/shm")  # noqa: S108 - the content is meant to be in memory and is removed at once
    with tempfile.TemporaryFile(dir=memory if memory.is_dir() else None) as file:
        noise = os.urandom(_STEP)
        for offset in range(0, size, _STEP):
            file.write(noise[: size - offset])
        file.flush()
        yield Source(size, file.fileno())


@dataclasses.dataclass(frozen=True, slots=True)
class Image:
    """A config, its layers and the manifest that names them."""

    blobs: tuple[tuple[str, bytes], ...]
    manifest: bytes


def descriptor(media_type: str, data: bytes) -> dict[str, object]:
    """Return the OCI descriptor of the bytes."""
    return {"mediaType": media_type, "digest": sha256(data), "size": len(data)}


def image(number: str, layer_bytes: Iterable[int] = LAYER_BYTES) -> Image:
    """Return an image that no other number gives: each of its blobs is distinct."""
    layers = [os.urandom(size) for size in layer_bytes]
    created = {"architecture": "amd64", "os": "linux", "config": {"Labels": {"number": number}}}
    rootfs = {"type": "layers", "diff_ids": [sha256(layer) for layer in layers]}
    config = json.dumps(created | {"rootfs": rootfs, "salt": os.urandom(16).hex()}).encode()
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": descriptor(CONFIG, config),
        "layers": [descriptor(LAYER, layer) for layer in layers],
    }
    blobs = tuple((sha256(data), data) for data in (config, *layers))
    return Image(blobs, json.dumps(manifest).encode())


def push_blob(connection: Connection, repository: str, digest: str, data: bytes) -> None:
    """Push a small blob by POST, PATCH, PUT (distribution spec, end-4a, end-5, end-6)."""
    location = connection.request("POST", f"/v2/{repository}/blobs/uploads/").expect(202).location()
    reply = connection.request("PATCH", location, data, "application/octet-stream").expect(202)
    connection.request("PUT", closing(reply.location(), digest)).expect(201)


def push_large(connection: Connection, repository: str, blob: LargeBlob, descriptor_: int) -> None:
    """Push a large blob by POST, one streamed PATCH, PUT."""
    location = connection.request("POST", f"/v2/{repository}/blobs/uploads/").expect(202).location()
    reply = connection.send_file("PATCH", location, blob.mark, descriptor_, blob.size).expect(202)
    connection.request("PUT", closing(reply.location(), blob.digest)).expect(201)


def put_manifest(connection: Connection, repository: str, reference: str, manifest: bytes) -> Reply:
    """Put the manifest under a tag or digest (distribution spec, end-7)."""
    return connection.request("PUT", f"/v2/{repository}/manifests/{reference}", manifest, MANIFEST).expect(201)


def push_image(connection: Connection, repository: str, tag: str, pushed: Image) -> None:
    """Push the three blobs one after another, then the manifest by tag: ten requests."""
    for digest, data in pushed.blobs:
        push_blob(connection, repository, digest, data)
    put_manifest(connection, repository, tag, pushed.manifest)

"""Images made without a client: OCI layouts on disk, and the walk that verifies what a manifest names."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import random
import tarfile
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_FOREIGN = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
REF_NAME = "org.opencontainers.image.ref.name"
MANIFESTS = (MANIFEST, INDEX, DOCKER_MANIFEST, DOCKER_LIST)

Descriptor = dict[str, Any]


def digest_of(data: bytes, algorithm: str = "sha256") -> str:
    """``algorithm:hex`` of the bytes."""
    return f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"


def random_bytes(size: int, seed: object = 0) -> bytes:
    """``size`` bytes that no compression makes smaller, the same for the same seed."""
    return random.Random(str(seed)).randbytes(size)


def tar(files: Mapping[str, bytes]) -> bytes:
    """An uncompressed tar archive of the files, the same bytes on every run."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            member.mode = 0o644
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


class Layout:
    """An OCI image layout in a directory, written as the image specification says."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._index: list[Descriptor] = []
        directory.mkdir(parents=True)
        (directory / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}', encoding="utf-8")
        self._write_index()

    def blob(self, data: bytes, media_type: str, **fields: Any) -> Descriptor:
        """Store the bytes and return their descriptor, with any other fields that it is to have."""
        digest = digest_of(data)
        path = blob_path(self.directory, digest)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return {"mediaType": media_type, "digest": digest, "size": len(data), **fields}

    def image(
        self,
        layers: Sequence[bytes],
        *,
        architecture: str = "amd64",
        compressed: bool = True,
        extra_layers: Sequence[Descriptor] = (),
        labels: Mapping[str, str] | None = None,
    ) -> Descriptor:
        """Store an image of these tar archives and return the descriptor of its manifest, with its platform.

        ``extra_layers`` are descriptors of layers that are not stored here, such as foreign ones.
        """
        config = {
            "architecture": architecture,
            "os": "linux",
            "config": {"Labels": dict(labels or {})},
            "rootfs": {
                "type": "layers",
                "diff_ids": [digest_of(layer) for layer in layers] + [layer["digest"] for layer in extra_layers],
            },
            "history": [{"created_by": "tests"} for _ in [*layers, *extra_layers]],
        }
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": self.blob(json.dumps(config).encode(), CONFIG),
            "layers": [self._layer(layer, compressed=compressed) for layer in layers] + list(extra_layers),
        }
        # White space and member order that no serialiser of a registry would choose.
        data = json.dumps(manifest, indent=3).encode()
        return self.blob(data, MANIFEST, platform={"architecture": architecture, "os": "linux"})

    def index(self, children: Sequence[Descriptor], media_type: str = INDEX) -> Descriptor:
        """Store an image index over the descriptors and return its own."""
        document = {"schemaVersion": 2, "mediaType": media_type, "manifests": list(children)}
        return self.blob(json.dumps(document, indent=3).encode(), media_type)

    def tag(self, name: str, descriptor: Descriptor) -> None:
        """Let the layout's index name the manifest."""
        self._index.append({**descriptor, "annotations": {REF_NAME: name}})
        self._write_index()

    def _layer(self, archive: bytes, *, compressed: bool) -> Descriptor:
        if compressed:
            return self.blob(gzip.compress(archive, 1, mtime=0), f"{LAYER}+gzip")
        return self.blob(archive, LAYER)

    def _write_index(self) -> None:
        document = {"schemaVersion": 2, "mediaType": INDEX, "manifests": self._index}
        (self.directory / "index.json").write_text(json.dumps(document), encoding="utf-8")


def blob_path(directory: Path, digest: str) -> Path:
    """Where a layout keeps the bytes of a digest."""
    algorithm, _, encoded = digest.partition(":")
    return directory / "blobs" / algorithm / encoded


def tagged(directory: Path, tag: str | None = None) -> Descriptor:
    """Return the descriptor that a layout's index has for the tag, or its only one."""
    index = json.loads((directory / "index.json").read_bytes())
    found = [entry for entry in index["manifests"] if tag is None or entry.get("annotations", {}).get(REF_NAME) == tag]
    assert len(found) == 1, f"{directory}/index.json has {len(found)} entries for {tag}: {index}"
    return cast("Descriptor", found[0])


def has_tag(directory: Path, tag: str) -> bool:
    """Tell whether a layout's index names the tag."""
    path = directory / "index.json"
    return path.exists() and any(
        entry.get("annotations", {}).get(REF_NAME) == tag for entry in json.loads(path.read_bytes())["manifests"]
    )


def content(fetch: Callable[[Descriptor], bytes], root: Descriptor) -> dict[str, int]:
    """Return digest and size of everything that a manifest reaches, itself included; each byte is hashed on the way.

    ``fetch`` returns the bytes of a descriptor. Foreign and non-distributable layers are left out.
    """
    data = fetch(root)
    algorithm = root["digest"].partition(":")[0]
    assert digest_of(data, algorithm) == root["digest"], f"{root['digest']} has other bytes"
    assert len(data) == root.get("size", len(data)), f"{root['digest']} has {len(data)} bytes, not {root['size']}"
    found = {root["digest"]: len(data)}
    if root["mediaType"] in MANIFESTS:
        for child in children(json.loads(data)):
            found |= content(fetch, child)
    return found


def children(manifest: Mapping[str, Any]) -> list[Descriptor]:
    """Return the descriptors whose bytes a registry must have for this manifest or index."""
    named = [*manifest.get("manifests", ()), *manifest.get("layers", ())]
    if "config" in manifest:
        named.append(manifest["config"])
    return [child for child in named if "foreign" not in child["mediaType"] and "nondistrib" not in child["mediaType"]]


def layout_content(directory: Path, tag: str | None = None) -> dict[str, int]:
    """Return digest and size of everything that a tag of a layout on disk reaches, each verified."""
    return content(lambda child: blob_path(directory, child["digest"]).read_bytes(), tagged(directory, tag))


def index_descriptor(directory: Path) -> Descriptor:
    """Return a descriptor of the layout's own `index.json`, which crane pushes as the image index it is."""
    data = (directory / "index.json").read_bytes()
    return {"mediaType": INDEX, "digest": digest_of(data), "size": len(data)}

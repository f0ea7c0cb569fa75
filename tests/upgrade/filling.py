"""Filling: one of everything that a registry can be given, and what a later release does to it."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from tests.support.payloads import CONFIG, Blob, Manifest, image, index

if TYPE_CHECKING:
    from tests.upgrade.writer import Writer

APP, COPY, ELSEWHERE = "library/app", "library/app/nested/copy", "team/elsewhere"
SIGNATURE, SBOM = "application/vnd.example.signature", "application/vnd.example.sbom"
DOCKER: Final = "application/vnd.docker.distribution.manifest.v2+json"
FOREIGN: Final = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
ACCEPTING: Final = {"manifests": {"missing_blobs": "accept"}}
"""The configuration that ``fill`` needs: a manifest is taken whose blobs are withheld."""


def _bytes(seed: str, size: int) -> bytes:
    return random.Random(seed).randbytes(size)


AMD, ARM, EMPTY = Blob(b'{"architecture": "amd64"}'), Blob(b'{"architecture": "arm64"}'), Blob(b"{}")
SMALL, MEDIUM, LARGE = (Blob(_bytes(name, size)) for name, size in (("s", 900), ("m", 300_000), ("l", 2_300_000)))
BY_512, PRIVATE, UNNAMED = Blob(_bytes("512", 5000), "sha512"), Blob(_bytes("private", 70_000)), Blob(b"unnamed")
HERE, UNFINISHED, NOTHING = Blob(_bytes("here", 1000)), Blob(_bytes("unfinished", 1_900_000)), Blob(b"")

ON_AMD, ON_ARM = image(AMD, [SMALL, MEDIUM, LARGE]), image(ARM, [SMALL, NOTHING])
BOTH = index([ON_AMD, ON_ARM], annotations={"org.opencontainers.image.version": "1"})
SIGNED = image(EMPTY, [], subject=ON_AMD, artifact_type=SIGNATURE, annotations={"signed": "yes"})
LISTED = image(EMPTY, [], subject=BOTH, artifact_type=SBOM)
WITHOUT_SUBJECT = image(EMPTY, [], subject=image(ARM, [LARGE]), artifact_type=SBOM)
IN_512 = image(AMD, [BY_512], algorithm="sha512")
SPARSE = image(AMD, [PRIVATE])


def _windows() -> Manifest:
    """A manifest of Docker's with foreign layers; the bytes of one are pushed all the same."""
    missing, urls = Blob(b"not here"), ["https://layers.example.org/1"]
    layers = [layer.descriptor(FOREIGN) | {"urls": urls} for layer in (HERE, missing)]
    document = {"schemaVersion": 2, "mediaType": DOCKER, "config": ARM.descriptor(CONFIG), "layers": layers}
    return Manifest(json.dumps(document).encode(), DOCKER, (ARM.digest,), artifact_type=CONFIG)


WINDOWS: Final = _windows()


def numbered(number: int, note: str = "image") -> tuple[Manifest, tuple[Blob, ...]]:
    """A small image like no other, and its blobs."""
    config, layer = Blob(json.dumps({note: number}).encode()), Blob(_bytes(f"{note}{number}", 200 + number))
    return image(config, [layer]), (config, layer)


def fill(writer: Writer) -> None:
    """Give an empty registry, configured as ``ACCEPTING``, one of everything."""
    writer.put(APP, ON_AMD, "v1", "latest", blobs=[AMD, SMALL, MEDIUM, LARGE])
    writer.put(APP, ON_ARM, blobs=[ARM, NOTHING])
    writer.put(APP, BOTH, "multi", "latest")
    for attached in (SIGNED, LISTED, WITHOUT_SUBJECT):
        writer.put(APP, attached, blobs=[EMPTY])
    writer.put(APP, IN_512, blobs=[BY_512])
    writer.put(APP, WINDOWS, "windows", foreign=[HERE])
    for number in range(4):
        made, blobs = numbered(number)
        writer.put(APP, made, f"n{number}", "moved", blobs=blobs)
    writer.delete(APP, "n0")
    writer.delete(APP, numbered(1)[0].digest)
    writer.mount(COPY, LARGE, APP)
    writer.mount(COPY, AMD, APP)
    writer.put(COPY, image(AMD, [LARGE]), "mounted")
    writer.push_blob(ELSEWHERE, PRIVATE)
    writer.put(ELSEWHERE, SPARSE, "owner", blobs=[AMD])
    writer.put(COPY, SPARSE, "sparse")
    writer.push_blob(COPY, UNNAMED)
    writer.push_blob(COPY, SMALL)
    writer.delete_blob(COPY, SMALL)
    writer.leave(COPY, UNFINISHED, 1_000_000)
    writer.leave(ELSEWHERE, replace(UNFINISHED, data=UNFINISHED.data[1:]), 5000)


def change(writer: Writer, note: str) -> None:
    """Push, move, mount and delete in a filled registry; ``note`` makes it unlike what was done before."""
    for number in range(3):
        made, blobs = numbered(number, note)
        writer.put(APP, made, f"{note}{number}", "latest", "moved", blobs=blobs)
    writer.delete(APP, f"{note}0")
    writer.delete(APP, numbered(1, note)[0].digest)
    fresh = Blob(_bytes(note, 1_200_000))
    writer.put(APP, image(AMD, [fresh, SMALL], annotations={"by": note}), f"{note}-large", blobs=[fresh])
    writer.mount(ELSEWHERE, fresh, APP)
    writer.put(ELSEWHERE, image(AMD, [fresh], subject=SPARSE, artifact_type=SBOM))
    made, blobs = numbered(0, f"{note} of a new repository")
    writer.put(f"made/by-{note}", made, "first", blobs=blobs)
    writer.leave(ELSEWHERE, Blob(_bytes(f"{note}-unfinished", 1_500_000)), 800_000)

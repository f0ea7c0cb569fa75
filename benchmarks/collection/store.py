"""A store of many small repositories, written straight to disk and into a database: half of its blobs are garbage."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import time
from contextlib import closing
from typing import TYPE_CHECKING, NamedTuple

from registry.database.schema import upgrade
from registry.storage.local.driver import LocalDriver

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

IMAGES = 10
"""Images of a repository; beside each there are as many blobs that nothing names."""
LAYERS = 3
BLOBS = IMAGES * (LAYERS + 2)
"""Blobs of a repository that are named, manifests and configs included; as many are garbage."""
LAYER_BYTES = 1000
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_BATCH = 200
"""Repositories whose rows are written at a time."""


class Blob(NamedTuple):
    """A file of a repository."""

    digest: str
    data: bytes


class Image(NamedTuple):
    """A tagged manifest, and what it names."""

    manifest: Blob
    blobs: list[Blob]


def name_of(number: int) -> str:
    """The name of a repository."""
    return f"bench/{number % 100:02}/repository-{number:05}"


def fill_directory(root: Path, repositories: int) -> None:
    """Write image layouts, which any registry serves that keeps one for each repository."""
    for number in range(repositories):
        directory = root / name_of(number)
        blobs = directory / "blobs/sha256"
        blobs.mkdir(parents=True)
        images = list(_images(number))
        for image in images:
            for blob in (image.manifest, *image.blobs):
                (blobs / blob.digest.partition(":")[2]).write_bytes(blob.data)
        for blob in _garbage(number):
            (blobs / blob.digest.partition(":")[2]).write_bytes(blob.data)
        (directory / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
        (directory / "index.json").write_text(json.dumps(_index(images)))


def fill_database(path: Path, root: Path, repositories: int) -> None:
    """Write the rows that the registry would have made of the same pushes and deletions."""
    upgrade(f"sqlite:///{path}")
    driver = LocalDriver(root, fsync=False)
    now, ids = time.time(), iter(range(1, 1 << 40))
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA synchronous=off")
        for start in range(0, repositories, _BATCH):
            for number in range(start, min(start + _BATCH, repositories)):
                etag = driver.stat(f"{name_of(number)}/index.json").etag
                _insert_repository(connection, number, etag, now, ids)
            connection.commit()
        connection.execute("ANALYZE")
        connection.commit()


def garbage_left(root: Path, repositories: int) -> int:
    """How many files there are that nothing names."""
    left = 0
    for number in range(repositories):
        left += sum(1 for _ in (root / name_of(number) / "blobs/sha256").iterdir()) - BLOBS
    return left


def _insert_repository(connection: sqlite3.Connection, number: int, etag: str, now: float, ids: Iterator[int]) -> None:
    repository, name = number + 1, name_of(number)
    connection.execute(
        "INSERT INTO repository (id, name, version, sequence, folded, signature, created_at, looked_at)"
        " VALUES (?, ?, 1, 0, 0, ?, ?, ?)",
        (repository, name, etag, now, now),
    )

    def insert(blob: Blob) -> int:
        number = next(ids)
        digest, key = blob.digest, f"{name}/blobs/sha256/{blob.digest.partition(':')[2]}"
        connection.execute(
            "INSERT INTO blob (id, algorithm, digest, size, state) VALUES (?, 'sha256', ?, ?, 'present')",
            (number, digest, len(blob.data)),
        )
        connection.execute(
            "INSERT INTO blob_location (blob_id, store, key, size, state, verified_at)"
            " VALUES (?, 'local', ?, ?, 'current', ?)",
            (number, key, len(blob.data), now),
        )
        connection.execute(
            "INSERT INTO membership (repository_id, blob_id, added_at) VALUES (?, ?, ?)", (repository, number, now)
        )
        return number

    for place, image in enumerate(_images(number)):
        manifest = insert(image.manifest)
        connection.execute(
            "INSERT INTO manifest (repository_id, blob_id, media_type, annotations, pushed_at, complete)"
            " VALUES (?, ?, ?, '{}', ?, 1)",
            (repository, manifest, _MANIFEST, now),
        )
        connection.execute("INSERT INTO tag VALUES (?, ?, ?, 0, ?)", (repository, f"v{place}", manifest, now))
        for blob in image.blobs:
            insert(blob)
            connection.execute("INSERT INTO reference VALUES (?, ?, ?, 'blob')", (repository, manifest, blob.digest))
    for blob in _garbage(number):
        insert(blob)


def _images(number: int) -> Iterator[Image]:
    for place in range(IMAGES):
        config = _blob(f'{{"image": "{number}/{place}"}}'.encode())
        layers = [_blob(_bytes(f"{number}/{place}/{layer}")) for layer in range(LAYERS)]
        yield Image(_blob(_manifest(config, layers)), [config, *layers])


def _garbage(number: int) -> Iterator[Blob]:
    return (_blob(_bytes(f"garbage {number}/{place}")) for place in range(BLOBS))


def _bytes(text: str) -> bytes:
    return (text.encode() * LAYER_BYTES)[:LAYER_BYTES]


def _blob(data: bytes) -> Blob:
    return Blob(f"sha256:{hashlib.sha256(data).hexdigest()}", data)


def _manifest(config: Blob, layers: list[Blob]) -> bytes:
    def descriptor(blob: Blob, media_type: str) -> dict[str, object]:
        return {"mediaType": media_type, "digest": blob.digest, "size": len(blob.data)}

    document = {
        "schemaVersion": 2,
        "mediaType": _MANIFEST,
        "config": descriptor(config, "application/vnd.oci.image.config.v1+json"),
        "layers": [descriptor(layer, "application/vnd.oci.image.layer.v1.tar") for layer in layers],
    }
    return json.dumps(document).encode()


def _index(images: list[Image]) -> dict[str, object]:
    return {
        "schemaVersion": 2,
        "manifests": [
            {
                "mediaType": _MANIFEST,
                "digest": image.manifest.digest,
                "size": len(image.manifest.data),
                "annotations": {"org.opencontainers.image.ref.name": f"v{place}"},
            }
            for place, image in enumerate(images)
        ],
    }

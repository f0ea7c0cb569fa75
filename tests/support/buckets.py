"""Buckets on versitygw: filled by real registries over the wire, or as files without a request for each object."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.s3.servers import S3_SERVERS
from benchmarks.servers import DOCKER_REGISTRY, Running
from tests.clients.wire import Wire
from tests.support.payloads import image
from tests.support.s3_server import REGION, S3Server
from tests.support.servers import free_port
from tests.support.source_world import AMD, NOTHING, SHARED, Repository, Tree, repositories
from tests.support.tools import tool

WITHOUT = image(AMD, [SHARED])
"""What takes the place of an image with an empty layer, where a registry cannot store that."""


def listing(store: S3Server, bucket: str) -> dict[str, tuple[int, str]]:
    client = store.client()
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
    found = {entry["Key"]: (entry["Size"], entry["ETag"]) for page in pages for entry in page.get("Contents", ())}
    client.close()
    return found


def push(address: str, content: list[Repository]) -> None:
    """Everything, children before their indexes, tags last."""
    wire = Wire(address)
    for repository in content:
        for blob in repository.blobs:
            wire.push_blob(repository.name, blob.data, "application/octet-stream")
        for manifest in sorted(repository.manifests, key=lambda made: (len(made.children), made.subject is not None)):
            wire.push_manifest(repository.name, manifest.digest, manifest.data, manifest.media_type)
        for tag, manifest in repository.tags.items():
            wire.push_manifest(repository.name, tag, manifest.data, manifest.media_type)


@contextmanager
def running(name: str, store: S3Server, bucket: str, directory: Path, *, dedupe: bool = False) -> Iterator[str]:
    """A registry of that name on a bucket: its address.

    ``dedupe``: it makes stubs, as zot does; on a bucket that has some already that work of zot's destroys data.
    """
    values = {
        "bucket": bucket, "region": REGION, "endpoint": store.endpoint, "access": store.access,
        "secret": store.secret, "redirect": "false", "streamed": "true",
    }  # fmt: skip
    server = S3_SERVERS[name]
    config = server.config if dedupe else server.config.replace('"dedupe": true', '"dedupe": false')
    made = dataclasses.replace(server, config=config, settings=(*server.settings, *values.items()))
    process = Running(made, directory)
    process.port = free_port()
    with process:
        yield f"127.0.0.1:{process.port}"


def filled_by(name: str, store: S3Server, directory: Path) -> str:
    """A bucket that a registry of that name filled, by pushes and by a copy that crane made."""
    bucket = store.new_bucket()
    with running(name, store, bucket, directory, dedupe=True) as address:
        push(address, content(name))
        crane = [str(tool("crane")), "copy", "--insecure", f"{address}/app:v1", f"{address}/copied/app:v1"]
        subprocess.run(crane, check=True, capture_output=True, timeout=300)
    return bucket


def content(name: str) -> list[Repository]:
    """What is pushed to a registry: all but the empty layer where the driver of that registry cannot store it."""
    found = repositories()
    if name == DOCKER_REGISTRY:  # 2.8.2 answers 500
        found[1].blobs.remove(NOTHING)
        found[1].tags = {"v1": WITHOUT, "stable": WITHOUT}
    return found


ETAG = "user.etag"
"""Where versitygw keeps the ETag of a file."""


def place(store: S3Server, bucket: str, trees: Iterable[Tree]) -> int:
    """Put trees into a bucket, one after the other; how many objects these are."""
    count = 0
    for tree in trees:
        for key, data in tree.items():
            path = store.data / bucket / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            os.setxattr(path, ETAG, f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}"'.encode())
            count += 1
    return count

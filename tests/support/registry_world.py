"""One storage and one database on which any number of cores, each as a process of its own, can be opened."""

from __future__ import annotations

import atexit
import contextlib
import functools
import itertools
import json
import shutil
import sqlite3
import tempfile
import time
import uuid
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from registry.database.engine import Database
from registry.database.schema import upgrade, upgrade_database
from registry.images.backends import Backends, Policy
from registry.images.registry import Registry
from registry.oci.digest import Digest
from registry.oci.index import Index
from registry.storage.driver import StorageDriver
from registry.storage.local.driver import LocalDriver
from registry.storage.memory import MemoryDriver
from registry.storage.s3.driver import S3Driver
from tests.storage.drivers import s3_settings
from tests.support.payloads import Blob, Manifest, image

KINDS = ["local", "memory"]
REAL = "s3"
"""The kind over a real server, of which each world has a root of its own in one bucket."""
REAL_KIND = pytest.param(REAL, marks=[pytest.mark.stores, pytest.mark.tools("versitygw")])
"""A row of parameters."""
NAME = "team/app"
ACTOR = "tester"


class Clock:
    """Time that passes when a test says so."""

    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now


@dataclass
class Pushed:
    """An image and what it is made of."""

    manifest: Manifest
    config: Blob
    layer: Blob

    @property
    def digest(self) -> Digest:
        """The digest of the manifest."""
        return Digest.parse(self.manifest.digest)


class World:
    """What outlives a process."""

    def __init__(self, directory: Path, kind: str, url: str | None = None) -> None:
        self.root = directory / "root"
        self.kind = kind
        self.url = url or f"sqlite:///{directory / 'cache.db'}"
        self.clock = Clock()
        self.policy = Policy()
        self._memory = MemoryDriver()
        self._s3: S3Driver | None = None
        self._registries: list[Registry] = []

    def driver(self) -> StorageDriver:
        """The storage as a new process sees it."""
        if self.kind == REAL:  # one for all processes: it remembers nothing, and making a client takes long
            self._s3 = self._s3 or S3Driver(s3_settings(), f"world-{uuid.uuid4().hex}")
            return self._s3
        return LocalDriver(self.root, fsync=False) if self.kind == "local" else self._memory

    def registry(self, *, driver: StorageDriver | None = None, url: str | None = None, **policy: Any) -> Registry:
        """A new process: it remembers nothing."""
        url = url or self.url
        path = Path(url.removeprefix("sqlite:///"))
        if url.startswith("sqlite") and not path.exists():
            shutil.copyfile(_template(), path)  # migrating each from nothing would take most of the time
        database = Database(url)
        upgrade_database(database)
        backends = Backends(driver or self.driver(), database, replace(self.policy, **policy), clock=self.clock)
        registry = Registry(backends)
        self._registries.append(registry)
        return registry

    def copy(self, directory: Path) -> World:
        """The same objects in memory and the same rows, without a process, after ``close``."""
        made = World(directory, self.kind)
        made.clock.now, made.policy = self.clock.now, self.policy
        made._memory._objects.update(self._memory._objects)
        made._memory._generations = itertools.count(next(self._memory._generations))
        ours, theirs = (Path(world.url.removeprefix("sqlite:///")) for world in (self, made))
        if ours.exists():
            shutil.copyfile(ours, theirs)
        return made

    def close(self) -> None:
        """End every process."""
        for registry in self._registries:
            registry.close()


@functools.cache
def _template() -> Path:
    """A database with the newest schema and nothing in it."""
    path = Path(tempfile.mkdtemp(prefix="stowage-template-")) / "cache.db"
    upgrade(f"sqlite:///{path}")
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    atexit.register(shutil.rmtree, path.parent)
    return path


def push_blob(registry: Registry, data: bytes, name: str = NAME, algorithm: str = "sha256") -> Digest:
    """Upload a blob as a client does."""
    digest = Digest.of(data, algorithm)
    upload = registry.uploads.start(name)
    with registry.uploads.open(name, upload, 0) as addition:
        addition.write(data)
        registry.uploads.finish(addition, digest)
    return digest


def make_image(text: str, **more: Any) -> Pushed:
    """An image that no other text gives."""
    config, layer = Blob(f"config {text}".encode()), Blob(f"layer {text}".encode())
    return Pushed(image(config, [layer], **more), config, layer)


def push_manifest(registry: Registry, manifest: Manifest, *tags: str, name: str = NAME) -> Digest:
    """Put a manifest whose blobs are there."""
    digest = Digest.parse(manifest.digest)
    return registry.manifests.put(
        name, manifest.data, manifest.media_type, digest=digest, tags=tags, actor=ACTOR
    ).digest


def push_image(registry: Registry, text: str, *tags: str, name: str = NAME, **more: Any) -> Pushed:
    """Push a whole image."""
    made = make_image(text, **more)
    push_blob(registry, made.config.data, name)
    push_blob(registry, made.layer.data, name)
    push_manifest(registry, made.manifest, *tags, name=name)
    return made


def pull(registry: Registry, reference: str, name: str = NAME) -> Digest:
    """Pull a whole image, hashing all of it; the digest of its manifest."""
    target = Digest.parse(reference) if ":" in reference else reference
    found = registry.manifests.find(name, target)
    document = json.loads(registry.manifests.read(found))
    for descriptor in [document["config"], *document["layers"]]:
        digest = Digest.parse(descriptor["digest"])
        assert Digest.of(pull_blob(registry, digest, name), digest.algorithm) == digest
    return found.digest


def pull_blob(registry: Registry, digest: Digest, name: str = NAME) -> bytes:
    """The bytes of a blob, looked up as HEAD does and read as GET does."""
    registry.blobs.find(name, digest)
    with registry.blobs.read(registry.blobs.open(name, digest)) as reader:
        return reader.read(1 << 20)


def tags(registry: Registry, name: str = NAME) -> list[str]:
    """All tags."""
    return registry.manifests.tags(name, last="", count=1000)[0]


def read_index(registry: Registry, name: str = NAME) -> Index:
    """What an outside tool reads from storage; every manifest and blob that it names is there, with its bytes."""
    driver, layout = registry.backends.driver, registry.backends.layout
    index = Index.parse(driver.read(layout.index(name), max_bytes=1 << 20)[0])
    assert driver.read(layout.marker(name), max_bytes=100)[0]
    waiting = list(index.manifests())
    while waiting:
        digest = waiting.pop()
        body = driver.read(layout.blob(name, digest), max_bytes=1 << 20)[0]
        assert Digest.of(body, digest.algorithm) == digest
        document = json.loads(body) if b"schemaVersion" in body else {}
        named = [document.get("config"), *document.get("layers", []), *document.get("manifests", [])]
        waiting += [Digest.parse(descriptor["digest"]) for descriptor in named if descriptor]
    return index


def write_index(registry: Registry, index: Index, name: str = NAME) -> None:
    """Replace ``index.json`` as an outside tool does."""
    registry.backends.driver.write(registry.backends.layout.index(name), index.serialise())

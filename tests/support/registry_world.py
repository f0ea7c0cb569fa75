"""One storage and one database on which any number of cores, each as a process of its own, can be opened."""

from __future__ import annotations

import itertools
import json
import sqlite3
import time
import uuid
from collections.abc import Callable
from contextlib import closing
from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import pytest

from registry.clocks import Clocks
from registry.database import blobs
from registry.database.engine import Database
from registry.images.backends import Backends, Policy
from registry.images.registry import Registry
from registry.oci.digest import Digest
from registry.oci.errors import ManifestUnknown
from registry.oci.index import Index
from registry.storage.driver import StorageDriver
from registry.storage.gcs.driver import GcsDriver
from registry.storage.local.driver import LocalDriver
from registry.storage.memory import MemoryDriver
from registry.storage.s3.driver import S3Driver
from tests.storage.drivers import s3_settings
from tests.storage.gcs.store import open_store
from tests.support import server_clock
from tests.support.payloads import Blob, Manifest, image
from tests.support.postgresql import Cluster
from tests.support.sqlite import create_current

KINDS = ["local", "memory"]
PROMPT = "prompt"
"""The kind in memory whose deletes name a version, so that none of them comes late."""
REAL = "s3"
"""The kind over a real server, of which each world has a root of its own in one bucket."""
REAL_KIND = pytest.param(REAL, marks=[pytest.mark.stores, pytest.mark.tools("versitygw")])
"""A row of parameters."""
REPLICAS = "s3-postgresql"
"""The kind over that server and PostgreSQL, whose processes come in pairs: what one does, the other sees."""
POSTGRESQL_PROGRAMS = ("initdb", "pg_ctl", "postgres")
REPLICAS_KIND = pytest.param(
    REPLICAS, marks=[pytest.mark.stores, pytest.mark.tools("versitygw", *POSTGRESQL_PROGRAMS)], id=REPLICAS
)
"""A row of parameters."""
GCS = "gcs"
"""The kind over a real server of the other protocol, of which each world has a bucket."""
GCS_KIND = pytest.param(GCS, marks=[pytest.mark.stores, pytest.mark.tools("fake-gcs-server")])
"""A row of parameters."""
NAME = "team/app"
ACTOR = "tester"


TICK = 2.0**-20
"""Seconds that pass between two looks at the clock of a machine."""


class Clock:
    """Time that passes when a test says so, also on database servers."""

    def __init__(self) -> None:
        self._now = time.time()
        self._servers: list[str] = []

    def __call__(self) -> float:
        return self._now

    @property
    def now(self) -> float:
        """Seconds since the epoch."""
        return self._now

    @now.setter
    def now(self, moment: float) -> None:
        self._now = moment
        for url in self._servers:
            server_clock.set_to(url, moment)

    def rule(self, url: str) -> None:
        """Give the time of what PostgreSQL does in a database with a clock, or a copy of one, from now on."""
        server_clock.use(url)
        server_clock.set_to(url, self._now)
        self._servers.append(url)


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


_OTHERS: WeakKeyDictionary[Registry, Registry] = WeakKeyDictionary()


def other(registry: Registry) -> Registry:
    """The process beside one, over the same storage and database; where there is none, the same one."""
    return _OTHERS.get(registry, registry)


def _files(directory: Path) -> Callable[[], str]:
    numbers = itertools.count()
    return lambda: f"sqlite:///{directory / f'another-{next(numbers)}.db'}"


def open_world(request: pytest.FixtureRequest, directory: Path, kind: str, *, postgresql: bool = False) -> World:
    """Make the world of a fixture; that of replicas is over PostgreSQL, and any other that has to be."""
    if not postgresql and kind != REPLICAS:
        return World(directory, kind)
    cluster: Cluster = request.getfixturevalue("cluster")
    databases = request.getfixturevalue("new_database_with_clock" if kind == REPLICAS else "new_database")
    return World(directory, kind, databases=databases, copied=cluster.copy)


class World:
    """What outlives a process."""

    def __init__(
        self,
        directory: Path,
        kind: str,
        url: str | None = None,
        *,
        databases: Callable[[], str] | None = None,
        copied: Callable[[str], str] | None = None,
    ) -> None:
        """``databases`` makes new ones, with a clock for replicas, and ``copied`` copies; else they are SQLite's."""
        self.root = directory / "root"
        self.kind = kind
        self.clock = Clock()
        self._databases = databases or _files(directory)
        self._copied = copied
        self.url = url or (self.another() if databases else f"sqlite:///{directory / 'cache.db'}")
        self.policy = Policy()
        self.boot_id = "first"
        self.booted_at = 0.0
        self._memory = MemoryDriver()
        if kind == PROMPT:
            self._memory.capabilities = replace(self._memory.capabilities, late_deletes=False)
        self._s3: S3Driver | None = None
        self._gcs: GcsDriver | None = None
        self._registries: list[Registry] = []

    def driver(self) -> StorageDriver:
        """The storage as a new process sees it."""
        if self.kind in {REAL, REPLICAS}:  # one for all processes: it remembers nothing, and making a client takes long
            self._s3 = self._s3 or S3Driver(s3_settings(), f"world-{uuid.uuid4().hex}")
            return self._s3
        if self.kind == GCS:
            self._gcs = self._gcs or open_store(self.root)
            return self._gcs
        return LocalDriver(self.root, fsync=False) if self.kind == "local" else self._memory

    def another(self) -> str:
        """The URL of a new database, for a process that knows nothing of the storage."""
        url = self._databases()
        if self.kind == REPLICAS:
            self.clock.rule(url)
        return url

    def clocks(self, *, skew: float = 0.0) -> Clocks:
        """The clocks of a process that starts now; its wall clock is wrong by ``skew`` seconds."""
        booted_at = self.booted_at
        ticks = itertools.count()  # as time passes: rows that one statement reads are not read at one moment
        return Clocks(
            lambda: self.clock.now + skew, lambda: self.clock.now - booted_at + next(ticks) * TICK, self.boot_id
        )

    def reboot(self) -> None:
        """Start the machine anew, for the processes that come."""
        self.boot_id, self.booted_at = uuid.uuid4().hex, self.clock.now

    def registry(
        self,
        *,
        driver: StorageDriver | None = None,
        url: str | None = None,
        clocks: Clocks | None = None,
        **policy: Any,
    ) -> Registry:
        """A new process, which remembers nothing; where the kind is one of replicas, with another beside it."""
        made = self._process(driver, url or self.url, clocks, policy)
        if self.kind == REPLICAS and clocks is None:
            _OTHERS[made] = self._process(driver, url or self.url, None, policy)
        return made

    def _process(
        self, driver: StorageDriver | None, url: str, clocks: Clocks | None, policy: dict[str, Any]
    ) -> Registry:
        path = Path(url.removeprefix("sqlite:///"))
        if url.startswith("sqlite"):
            create_current(path)
        database = Database(url, clocks=clocks or self.clocks())
        backends = Backends(
            driver or self.driver(), database, replace(self.policy, **policy), clock=database.clocks.wall
        )
        registry = Registry(backends)
        self._registries.append(registry)
        return registry

    def copy(self, directory: Path) -> World:
        """The same objects and rows without a process, as if each had been killed now; in a bucket after ``close``."""
        if self._copied is not None:
            return self._copy_in_bucket(directory, self._copied)
        made = World(directory, self.kind)
        made.clock.now, made.policy = self.clock.now, self.policy
        made._memory._objects.update(self._memory._objects)
        made._memory._uploads.update(
            {name: replace(upload, data=upload.data[:], busy=False) for name, upload in self._memory._uploads.items()}
        )
        made._memory._generations = copy(self._memory._generations)
        ours, theirs = (Path(world.url.removeprefix("sqlite:///")) for world in (self, made))
        if ours.exists():
            with closing(sqlite3.connect(ours)) as source, closing(sqlite3.connect(theirs)) as target:
                source.backup(target)
        return made

    def _copy_in_bucket(self, directory: Path, copied: Callable[[str], str]) -> World:
        """Copy objects one by one, whose etags are those of the same bytes."""
        made = World(directory, self.kind, copied(self.url), databases=self._databases, copied=copied)
        made.clock.now, made.policy = self.clock.now, self.policy
        made.clock.rule(made.url)
        source, target = self.driver(), made.driver()
        for key, stat in source.list(""):
            target.write(key, source.read(key, max_bytes=stat.size)[0])
        return made

    def close(self) -> None:
        """End every process that has not ended."""
        while self._registries:
            self._registries.pop().close()


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
    """Pull a whole image, hashing all of it, from each replica; the digest of its manifest."""
    found = _pull(registry, reference, name)
    assert _pull(other(registry), reference, name) == found
    return found


def _pull(registry: Registry, reference: str, name: str) -> Digest:
    target = Digest.parse(reference) if ":" in reference else reference
    found = registry.manifests.find(name, target)
    document = json.loads(registry.manifests.read(found))
    for descriptor in [document["config"], *document["layers"]]:
        digest = Digest.parse(descriptor["digest"])
        assert Digest.of(pull_blob(registry, digest, name), digest.algorithm) == digest
    return found.digest


def is_there(registry: Registry, manifest: Manifest, name: str = NAME) -> bool:
    """Whether a manifest can be pulled by its digest, from each replica."""
    found = {_is_there(each, manifest, name) for each in (registry, other(registry))}
    assert len(found) == 1, "replicas differ"
    return found.pop()


def _is_there(registry: Registry, manifest: Manifest, name: str) -> bool:
    try:
        return bool(registry.manifests.find(name, Digest.parse(manifest.digest)))
    except ManifestUnknown:
        return False


def pull_blob(registry: Registry, digest: Digest, name: str = NAME) -> bytes:
    """The bytes of a blob, looked up as HEAD does and read as GET does."""
    registry.blobs.find(name, digest)
    with registry.blobs.read(registry.blobs.open(name, digest)) as reader:
        return reader.read(1 << 20)


def leased_until(registry: Registry, digest: Digest) -> float:
    """When a blob's lease ends, by the clock that its database goes by."""
    with registry.backends.database.snapshot() as connection:
        row = blobs.find(connection, digest).get()
    assert row is not None
    return registry.backends.database.clocks.boot() + row.lease_left


def at(moment: float) -> object:
    """Equal to that moment, but for the seconds that a busy machine may need between a look and the clock."""
    return pytest.approx(moment, abs=10)


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

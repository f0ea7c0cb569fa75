"""A store in memory with a directory in front, and what the tests of the tier look at."""

from __future__ import annotations

import hashlib
import os
import random
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from registry.storage.driver import ObjectStat, StorageDriver
from registry.storage.memory import MemoryDriver
from registry.storage.middleware.faults import FaultyDriver
from registry.storage.middleware.tiered.directory import CacheDirectory
from registry.storage.middleware.tiered.driver import TieredDriver
from registry.storage.middleware.tiered.observer import CacheObserver, Tier

MOST = 64 << 20


class Blob(NamedTuple):
    """Bytes and where a store has them."""

    data: bytes
    digest: str
    key: str


def blob(size: int, seed: int = 1) -> Blob:
    """Bytes that no test compresses."""
    data = random.Random(seed).randbytes(size)
    digest = hashlib.sha256(data).hexdigest()
    return Blob(data, digest, f"storage/blobs/sha256/{digest}")


@dataclass
class Counts:
    """See CacheCounter."""

    counts: Counter[tuple[str, ...]] = field(default_factory=Counter)

    def add_get(self, tier: str, result: str) -> None:
        self.counts["get", tier, result] += 1

    def add_put(self, tier: str, result: str) -> None:
        self.counts["put", tier, result] += 1

    def add_bytes(self, tier: str, direction: str, count: int) -> None:
        self.counts["bytes", tier, direction] += count

    def add_error(self, tier: str) -> None:
        self.counts["error", tier] += 1


class Time:
    """A monotonic clock that goes on when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class World:
    """A store whose calls are counted, and directories that its clients share."""

    def __init__(self, path: Path, *, most: int = MOST, inner: StorageDriver | None = None) -> None:
        self.path = path
        self.counts = Counts()
        self.time = Time()
        self.store = FaultyDriver(inner or MemoryDriver())
        self.blobs = self.directory("blob", path / "blobs", most)
        self.metadata = self.directory("metadata", path / "metadata", most)
        self.driver = TieredDriver(self.store, blobs=self.blobs, metadata=self.metadata)

    def directory(self, tier: Tier, path: Path, most: int = MOST) -> CacheDirectory:
        """A directory as this process has it."""
        return CacheDirectory(path, most, CacheObserver(tier, self.counts), clock=self.time)

    @property
    def asked(self) -> int:
        """How often the store was asked for bytes."""
        return self.store.calls["open"] + self.store.calls["read"]

    def put(self, each: Blob) -> ObjectStat:
        """Give the store an object, past the tier."""
        return self.store.inner.write(each.key, each.data)

    def read(self, each: Blob, *, offset: int = 0, length: int | None = None, step: int = 1 << 20) -> bytes:
        """What a client gets."""
        with self.driver.serving.open(each.key, offset=offset, length=length) as reader:
            return b"".join(iter(lambda: reader.read(step), b""))

    def file(self, each: Blob) -> Path:
        """Where the bytes are kept."""
        return self.path / "blobs" / each.digest[:2] / each.digest

    def files(self) -> list[Path]:
        """Every file of the directory of blobs but the count."""
        return [path for path in (self.path / "blobs").rglob("*") if path.is_file() and path.name != ".bytes"]

    def used(self) -> int:
        """Bytes that these take."""
        return sum(path.stat().st_blocks * 512 for path in self.files())


def damage(path: Path, position: int) -> None:
    """Turn the bits of one byte of a file, which keeps its times."""
    before = path.stat()
    with path.open("r+b") as file:
        file.seek(position)
        byte = file.read(1)[0]
        file.seek(position)
        file.write(bytes([byte ^ 0xFF]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

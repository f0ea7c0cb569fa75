"""A registry whose objects can be damaged, and scrubs of it that wait for nothing."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

from registry.config.scrub_sections import ScrubSettings
from registry.database import blob_locations
from registry.images.registry import Registry
from registry.maintenance.scrub.report import ScrubReport
from registry.maintenance.scrub.run import ScrubRun
from registry.oci.digest import Digest
from registry.storage.memory import MemoryDriver
from tests.support.registry_world import NAME, World, other

FAST = ScrubSettings(rate=1 << 40, requests=1e9)


def scrub(registry: Registry, settings: ScrubSettings = FAST, **options: Any) -> ScrubReport:
    """One run, by the other replica."""
    return ScrubRun(other(registry), settings, **options).run()


def key_of(registry: Registry, digest: Digest | str, name: str = NAME) -> str:
    """Where a repository has a blob."""
    return registry.backends.layout.blob(name, Digest(digest))


def flip(world: World, key: str) -> None:
    """Change the first byte of an object, as a disk does: its etag, size and times stay."""
    driver = world.driver()
    if isinstance(driver, MemoryDriver):
        data, stat = driver._objects[key]
        driver._objects[key] = bytes([data[0] ^ 1]) + data[1:], stat
        return
    if world.kind == "local":
        flip_file(world.root / key)
        return
    body, _ = driver.read(key, max_bytes=1 << 20)
    driver.write(key, bytes([body[0] ^ 1]) + body[1:])


def flip_file(path: Path) -> None:
    """Change the first byte of a file; its times stay."""
    before = path.stat()
    with path.open("r+b") as file:
        first = file.read(1)
        file.seek(0)
        file.write(bytes([first[0] ^ 1]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def state_of(registry: Registry, key: str) -> str | None:
    """The state of a location; None if none is noted."""
    with registry.backends.database.autocommit() as connection:
        row = blob_locations.find(connection, registry.backends.driver.name, key).get()
    return row.state if row is not None else None


class StopAfter(threading.Event):
    """An event that sets itself when it was looked at so often."""

    def __init__(self, looks: int) -> None:
        super().__init__()
        self._looks = looks

    def is_set(self) -> bool:
        """See threading.Event."""
        self._looks -= 1
        if self._looks < 0:
            self.set()
        return super().is_set()

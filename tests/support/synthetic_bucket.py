"""Synthetic bucket: of any size and in no memory, its listing and objects are computed. As a program it reviews one.

    python -m tests.support.synthetic_bucket per-repository|distribution REPOSITORIES LAYERS

prints one JSON document: objects, problems, peak memory in MiB, and seconds.
"""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING

from registry.config.settings import Settings
from registry.migration.review.requests import Tally
from registry.migration.review.review import Options, Review
from registry.storage.driver import ObjectReader, ObjectStat
from registry.storage.errors import PathNotFound
from registry.storage.memory import MemoryDriver
from registry.storage.middleware.metrics import MeasuredDriver
from tests.support.payloads import Blob, image
from tests.support.peak import peak_bytes
from tests.support.source_world import Repository, Tree, distribution, per_repository

if TYPE_CHECKING:
    from collections.abc import Iterator

CONFIG = Blob(b"{}")
MAKERS = {"per-repository": per_repository, "distribution": distribution}


class Synthetic(MemoryDriver):
    """One image of so many layers in each repository; only one repository is in memory at a time."""

    def __init__(self, kind: str, repositories: int, layers: int) -> None:
        super().__init__()
        self._make = MAKERS[kind]
        self._layers = layers
        self._listed: list[tuple[str, int, int]] = []
        """The key, the repository and the size of each object."""
        seen = set()
        for number in range(repositories):
            for key, data in self._tree(number).items():
                if key not in seen:
                    self._listed.append((key, number, len(data)))
                    seen.add(key)
        self._listed.sort()
        self._places = {key: number for key, number, _ in self._listed}

    def _tree(self, number: int) -> Tree:
        layers = [Blob(f"layer {layer} of {number}".encode()) for layer in range(self._layers)]
        blobs = [CONFIG, *layers]
        return self._make([Repository(f"team/app-{number:05}", {"v1": image(CONFIG, layers)}, [], blobs)])

    def list(self, prefix: str, *, after: str = "") -> Iterator[tuple[str, ObjectStat]]:
        """See StorageDriver."""
        return ((key, ObjectStat(size, f'"{number:032x}"', 0.0)) for key, number, size in self._listed)

    def read(self, key: str, *, max_bytes: int) -> tuple[bytes, ObjectStat]:
        """See StorageDriver."""
        if key not in self._places:
            raise PathNotFound(key)
        data = self._tree(self._places[key])[key]
        return data, ObjectStat(len(data), f'"{self._places[key]:032x}"', 0.0)

    def open(self, key: str, *, offset: int = 0, length: int | None = None) -> ObjectReader:
        """See StorageDriver."""
        raise NotImplementedError(key, offset, length)


def main(kind: str, repositories: int, layers: int) -> None:
    """Review, and print what it took."""
    driver, tally = Synthetic(kind, repositories, layers), Tally()
    before = peak_bytes() >> 20
    storage = {"driver": "s3", "root_directory": "/", "s3": {"bucket": "b"}}
    settings = Settings(storage=storage)  # type: ignore[arg-type]
    began = time.perf_counter()
    plan = Review(MeasuredDriver(driver, tally.observe), settings, Options(), tally).run()
    seconds = round(time.perf_counter() - began, 1)
    peak = peak_bytes() >> 20
    found = {"objects": plan.listed, "blobs": plan.counts.blobs, "repositories": plan.counts.repositories}
    print(json.dumps(found | {"problems": len(plan.problems), "mib": peak, "before": before, "seconds": seconds}))  # noqa: T201 - a program


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))

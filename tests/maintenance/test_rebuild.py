"""Several processes fill one PostgreSQL database from storage at the same time."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from registry.database import repositories
from registry.maintenance.rebuild import RebuildReport, rebuild_registry
from tests.support.payloads import Blob, image
from tests.support.postgresql import Cluster
from tests.support.registry_world import World, pull, push_blob, push_manifest

LAYERS = 40
PROCESSES = 4


@pytest.mark.tools("initdb", "pg_ctl", "postgres")
def test_repositories_with_the_same_blobs_are_read_at_once_and_no_thread_waits_for_ever(
    tmp_path: Path, cluster: Cluster
) -> None:
    """One names the blobs in the other's reverse order: rows are written in an order that is the same for all."""
    world = World(tmp_path, "memory", cluster.create())
    first = world.registry()
    layers = [Blob(f"layer {number}".encode()) for number in range(LAYERS)]
    names = {"a/forth": layers, "b/back": layers[::-1]}
    for name, ordered in names.items():
        config = Blob(name.encode())  # each its own: the first to take a common one would keep the rest out
        for blob in (config, *layers):
            push_blob(first, blob.data, name)
        for number in range(5):
            made = image(config, ordered, annotations={"number": str(number)})
            push_manifest(first, made, f"v{number}", name=name)
    first.fold_waiting()

    for _ in range(3):
        world.url = cluster.create()
        registries, ready = [world.registry() for _ in range(PROCESSES)], Barrier(PROCESSES)

        def fill(number: int) -> RebuildReport:
            ready.wait()  # noqa: B023 - called at once
            registry = registries[number]  # noqa: B023
            for name in list(names)[:: 1 if number % 2 else -1]:
                registry.repositories.touch(name)
            return rebuild_registry(registry)

        with ThreadPoolExecutor(PROCESSES) as pool:
            reports = list(pool.map(fill, range(PROCESSES)))
        assert [report.problems for report in reports] == [[]] * PROCESSES
        for name in names:
            pull(registries[0], "v4", name)
            with registries[0].backends.database.autocommit() as connection:
                row = repositories.find(connection, name).get()
            assert row is not None
            assert not row.is_unread
    world.close()

"""How often a push waits for a database far away: a figure that only a decision may raise."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from registry.database.postgresql.pipeline import Pipeline
from registry.images.registry import Registry
from registry.oci.digest import Digest
from tests.support.payloads import Blob, image
from tests.support.postgresql import Cluster
from tests.support.registry_world import ACTOR, NAME, REAL, World

pytestmark = [pytest.mark.stores, pytest.mark.tools("versitygw", "initdb", "pg_ctl", "postgres")]


@pytest.fixture
def registry(tmp_path: Path, cluster: Cluster) -> Iterator[Registry]:
    """One process over S3 and PostgreSQL."""
    world = World(tmp_path, REAL, cluster.create_current())
    yield world.registry()
    world.close()


class Waits(Counter[str]):
    """Waits for the database, by what was done."""

    doing = ""


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> Waits:
    """Counted from here on."""
    counted = Waits()
    take = Pipeline._take_results

    def counting(pipeline: Pipeline) -> Any:
        counted[counted.doing] += 1
        return take(pipeline)

    monkeypatch.setattr(Pipeline, "_take_results", counting)
    return counted


def push(registry: Registry, waits: Waits, seed: str) -> None:
    """An image, as a client pushes it: POST, PATCH and PUT for each blob, then the manifest."""
    config, layer = Blob(f"config {seed}".encode()), Blob(f"layer {seed}".encode())
    manifest = image(config, [layer])
    for blob in (config, layer):
        digest = Digest.parse(blob.digest)
        waits.doing = "POST"
        upload = registry.uploads.start(NAME)
        waits.doing = "PATCH"
        with registry.uploads.open(NAME, upload, None) as addition:
            addition.write(blob.data)
            addition.commit()
        waits.doing = "PUT"
        with registry.uploads.open(NAME, upload, None, digest, at_once=True) as addition:
            registry.uploads.finish(addition, digest)
    waits.doing = "manifest"
    registry.manifests.put(NAME, manifest.data, manifest.media_type, digest=None, tags=[seed], actor=ACTOR)
    waits.doing = "fold"
    registry.fold_waiting()


def test_a_push_waits_for_the_database_no_more_often_than_was_decided(registry: Registry, waits: Waits) -> None:
    push(registry, waits, "first")
    waits.clear()
    push(registry, waits, "second")
    assert waits == {"POST": 2 * 1, "PATCH": 2 * 2, "PUT": 2 * 3, "manifest": 4, "fold": 4}

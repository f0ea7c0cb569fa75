"""A whole migration of many blobs, as its commands: in bounded memory, and at how many objects a second."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.replicas.conftest import Config
from tests.soak.budget import FULL, budget
from tests.support.buckets import place
from tests.support.migrated_bucket import MAKE
from tests.support.payloads import Blob, image
from tests.support.s3_server import S3Server
from tests.support.source_world import Repository, Tree

pytestmark = [
    pytest.mark.soak if FULL else pytest.mark.stores,
    pytest.mark.tools("versitygw"),
    pytest.mark.timeout(3600 if FULL else 400),
]

REPOSITORIES = budget(sample=40, full=2000)
LAYERS = budget(sample=20, full=50)
"""Of the image of each repository."""
SHARED = Blob(b"the layer of all of them")
MOST_BYTES = 300 << 20
SECONDS = 1800 if FULL else 100
ROOT = Path(__file__).parents[2]


def trees(layout: str) -> Iterator[Tree]:
    """Of one repository after the other, each with a configuration and layers of its own and one that all share."""
    for number in range(REPOSITORIES):
        config = Blob(f'{{"number": {number}}}'.encode())
        layers = [SHARED, *(Blob(f"layer {layer} of {number}".encode()) for layer in range(LAYERS - 1))]
        tree = MAKE[layout]([Repository(f"team/app-{number:05}", {"v1": image(config, layers)}, [], [config, *layers])])
        root = "zot/" if layout == "zot" else ""
        yield {root + key: data for key, data in tree.items()}


@pytest.mark.parametrize("layout", ["zot", "distribution"])
def test_a_migration_of_any_size_needs_less_than_300_mib(
    layout: str, store: S3Server, config: Config, tmp_path: Path
) -> None:
    bucket = store.new_bucket()
    config["storage"] = store.storage(bucket) | {"root_directory": "zot" if layout == "zot" else "/"}
    file, plan = tmp_path / "config.json", str(tmp_path / "plan")
    file.write_text(json.dumps(config))
    objects = place(store, bucket, trees(layout))
    blobs = REPOSITORIES * (LAYERS + 1) + 1  # each with its manifest
    phases = {
        "review": ("--dry-run", "--plan", plan),
        "adopt": ("--adopt-only", "--plan", plan),
        "consolidate": (),
        "pass": (),
        "rollback": ("--rollback",),
    }
    states = {}
    for phase, options in phases.items():
        began = time.perf_counter()
        document, peak = measured(file, tmp_path / "peak", *options)
        seconds = time.perf_counter() - began
        rate = f"{seconds:.1f} s, {objects / seconds:.0f} objects/s, {blobs / seconds:.0f} blobs/s, {peak >> 20} MiB"
        print(f"{layout} {phase}: {objects} objects, {blobs} blobs: {rate}")  # noqa: T201 - what this test measures
        assert document["problems"] == []
        assert peak < MOST_BYTES, phase
        states[phase] = document.get("state")
        if phase == "consolidate":
            assert document["counts"]["copied"] == blobs
    assert list(states.values()) == [None, "adopted", "consolidated", "consolidated", "rolled-back"]


def measured(config: Path, peak: Path, *options: str) -> tuple[dict[str, Any], int]:
    """What the command says, which must succeed, and the most memory that it had, in bytes."""
    command = ["migrate-s3-storage", "--config", str(config), "--json", *options]
    run = [sys.executable, "-m", "tests.support.peak", str(peak), *command]
    done = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, check=False, timeout=SECONDS)
    assert done.returncode == 0, (done.stdout[-3000:], done.stderr[-3000:])
    return json.loads(done.stdout), int(peak.read_text())

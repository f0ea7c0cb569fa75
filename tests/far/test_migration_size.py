"""Two thousand blobs, there and back: memory that does not grow with the bucket, and objects a second."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.far.conftest import Config
from tests.migration.test_registries import many
from tests.migration.world import distribution, per_repository
from tests.stores.s3_server import S3Server

pytestmark = [pytest.mark.stores, pytest.mark.tools("versitygw")]

ROOT = Path(__file__).parents[2]
MOST = 300 << 20
"""Bytes that a command may have in memory."""


def measured(directory: Path, *options: str) -> tuple[dict[str, Any], int, float]:
    """The document, the most memory that the command had, and its seconds."""
    peak, config = directory / "peak", directory / "config.json"
    command = [sys.executable, "-m", "tests.migration.peak", str(peak), "migrate-s3-storage", "--config", str(config)]
    began = time.perf_counter()
    done = subprocess.run(
        [*command, "--json", *options], cwd=ROOT, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr[-2000:] + done.stdout[-2000:]
    return json.loads(done.stdout), int(peak.read_text()), time.perf_counter() - began


@pytest.mark.parametrize("make", [per_repository, distribution], ids=["per-repository", "distribution"])
def test_two_thousand_blobs_there_and_back_in_bounded_memory(
    make: Any, store: S3Server, config: Config, tmp_path: Path
) -> None:
    bucket = store.new_bucket()
    tree = make(many(40, 50))
    client = store.client(max_pool_connections=16)
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda item: client.put_object(Bucket=bucket, Key=item[0], Body=item[1]), tree.items()))
    client.close()
    config["storage"] = store.storage(bucket) | {"root_directory": "/"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    told = []
    for options in (["--adopt-only"], ["--adopt-only"], [], ["--rollback"]):
        document, memory, seconds = measured(tmp_path, *options)
        assert document["problems"] == []
        assert memory < MOST
        told.append(f"{' '.join(options) or 'copies'}: {len(tree) / seconds:.0f} objects/s, {memory >> 20} MiB")
    assert document["state"] == "rolled-back"
    print("; ".join(told))  # noqa: T201 - for docs/migration.md

"""A blob past what a store copies in one request: consolidated in parts, inside the store, in bounded memory."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.replicas.conftest import Config
from tests.soak.budget import budget
from tests.soak.large_blob import MIB, LargeBlob
from tests.support.buckets import ETAG, place
from tests.support.payloads import CONFIG, LAYER, MANIFEST, Blob, Manifest
from tests.support.s3_server import S3Server
from tests.support.source_world import Repository, per_repository

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1800), pytest.mark.tools("versitygw")]

SIZE = budget(sample=300, full=(5 << 10) + 5) * MIB + 1
PART = 128 * MIB
MOST_BYTES = 300 << 20
ROOT = Path(__file__).parents[2]


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """What a migration needs beside its storage."""
    return {"database": {"url": f"sqlite:///{tmp_path / 'cache.db'}"}}


def test_a_large_blob_is_copied_in_parts_and_stays_where_it_was(
    store: S3Server, config: Config, tmp_path: Path
) -> None:
    bucket, layer, configuration = store.new_bucket(), LargeBlob(SIZE, seed=5), Blob(b"{}")
    document = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": configuration.descriptor(CONFIG),
        "layers": [{"mediaType": LAYER, "digest": layer.digest, "size": layer.size}],
    }
    manifest = Manifest(json.dumps(document).encode(), MANIFEST)
    place(store, bucket, [per_repository([Repository("large", {"v1": manifest}, [], [configuration])])])
    original = store.data / bucket / "large/blobs" / layer.digest.replace(":", "/")
    with original.open("wb") as file:
        file.writelines(layer)
    os.setxattr(original, ETAG, b'"of-many-parts-41"')
    config["storage"] = store.storage(bucket) | {"root_directory": "/"}
    (tmp_path / "config.json").write_text(json.dumps(config))

    store.reset_calls()
    copied, peak = command(tmp_path)
    assert (copied["state"], copied["problems"]) == ("consolidated", [])
    assert peak < MOST_BYTES, f"{peak / MIB:.0f} MiB"
    calls = Counter(call.kind for call in store.calls())
    assert calls["UploadPartCopy"] == -(-SIZE // PART)
    assert calls["UploadPart"] == 0, "no byte went through this process on its way"
    copy = store.data / bucket / "storage/blobs" / layer.digest.replace(":", "/")
    assert copy.stat().st_size == original.stat().st_size == SIZE

    store.reset_calls()
    back, _ = command(tmp_path, "--rollback")
    assert back["state"] == "rolled-back"
    kinds = {call.kind for call in store.calls() if "/blobs/sha256/" in call.target}
    assert not kinds & {"GetObject", "PutObject", "CopyObject", "UploadPartCopy"}, "nothing was pushed since"
    shutil.rmtree(store.data / bucket)


def command(directory: Path, *options: str) -> tuple[dict[str, Any], int]:
    """What the command says, which must succeed, and the most memory that it had, in bytes."""
    peak = directory / "peak"
    arguments = ["migrate-s3-storage", "--config", str(directory / "config.json"), "--json", *options]
    run = [sys.executable, "-m", "tests.support.peak", str(peak), *arguments]
    done = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0, (done.stdout[-3000:], done.stderr[-3000:])
    return json.loads(done.stdout), int(peak.read_text())

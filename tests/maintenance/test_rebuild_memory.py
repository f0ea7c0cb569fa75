"""A rebuild needs memory for the ``index.json`` of one repository, and not for what its manifests say."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.soak.budget import budget

IMAGE = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
LAYERS = 6
"""Layers of an image, each with an annotation of some length."""
TIME = "2026-11-21T13:41:44.610+00:00"
MIB = 1 << 20


def put(blobs: Path, content: bytes) -> dict[str, Any]:
    """Write a blob into an image layout; the fields of its descriptor."""
    digest = hashlib.sha256(content).hexdigest()
    (blobs / digest).write_bytes(content)
    return {"digest": f"sha256:{digest}", "size": len(content)}


def make_repository(directory: Path, manifests: int) -> None:
    """An image layout as the registry leaves it, with a tag for each manifest."""
    blobs = directory / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    config = {"mediaType": "application/vnd.oci.empty.v1+json", **put(blobs, b"{}")}
    layers = [
        {
            "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
            **put(blobs, f"layer {number}".encode()),
            "annotations": {"org.example.note": "x" * 200},
        }
        for number in range(LAYERS)
    ]
    entries = []
    for number in range(manifests):
        annotations = {"number": f"{directory.name} {number}", "org.example.note": "y" * 1000}
        document = {"schemaVersion": 2, "mediaType": IMAGE, "config": config, "layers": layers}
        body = json.dumps({**document, "annotations": annotations}).encode()
        said = {"org.opencontainers.image.ref.name": f"v{number}", "io.stowage.pushed": TIME, "io.stowage.tagged": TIME}
        entries.append({"mediaType": IMAGE, **put(blobs, body), "annotations": said})
    (directory / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    folded = {"io.stowage.folded": str(manifests), "io.stowage.noted": str(manifests)}
    index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": entries, "annotations": folded}
    (directory / "index.json").write_text(json.dumps(index))


def peak_of_rebuild(directory: Path, repositories: int) -> int:
    """The most memory of a rebuild of the store in ``directory``, in bytes."""
    file = directory / "peak"
    command = [sys.executable, "-m", "tests.support.peak", str(file), "rebuild", "--json"]
    environment = {"PYTHONPATH": str(Path(__file__).parents[2]), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout)["repositories"] == repositories
    return int(file.read_text())


@pytest.mark.stores
def test_the_memory_of_a_rebuild_is_bounded(tmp_path: Path) -> None:
    """10,000 repositories, and one of 100,000 manifests, in a full run."""
    small, large, many = tmp_path / "small", tmp_path / "large", tmp_path / "many"
    few, more, repositories = budget(500, 1000), budget(5000, 100_000), budget(300, 10_000)
    make_repository(small / "registry-data/team/app", few)
    make_repository(large / "registry-data/team/app", more)
    for number in range(repositories):
        make_repository(many / f"registry-data/team/app-{number}", 1)
    least = peak_of_rebuild(small, 1)
    most = peak_of_rebuild(large, 1)
    assert (most - least) / (more - few) < 4000, "what an entry of index.json takes, not what an image does"
    assert most < 350 * MIB
    assert peak_of_rebuild(many, repositories) - least < 20 * MIB

"""Buckets that the real registries filled over the wire, reviewed: what was pushed is what is counted."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from benchmarks.servers import DISTRIBUTION, DOCKER_REGISTRY, ZOT
from tests.clients.wire import until
from tests.support.buckets import WITHOUT, filled_by, listing, push
from tests.support.gcs_server import GcsServer
from tests.support.payloads import Blob, image
from tests.support.s3_server import S3Server
from tests.support.servers import RegistryProcess
from tests.support.source_world import (
    ARM,
    ATTACHED,
    BLOBS,
    BYTES,
    MANIFESTS,
    ON_AMD,
    OTHER,
    PLAIN,
    SHARED,
    Repository,
    distribution,
    fill,
    per_repository,
    repositories,
)

pytestmark = [pytest.mark.stores, pytest.mark.tools("versitygw")]

ROOT = Path(__file__).parents[2]
READS = {"ListObjectsV2", "HeadObject", "GetObject", "ListObjects"}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with S3Server(tmp_path_factory.mktemp("s3")) as server:
        yield server


def review(directory: Path, storage: dict[str, Any], *options: str) -> tuple[int, dict[str, Any], int]:
    """The exit code, the document, and the most memory that the command had, in bytes."""
    (directory / "config.json").write_text(json.dumps({"storage": storage}))
    peak, config = directory / "peak", directory / "config.json"
    command = [sys.executable, "-m", "tests.support.peak", str(peak), "migrate-s3-storage", "--config", str(config)]
    done = subprocess.run(
        [*command, "--dry-run", "--json", *options], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout), int(peak.read_text())


@pytest.mark.tools("crane")
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(DOCKER_REGISTRY, marks=pytest.mark.tools("docker-registry")),
        pytest.param(DISTRIBUTION, marks=pytest.mark.tools("registry")),
        pytest.param(ZOT, marks=pytest.mark.tools("zot")),
    ],
)
def test_what_was_pushed_is_counted_and_nothing_is_changed(name: str, store: S3Server, tmp_path: Path) -> None:
    bucket = filled_by(name, store, tmp_path)
    before = listing(store, bucket)
    storage = store.storage(bucket) | {"root_directory": "zot" if name == ZOT else "/"}
    store.reset_calls()
    code, document, _ = review(tmp_path, storage, "--verify", "full", "--plan", str(tmp_path / "plan"), "--rate", "100")
    calls = [call for call in store.calls() if call.target.startswith(f"/{bucket}")]
    assert (code, document["problems"]) == (0, []), document["problems"]
    counts = document["counts"]
    assert document["layout"] == ("per-repository" if name == ZOT else "distribution")
    assert (counts["repositories"], counts["tags"]) == (4, 6)
    without = name == DOCKER_REGISTRY
    assert (counts["manifests"], counts["blobs"]) == (len(MANIFESTS), len(BLOBS) - without)
    pushed = BYTES - (len(PLAIN.data) - len(WITHOUT.data)) * without
    assert counts["manifest_bytes"] + counts["blob_bytes"] == document["extra_bytes"] == pushed
    assert document["listed"] == counts["objects"] == len(before)
    assert counts["stubs"] == (9 if name == ZOT else 0)
    assert [stay["reason"] for stay in document["stays"]] in ([], ["uploads"])
    assert listing(store, bucket) == before
    assert {call.kind for call in calls} <= READS
    made = document["estimate"]["review"]["requests"]
    assert made["list"] + made["head"] + made["get"] == len(calls)
    assert [json.loads(line).get("repository") for line in (tmp_path / "plan").read_bytes().splitlines()][1:5] == [
        "app", "copied/app", "team/web", "team/web/nested",
    ]  # fmt: skip
    assert ATTACHED.subject == ON_AMD.digest


@pytest.mark.tools("crane", "registry")
def test_it_runs_beside_stowage_whose_content_is_left_out(store: S3Server, tmp_path: Path) -> None:
    bucket = filled_by(DISTRIBUTION, store, tmp_path)
    storage = store.storage(bucket) | {"root_directory": "/"}
    alone = review(tmp_path, storage)[1]
    database = {"url": f"sqlite:///{tmp_path / 'cache.db'}"}
    with RegistryProcess(tmp_path / "stowage", {"storage": storage, "database": database}) as server:
        push(server.address, [Repository("own/app", {"v1": OTHER}, [], [ARM, SHARED])])
        index = store.data / bucket / "own/app/index.json"
        until(lambda: index.exists() and b'"v1"' in index.read_bytes(), "the index with the tag is written")
        before = listing(store, bucket)
        code, document, _ = review(tmp_path, storage)
        assert listing(store, bucket) == before
        assert server.answers("/v2/own/app/manifests/v1")
    assert (code, document["problems"]) == (0, []), document["problems"]
    assert (document["counts"], document["stays"]) == (alone["counts"], alone["stays"])
    assert document["extra_bytes"] == alone["extra_bytes"] - sum(len(made.data) for made in (OTHER, ARM, SHARED))


@pytest.mark.tools("fake-gcs-server")
def test_a_bucket_of_google_is_reviewed_alike(tmp_path: Path) -> None:
    from pydantic import TypeAdapter

    from registry.config.sections import GcsSettings
    from registry.storage.gcs.driver import GcsDriver

    with GcsServer(tmp_path / "gcs") as server:
        storage = server.storage(server.new_bucket())
        settings = TypeAdapter(GcsSettings).validate_python(storage["gcs"])
        driver = GcsDriver(settings, str(storage["root_directory"]))
        tree = per_repository(repositories())
        fill(driver, tree)
        before = dict(driver.list(""))
        server.reset_calls()
        code, document, _ = review(tmp_path, storage, "--verify", "full")
        calls = server.calls()
        assert (code, document["problems"]) == (0, []), document["problems"]
        assert document["counts"]["objects"] == len(tree)
        assert document["counts"]["manifest_bytes"] + document["counts"]["blob_bytes"] == BYTES
        assert document["estimate"]["rollback"]["adopted"]["requests"]["put"] == 2 + 3 * 3
        assert dict(driver.list("")) == before
        assert {call.method for call in calls} == {"GET"}
        driver.close()


def many(count: int, each: int) -> list[Repository]:
    """``count`` repositories with one image of ``each`` layers, none shared."""
    config = Blob(b"{}")
    found = []
    for number in range(count):
        layers = [Blob(f"layer {layer} of {number}".encode()) for layer in range(each)]
        found.append(Repository(f"team/app-{number:04}", {"v1": image(config, layers)}, [], [config, *layers]))
    return found


@pytest.mark.parametrize("make", [per_repository, distribution], ids=["per-repository", "distribution"])
def test_two_thousand_blobs_in_bounded_memory(make: Any, store: S3Server, tmp_path: Path) -> None:
    bucket = store.new_bucket()
    tree = make(many(40, 50))
    client = store.client(max_pool_connections=16)
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda item: client.put_object(Bucket=bucket, Key=item[0], Body=item[1]), tree.items()))
    client.close()
    code, document, memory = review(tmp_path, store.storage(bucket) | {"root_directory": "/"})
    assert (code, document["problems"]) == (0, []), document["problems"][:3]
    assert document["counts"]["blobs"] == 40 * 50 + 1
    assert document["counts"]["repositories"] == 40
    assert memory < 300 << 20, memory
    print(f"{document['listed']} objects, {memory >> 20} MiB, rate {document['rate']}")  # noqa: T201 - for docs/migration.md

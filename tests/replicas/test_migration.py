"""A migration over a real store: buckets that real registries filled, adopted beside a running Stowage."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.servers import DISTRIBUTION, DOCKER_REGISTRY, ZOT
from tests.clients.wire import Wire, until
from tests.replicas.conftest import Config
from tests.support.access_log import Call
from tests.support.buckets import content, filled_by, listing, push, running
from tests.support.commands import finish
from tests.support.payloads import Blob, image
from tests.support.s3_server import S3Server
from tests.support.servers import RegistryProcess
from tests.support.source_world import ARM, BOTH, MANIFESTS, ON_AMD, OTHER, SHARED, Repository
from tests.support.tools import tool

pytestmark = [pytest.mark.stores, pytest.mark.tools("versitygw", "crane")]

SOURCES = [
    pytest.param(DOCKER_REGISTRY, marks=pytest.mark.tools("docker-registry")),
    pytest.param(DISTRIBUTION, marks=pytest.mark.tools("registry")),
    pytest.param(ZOT, marks=pytest.mark.tools("zot")),
]
COPIES = {"CopyObject", "UploadPart", "UploadPartCopy", "CreateMultipartUpload"}
REGISTRY = str(Path(sys.executable).with_name("registry"))
ROOT = Path(__file__).parents[2]


def command(config: Path, *options: str) -> tuple[int, dict[str, Any]]:
    """The exit code and the document."""
    run = [REGISTRY, "migrate-s3-storage", "--config", str(config), "--json", *options]
    done = finish(run, directory=ROOT)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def configured(config: Config, store: S3Server, bucket: str, name: str, directory: Path) -> Path:
    """The configuration of a Stowage where that registry was, as a file; ``config`` is completed."""
    config["storage"] = store.storage(bucket) | {"root_directory": "zot" if name == ZOT else "/"}
    file = directory / "config.json"
    file.write_text(json.dumps(config))
    return file


def check_pulled(address: str, repositories: list[Repository], directory: Path) -> None:
    """Every tag, manifest and blob has the bytes that were pushed; crane pulls each tag, and checks it too."""
    wire = Wire(address)
    for repository in repositories:
        assert wire.tags(repository.name) == sorted(repository.tags)
        for reference, manifest in (*repository.tags.items(), *((made.digest, made) for made in repository.manifests)):
            answer = wire.manifest(repository.name, reference)
            assert (answer.status, answer.body) == (200, manifest.data), (repository.name, reference)
        for blob in repository.blobs:
            answer = wire.request("GET", f"/v2/{repository.name}/blobs/{blob.digest}")
            assert (answer.status, answer.body) == (200, blob.data), (repository.name, blob.digest)
        for tag in repository.tags:
            target = directory / "pulled" / repository.name.replace("/", "_") / tag
            target.parent.mkdir(parents=True, exist_ok=True)
            crane = [str(tool("crane")), "pull", "--insecure", "--format", "oci", f"{address}/{repository.name}:{tag}"]
            subprocess.run([*crane, str(target)], check=True, capture_output=True, timeout=300)


def of_blobs(calls: list[Call]) -> list[Call]:
    """Those for the bytes of blobs that are no manifests, wherever these are."""
    manifests = {made.digest[7:] for made in (*MANIFESTS, *content(DOCKER_REGISTRY)[1].manifests)}
    return [
        call
        for call in calls
        if "/blobs/sha256/" in call.target and not any(digest in call.target for digest in manifests)
    ]


@pytest.mark.parametrize("name", SOURCES)
def test_a_bucket_is_adopted_beside_a_running_stowage_and_not_a_byte_is_copied(
    name: str, store: S3Server, config: Config, tmp_path: Path
) -> None:
    bucket = filled_by(name, store, tmp_path)
    original = listing(store, bucket)
    file = configured(config, store, bucket, name, tmp_path)
    own = Repository("own/app", {"v1": OTHER}, [], [ARM, SHARED])
    later = Repository("team/web", {"pushed": OTHER}, [], [ARM])
    theirs = Repository("brand/new", {"v1": OTHER}, [], [ARM, SHARED])
    images = [*content(name), Repository("copied/app", {"v1": BOTH})]
    with RegistryProcess(tmp_path / "stowage", config) as server:
        push(server.address, [own])
        assert Wire(server.address).request("GET", "/v2/app/tags/list").status == 404
        store.reset_calls()
        code, document = command(file, "--adopt-only")
        calls = [call for call in store.calls() if call.target.startswith(f"/{bucket}")]
        assert (code, document["state"], document["problems"]) == (0, "adopted", []), document
        assert not COPIES & {call.kind for call in calls}
        assert of_blobs(calls) == []
        check_pulled(server.address, [*images, own], tmp_path)
        assert len(Wire(server.address).referrers("app", ON_AMD.digest)) == 1
        push(server.address, [later])
        now = listing(store, bucket)
        assert {key: now.get(key) for key in original} == original
        with running(name, store, bucket, tmp_path) as address:
            push(address, [theirs])
        images.append(theirs)
        # zot has put bytes in the place of its stubs
        original = {
            key: stat for key, stat in listing(store, bucket).items() if key.startswith(("zot/zot/", "docker/"))
        }
        code, document = command(file, "--adopt-only")
        assert (code, document["problems"], document["changed"]) == (0, [], [])
        for repository in images:
            if repository.name == later.name:
                repository.tags |= later.tags
                repository.blobs += later.blobs
        check_pulled(server.address, [*images, own], tmp_path)
        index = f"{config['storage']['root_directory'].strip('/')}/own/app/index.json".lstrip("/")
        until(lambda: index in listing(store, bucket), "the index of what was pushed is written")
    for lost in Path(config["database"]["url"].removeprefix("sqlite:///")).parent.glob("cache.db*"):
        lost.unlink()
    rebuild = [REGISTRY, "rebuild", "--config", str(file)]
    assert finish(rebuild, directory=ROOT).returncode == 0
    with RegistryProcess(tmp_path / "again", config) as server:
        check_pulled(server.address, [*images, own], tmp_path)
        known = sorted(repository.name for repository in (*images, own))
        assert Wire(server.address).request("GET", "/v2/_catalog").json()["repositories"] == known
    now = listing(store, bucket)
    assert {key: now.get(key) for key in original} == original


def of(store: S3Server, bucket: str) -> list[Call]:
    """The calls for a bucket since the last time."""
    calls = [call for call in store.calls() if call.target.startswith(f"/{bucket}")]
    store.reset_calls()
    return calls


@pytest.mark.parametrize("name", SOURCES)
def test_there_and_back_the_source_serves_what_was_pushed_to_either(
    name: str, store: S3Server, config: Config, tmp_path: Path
) -> None:
    bucket = filled_by(name, store, tmp_path)
    file = configured(config, store, bucket, name, tmp_path)
    mine = image(ARM, [SHARED, Blob(b"pushed since")])
    pushed = Repository("since/app", {"v1": mine, "latest": mine}, [], [ARM, SHARED, Blob(b"pushed since")])
    images = [*content(name), Repository("copied/app", {"v1": BOTH})]
    with RegistryProcess(tmp_path / "stowage", config) as server:
        of(store, bucket)
        assert command(file)[1]["state"] == "consolidated"
        assert {"CopyObject"} == COPIES & {call.kind for call in of(store, bucket)}
        check_pulled(server.address, images, tmp_path)
        push(server.address, [pushed])
        wire = Wire(server.address)
        assert wire.request("DELETE", "/v2/team/web/manifests/stable").status == 202
        del images[1].tags["stable"]
        images.append(pushed)
        code, plan = command(file, "--rollback", "--dry-run")
        assert (code, plan.get("losses"), plan.get("copied")) == (0, [], 4 if name == ZOT else 2), plan
        of(store, bucket)
        code, document = command(file, "--rollback")
        assert (code, document["state"]) == (0, "rolled-back"), document
        copies = [call for call in of(store, bucket) if call.kind == "CopyObject"]
        assert len(copies) == plan["copied"]
        refused = wire.request("POST", "/v2/app/blobs/uploads/")
        assert refused.status == 503
        assert b"given back" in refused.body
        check_pulled(server.address, images, tmp_path)
    with running(name, store, bucket, tmp_path) as address:
        check_pulled(address, images, tmp_path)


@pytest.mark.parametrize("name", SOURCES)
def test_a_way_back_after_which_nothing_was_pushed_moves_no_blob(
    name: str, store: S3Server, config: Config, tmp_path: Path
) -> None:
    bucket = filled_by(name, store, tmp_path)
    original = listing(store, bucket)
    file = configured(config, store, bucket, name, tmp_path)
    assert command(file, "--adopt-only")[1]["state"] == "adopted"
    of(store, bucket)
    assert command(file, "--rollback")[1]["state"] == "rolled-back"
    calls = of(store, bucket)
    assert not COPIES & {call.kind for call in calls}
    assert [call for call in calls if "/blobs/sha256/" in call.target and call.kind in {"GetObject", "PutObject"}] == []
    now = listing(store, bucket)
    assert {key: now.get(key) for key in original} == original
    with running(name, store, bucket, tmp_path) as address:
        check_pulled(address, [*content(name), Repository("copied/app", {"v1": BOTH})], tmp_path)

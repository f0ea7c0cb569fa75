"""The trees that real registries write for some content are those that a rollback makes of it, key by key."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.s3.servers import S3_SERVERS
from benchmarks.servers import DISTRIBUTION, DOCKER_REGISTRY, ZOT, Running
from registry.migration.source.detection import classify
from registry.migration.source.distribution import Distribution
from registry.migration.source.layout import SourceLayout
from registry.migration.source.objects import ObjectKind, RepositoryPath
from registry.migration.source.zot import ZotLayout
from registry.storage.memory import MemoryDriver
from tests.clients.wire import Wire
from tests.migration.rollback.test_steps import in_no_order
from tests.support.buckets import content, push
from tests.support.rollback import tree_of, whole
from tests.support.s3_server import REGION, S3Server
from tests.support.servers import free_port
from tests.support.source_world import TREE, Tree

pytestmark = [pytest.mark.stores, pytest.mark.tools("versitygw")]

REGISTRIES = [
    pytest.param(DOCKER_REGISTRY, marks=pytest.mark.tools("docker-registry")),
    pytest.param(DISTRIBUTION, marks=pytest.mark.tools("registry")),
    pytest.param(ZOT, marks=pytest.mark.tools("zot")),
]
ROOTS = {ZOT: "zot/"}
"""Where our root is in the bucket."""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with S3Server(tmp_path_factory.mktemp("s3")) as server:
        yield server


def running(name: str, store: S3Server, bucket: str, directory: Path) -> Running:
    """A registry on a bucket, one that makes no stubs."""
    values = {
        "bucket": bucket, "region": REGION, "endpoint": store.endpoint, "access": store.access,
        "secret": store.secret, "redirect": "false", "streamed": "true",
    }  # fmt: skip
    server = S3_SERVERS[name]
    config = server.config.replace('"dedupe": true', '"dedupe": false')
    made = Running(dataclasses.replace(server, config=config, settings=(*server.settings, *values.items())), directory)
    made.port = free_port()
    return made


def tree_in(store: S3Server, bucket: str, root: str) -> Tree:
    """What is below our root, uploads aside, and what zot notes of its own work."""
    client = store.client()
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
    keys = [entry["Key"] for page in pages for entry in page.get("Contents", ())]
    tree = {
        key.removeprefix(root): client.get_object(Bucket=bucket, Key=key)["Body"].read()
        for key in keys
        if (entry := classify(key.removeprefix(root))) is None or entry.kind not in {ObjectKind.UPLOAD, ObjectKind.LEFT}
    }
    client.close()
    return tree


@pytest.mark.parametrize("name", REGISTRIES)
def test_a_tree_that_is_made_of_nothing_is_the_one_that_the_registry_writes_and_serves(
    name: str, store: S3Server, tmp_path: Path
) -> None:
    repositories = content(name)
    bucket = store.new_bucket()
    with running(name, store, bucket, tmp_path) as server:
        push(f"127.0.0.1:{server.port}", repositories)
        expected = tree_in(store, bucket, ROOTS.get(name, ""))
        wire = Wire(f"127.0.0.1:{server.port}")
        served = {(each.name, tag): wire.content(each.name, tag) for each in repositories for tag in each.tags}
    prefix = "zot" if name == ZOT else ""
    layout: SourceLayout = ZotLayout(("zot",)) if name == ZOT else Distribution()
    driver = MemoryDriver()
    places = [
        RepositoryPath(each.name, f"{prefix}/{each.name}".lstrip("/"), prefix if name == ZOT else TREE)
        for each in repositories
    ]
    whole(layout, repositories, places, driver)
    made = tree_of(driver)
    assert sorted(made) == sorted(expected)
    assert [key for key in made if made[key] != expected[key] and not key.endswith("index.json")] == []
    for key in made:
        if key.endswith("index.json"):
            assert in_no_order(made[key]) == in_no_order(expected[key])
            assert len(made[key]) == len(expected[key]), (made[key], expected[key])
    other = store.new_bucket()
    client = store.client()
    for key, data in made.items():
        client.put_object(Bucket=other, Key=f"{ROOTS.get(name, '')}{key}", Body=data)
    client.close()
    with running(name, store, other, tmp_path) as server:
        wire = Wire(f"127.0.0.1:{server.port}")
        again = {(each.name, tag): wire.content(each.name, tag) for each in repositories for tag in each.tags}
        assert {each.name: sorted(wire.tags(each.name)) for each in repositories} == {
            each.name: sorted(each.tags) for each in repositories
        }
    assert again == served

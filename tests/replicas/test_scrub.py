"""A scrub over a bucket with two replicas: what rots in the store is unknown to both until it is pushed again."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest

from tests.maintenance.scrub.place import flip_file
from tests.server.sending import Client
from tests.support.payloads import Blob, Manifest, image

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.replicas.conftest import Config
    from tests.support.s3_server import S3Server
    from tests.support.servers import RegistryProcess

pytestmark = [pytest.mark.stores, pytest.mark.tools("versitygw", "initdb", "pg_ctl", "postgres")]

REPO = "team/app"
CONFIG, SMALL, LARGE = Blob(b"{}"), Blob(b"small"), Blob(bytes(range(256)) * 4096)
IMAGE = image(CONFIG, [SMALL, LARGE])
PARTS: dict[str, Blob | Manifest] = {"config": CONFIG, "small": SMALL, "large": LARGE, "manifest": IMAGE}


def push(server: RegistryProcess) -> None:
    with Client(server.port) as client:
        for blob in (CONFIG, SMALL, LARGE):
            client.push(REPO, blob.data)
        path = f"/v2/{REPO}/manifests/v1"
        assert client.call("PUT", path, IMAGE.data, {"Content-Type": IMAGE.media_type}).status == 201


def path_of(part: str) -> str:
    kind = "manifests" if part == "manifest" else "blobs"
    return f"/v2/{REPO}/{kind}/{PARTS[part].digest}"


def file_of(store: S3Server, config: Config, digest: str) -> Path:
    """The file in which the store keeps a blob."""
    bucket: str = config["storage"]["s3"]["bucket"]
    return store.data / bucket / "stowage" / "storage" / "blobs" / digest.replace(":", "/")


def scrub(server: RegistryProcess, *options: str) -> tuple[int, dict[str, object]]:
    done = server.finished("scrub", *options, timeout=120)
    return done.returncode, json.loads(done.stdout)


@pytest.mark.parametrize("part", list(PARTS))
def test_what_rots_in_the_store_is_unknown_to_every_replica(
    store: S3Server, shared_config: Config, replica: Callable[[Config], RegistryProcess], part: str
) -> None:
    first, second = replica(shared_config), replica(shared_config)
    push(first)
    with Client(first.port) as one, Client(second.port) as other:
        for client in (one, other):
            assert client.call("GET", path_of(part)).body == PARTS[part].data
        flip_file(file_of(store, shared_config, PARTS[part].digest))
        code, report = scrub(second)
        assert code == 1
        assert (report["objects"], report["wrong"], report["finished"]) == (3, 1, True)
        expected = "MANIFEST_UNKNOWN" if part == "manifest" else "BLOB_UNKNOWN"
        for client in (one, other):
            answer = client.call("GET", path_of(part))
            assert (answer.status, answer.json["errors"][0]["code"]) == (404, expected)
            assert client.call("HEAD", path_of(part)).status == 404
        push(second)
        for client in (one, other):
            assert client.call("GET", path_of(part)).body == PARTS[part].data
    assert scrub(first)[0] == 0


def test_a_manifest_is_repaired_in_the_bucket(
    store: S3Server, shared_config: Config, replica: Callable[[Config], RegistryProcess]
) -> None:
    server = replica(shared_config)
    push(server)
    flip_file(file_of(store, shared_config, IMAGE.digest))
    code, report = scrub(server, "--repair")
    assert (code, report["wrong"], report["repaired"]) == (0, 1, 1)
    assert file_of(store, shared_config, IMAGE.digest).read_bytes() == IMAGE.data
    with Client(server.port) as client:
        assert client.call("GET", path_of("manifest")).body == IMAGE.data


def test_servers_scrub_by_themselves(
    store: S3Server, shared_config: Config, replica: Callable[[Config], RegistryProcess]
) -> None:
    config: Config = {**shared_config, "scrub": {"interval": 0.2}}
    servers = [replica(config) for _ in range(2)]
    push(servers[0])
    flip_file(file_of(store, shared_config, LARGE.digest))
    with Client(servers[1].port) as client:
        deadline = time.monotonic() + 60
        while client.call("HEAD", path_of("large")).status != 404:
            assert time.monotonic() < deadline, servers[0].log_tail()
            time.sleep(0.1)

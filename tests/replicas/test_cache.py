"""The cache of servers over a bucket: check 24 of the tier, from a client's side."""

from __future__ import annotations

import http.client
import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.clients.wire import Wire
from tests.replicas.conftest import Config
from tests.storage.middleware.tiered.tiers import damage
from tests.support.payloads import Blob, Manifest, image
from tests.support.s3_server import S3Server
from tests.support.servers import RegistryProcess

pytestmark = [pytest.mark.stores, pytest.mark.tools("versitygw")]

REPO = "team/app"
MIB = 1 << 20
Start = Callable[[Config], RegistryProcess]


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def cached(config: Config, cache: Path) -> Config:
    """A registry over a bucket, with a directory in front of it."""
    return {**config, "cache": {"blob_directory": str(cache)}}


@pytest.fixture
def small_disk(cache: Path) -> Iterator[Path]:
    """A disk of 5 MiB."""
    if os.geteuid() != 0:
        pytest.skip("mounting a file system needs root")
    cache.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=5m", "none", str(cache)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"mounting is not permitted here: {done.stderr.strip()}")
    yield cache
    subprocess.run(["umount", "--lazy", str(cache)], capture_output=True, check=False)


def push(server: RegistryProcess, *blobs: Blob) -> Manifest:
    """An image of a config and these layers."""
    wire = Wire(server.address)
    config = Blob(b'{"architecture": "amd64"}')
    for blob in (config, *blobs):
        location = wire.request("POST", f"/v2/{REPO}/blobs/uploads/").headers["location"]
        assert wire.request("PATCH", location, blob.data).status == 202
        assert wire.request("PUT", f"{location}?digest={blob.digest}").status == 201
    made = image(config, list(blobs))
    headers = {"Content-Type": made.media_type}
    assert wire.request("PUT", f"/v2/{REPO}/manifests/v1", made.data, headers).status == 201
    return made


def pull(server: RegistryProcess, blob: Blob, part: str | None = None) -> bytes:
    """The bytes, of which length, digest and range were told right."""
    headers = {"Range": f"bytes={part}"} if part else {}
    answer = Wire(server.address).request("GET", f"/v2/{REPO}/blobs/{blob.digest}", headers=headers)
    assert answer.status == (206 if part else 200), answer.body
    assert answer.headers["docker-content-digest"] == blob.digest
    assert int(answer.headers["content-length"]) == len(answer.body)
    return answer.body


def counted(server: RegistryProcess, name: str, **labels: str) -> float:
    """A metric of the cache: the sum of all of its lines with these labels."""
    text = Wire(server.address).request("GET", "/metrics").body.decode()
    lines = re.findall(rf"^registry_cache_{name}_total\{{(.*)\}} (\S+)$", text, re.MULTILINE)
    wanted = [f'{label}="{value}"' for label, value in labels.items()]
    return sum(float(number) for found, number in lines if all(each in found for each in wanted))


def gets(store: S3Server) -> int:
    """How many objects the store was asked for since the last time, blobs alone."""
    found = sum(call.kind == "GetObject" and "/storage/blobs/" in call.target for call in store.calls())
    store.reset_calls()
    return found


def file_of(cache: Path, blob: Blob) -> Path:
    digest = blob.digest.removeprefix("sha256:")
    return cache / digest[:2] / digest


def test_what_was_pushed_or_pulled_here_costs_the_store_nothing(
    store: S3Server, cached: Config, cache: Path, replica: Start
) -> None:
    server = replica({**cached, "cache": {**cached["cache"], "log_requests": True}})
    layer = Blob(os.urandom(7 * MIB + 5))
    push(server, layer)
    gets(store)
    assert file_of(cache, layer).exists()
    assert pull(server, layer) == layer.data
    assert pull(server, layer, f"{MIB}-{2 * MIB}") == layer.data[MIB : 2 * MIB + 1]
    assert gets(store) == 0
    file_of(cache, layer).unlink()
    assert pull(server, layer) == layer.data
    assert pull(server, layer) == layer.data
    assert gets(store) == 1
    assert counted(server, "get", tier="blob", result="hit") == 3
    assert counted(server, "get", tier="blob", result="fault_hit") == 1
    server.restart()
    assert pull(server, layer) == layer.data
    assert gets(store) == 0
    events = [json.loads(line)["event"] for line in server.log_path.read_text().splitlines() if '\\"storage/' in line]
    assert {event.split(' "')[0] for event in events} == {"B GET", "F GET", "W PUT"}


def test_workers_of_one_machine_share_the_directory_and_its_budget(cached: Config, cache: Path, replica: Start) -> None:
    most = 20 * MIB
    server = replica({**cached, "cache": {**cached["cache"], "max_bytes": most}, "http": {"workers": 2}})
    layers = [Blob(os.urandom(3 * MIB)) for _ in range(10)]
    push(server, *layers)
    with ThreadPoolExecutor(4) as pool:
        for _ in range(2):
            for layer, data in zip(layers, pool.map(lambda each: pull(server, each), layers), strict=True):
                assert data == layer.data
    status = json.loads(server.finished("cache", "status").stdout)["tiers"][0]
    assert most / 2 < status["bytes"] <= most * 1.05
    used = sum(path.stat().st_blocks * 512 for path in cache.rglob("*") if path.is_file())
    assert used <= most * 1.05


def test_check_24_pulls_through_a_disk_that_is_too_small(small_disk: Path, cached: Config, replica: Start) -> None:
    server = replica(cached)
    layers = [Blob(os.urandom(100 * MIB)), Blob(os.urandom(MIB))]
    push(server, *layers)
    assert counted(server, "errors", tier="blob") >= 1
    for layer in layers:
        for _ in range(2):
            assert pull(server, layer) == layer.data
        assert pull(server, layer, "1000-500000") == layer.data[1000:500_001]
    log = server.log_path.read_text()
    assert "the cache failed; the store answers in its place" in log
    assert "Traceback" not in log
    assert not list(small_disk.glob(".tmp-*"))


def test_check_24_a_wrong_byte_is_never_served_and_filled_again(
    store: S3Server, cached: Config, cache: Path, replica: Start
) -> None:
    server = replica(cached)
    layer = Blob(os.urandom(7 * MIB + 5))
    push(server, layer)
    gets(store)
    for position in (0, 3 * MIB + 7, len(layer.data) - 1):
        damage(file_of(cache, layer), position)
        assert pull(server, layer) == layer.data
        assert not file_of(cache, layer).exists()
        assert pull(server, layer) == layer.data
        assert file_of(cache, layer).exists()
        assert gets(store) == 2
    assert counted(server, "errors", tier="blob") == 3


def test_check_24_a_server_that_is_killed_while_it_fills_serves_nothing_short(
    cached: Config, cache: Path, replica: Start
) -> None:
    server = replica(cached)
    layer = Blob(os.urandom(40 * MIB))
    push(server, layer)
    file_of(cache, layer).unlink()
    for size in (100_000, 3 * MIB):
        _begin_and_kill(server, layer, size)
        server.start()
        assert not list(cache.glob(".tmp-*"))
        assert pull(server, layer) == layer.data
        file_of(cache, layer).unlink()


def _begin_and_kill(server: RegistryProcess, layer: Blob, size: int) -> None:
    """Read so many bytes of a blob, and kill the server."""
    connection = http.client.HTTPConnection(server.address, timeout=60)
    connection.request("GET", f"/v2/{REPO}/blobs/{layer.digest}")
    response = connection.getresponse()
    assert response.read(size) == layer.data[:size]
    server.kill()
    connection.close()


def test_what_is_deleted_is_not_served_from_the_cache(cached: Config, cache: Path, replica: Start) -> None:
    server = replica(cached)
    layer = Blob(os.urandom(MIB))
    made = push(server, layer)
    assert pull(server, layer) == layer.data
    wire = Wire(server.address)
    assert wire.request("DELETE", f"/v2/{REPO}/manifests/{made.digest}").status == 202
    assert wire.request("DELETE", f"/v2/{REPO}/blobs/{layer.digest}").status == 202
    assert file_of(cache, layer).exists()  # the bucket has the bytes as well, until a collection
    assert wire.request("GET", f"/v2/{REPO}/blobs/{layer.digest}").status == 404
    assert wire.request("GET", f"/v2/other/app/blobs/{layer.digest}").status == 404


def test_while_the_store_is_away_what_is_kept_is_served(
    store: S3Server, proxy: Any, cached: Config, cache: Path, replica: Start
) -> None:
    endpoint = {**cached["storage"]["s3"], "endpoint_url": proxy.url}
    server = replica({**cached, "storage": {**cached["storage"], "s3": endpoint}})
    kept, lost = Blob(os.urandom(MIB)), Blob(os.urandom(MIB))
    push(server, kept, lost)
    file_of(cache, lost).unlink()
    proxy.fail(method="GET", times=None)
    assert pull(server, kept) == kept.data
    assert Wire(server.address).request("GET", f"/v2/{REPO}/blobs/{lost.digest}").status == 503


def test_check_24_an_empty_setting_makes_no_file(config: Config, tmp_path: Path, replica: Start) -> None:
    server = replica({**config, "cache": {"blob_directory": "", "metadata_directory": ""}})
    layer = Blob(os.urandom(MIB))
    push(server, layer)
    assert pull(server, layer) == layer.data
    made = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert {name for name in made if not name.startswith("cache.db")} == {"config.json", "server.log"}
    for process in server.processes():
        opened = {str(link.readlink()) for link in Path(f"/proc/{process}/fd").iterdir() if link.is_symlink()}
        files = {name for name in opened if name.startswith("/") and not name.startswith(("/dev/", "/proc/"))}
        assert all(name.startswith((f"{tmp_path}/", "/memfd:")) for name in files), files

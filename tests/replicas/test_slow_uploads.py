"""Many slow uploads over object stores: what they have sent waits in the store, and fast ones have the memory."""

from __future__ import annotations

import os
import random
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from tests.server.sending import TIMEOUT, Client
from tests.server.slow_clients import SlowClient, SlowClients
from tests.support.gcs_server import GcsServer
from tests.support.payloads import digest_of
from tests.support.s3_server import S3Server
from tests.support.servers import RegistryProcess

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.stores

REPO = "slow/uploads"
MIB = 1 << 20
SLOW = 120
"""Clients; ten filled all memory, each with one part."""
CLIENTS = 16
PART = 5 * MIB
SENT = os.urandom(2 * MIB)
FAST = os.urandom(16 * MIB)

STORES = pytest.mark.parametrize(
    "server",
    [
        pytest.param("s3", marks=pytest.mark.tools("versitygw")),
        pytest.param("gcs", marks=pytest.mark.tools("fake-gcs-server")),
    ],
    indirect=True,
)


@pytest.fixture
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RegistryProcess]:
    """One process with a memory of eight parts."""
    kind: str = request.param
    store: S3Server | GcsServer = S3Server(tmp_path / kind) if kind == "s3" else GcsServer(tmp_path / kind)
    with store:
        storage: dict[str, Any] = store.storage(store.new_bucket())
        storage[kind]["part_size"] = PART
        config: dict[str, dict[str, object]] = {
            "storage": storage,
            "database": {"url": f"sqlite:///{tmp_path / 'cache.db'}"},
            "limits": {"upload_buffers": 8 * PART},
            "http": {"idle_timeout": TIMEOUT},
        }
        with RegistryProcess(tmp_path / "registry", config) as process:
            yield process


def push_fast(server: RegistryProcess, *, chunked: bool) -> None:
    """A blob of several parts that is not there yet."""
    data = os.urandom(16) + FAST
    with SlowClients(server) as clients:
        client = clients.push(REPO, data, chunked=chunked)
        for begin in range(0, len(data), MIB):
            client.send(data[begin : begin + MIB])
        assert client.finish() == 201


@STORES
def test_a_hundred_slow_uploads_leave_memory_to_fast_ones_and_arrive_whole(server: RegistryProcess) -> None:
    push_fast(server, chunked=False)
    before = server.memory()
    with SlowClients(server) as clients:
        slow: list[tuple[SlowClient, bytes]] = []
        for number in range(SLOW):
            data = number.to_bytes(2) + SENT + FAST[: 4 * MIB]
            slow.append((clients.push(REPO, data, chunked=number % 2 == 0), data))
            slow[-1][0].send(data[: len(SENT)])
        push_fast(server, chunked=True)
        push_fast(server, chunked=False)
        for client, data in slow[:6]:
            client.send(data[len(SENT) :])
            assert client.finish() == 201
            with Client(server.port) as reading:
                assert reading.call("GET", f"/v2/{REPO}/blobs/{digest_of(data)}").body == data
    assert server.peak_memory() < before + 3 * 8 * PART


@STORES
def test_clients_of_any_pace_share_the_memory_of_few_parts_and_every_blob_is_right(server: RegistryProcess) -> None:
    with ThreadPoolExecutor(CLIENTS) as clients:
        for pushed in clients.map(lambda number: push_at_a_pace(server, random.Random(number)), range(CLIENTS)):
            with Client(server.port) as reading:
                assert reading.call("GET", f"/v2/{REPO}/blobs/{digest_of(pushed)}").body == pushed


def push_at_a_pace(server: RegistryProcess, chance: random.Random) -> bytes:
    """A blob in pieces of any size with pauses between them, in one request or two."""
    data = chance.randbytes(16) + FAST[: chance.randrange(12 * MIB)]
    pause, chunked = chance.choice([0.0, 0.02, 0.1]), chance.random() < 0.5
    with SlowClients(server) as clients:
        if chance.random() < 0.5:
            client, status = clients.push(REPO, data, chunked=chunked), 201
        else:
            client, status = clients.upload(REPO, None if chunked else len(data)), 202
        rest = memoryview(data)
        while rest:
            piece, rest = rest[: (size := chance.choice([1, 70_000, 300_000, MIB + 5, 3 * MIB]))], rest[size:]
            client.send(bytes(piece))
            time.sleep(chance.random() * pause)
        assert client.finish() == status
    if status == 202:
        with Client(server.port) as closing:
            assert closing.call("PUT", f"{client.location}?digest={digest_of(data)}").status == 201
    return data

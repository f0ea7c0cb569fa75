"""Many slow uploads: they hold no memory, no thread and no right that a fast one waits for."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest

from tests.server.sending import TIMEOUT, Client, Config
from tests.server.slow_clients import SlowClient, SlowClients
from tests.support.payloads import MANIFEST, Blob, digest_of, image
from tests.support.servers import RegistryProcess

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

REPO = "slow/uploads"
MIB = 1 << 20
SLOW = 40
"""Clients of each kind."""
LONG = os.urandom(5 * MIB // 4)
SHORT = LONG[: 7 * MIB // 8]
FAST = os.urandom(4 * MIB)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RegistryProcess]:
    monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", str(128 << 10))  # what is freed is resident no more
    config: Config = {
        "storage": {"fsync": False},
        "limits": {"upload_buffers": 8 * MIB, "threads": 8},
        "http": {"idle_timeout": TIMEOUT},
    }
    with RegistryProcess(tmp_path, config) as process:
        yield process


def push_fast(server: RegistryProcess, *, chunked: bool) -> None:
    """A blob that is not there yet, in one request of several chunks."""
    data = os.urandom(16) + FAST
    with SlowClients(server) as clients:
        client = clients.push(REPO, data, chunked=chunked)
        for begin in range(0, len(data), MIB):
            client.send(data[begin : begin + MIB])
        assert client.finish() == 201


def wait_for_memory(server: RegistryProcess, most: int) -> None:
    """Until the server has no more resident."""
    until = time.monotonic() + TIMEOUT
    while server.memory() > most:
        assert time.monotonic() < until, f"{server.memory() / MIB:.0f} MiB, at most {most / MIB:.0f} expected"
        time.sleep(0.1)


def test_hundreds_of_slow_uploads_hold_little_memory_and_let_fast_ones_pass(server: RegistryProcess) -> None:
    push_fast(server, chunked=True)
    before = server.memory()
    with SlowClients(server) as clients:
        kinds = [(LONG, None), (SHORT, None), (LONG, 2 * MIB), (SHORT, MIB)]
        slow: list[SlowClient] = []
        for data, length in kinds * SLOW:
            slow.append(clients.upload(REPO, length))
            slow[-1].send(data)
        wait_for_memory(server, before + 48 * MIB)
        push_fast(server, chunked=True)
        push_fast(server, chunked=False)
        with Client(server.port) as client:
            client.push(REPO, b"small")
        for upload, (data, length) in zip(slow[:4], kinds, strict=True):
            rest = FAST[: MIB if length is None else length - len(data)]
            upload.send(rest)
            assert upload.finish() == 202
            with Client(server.port) as closing:
                digest = digest_of(data + rest)
                assert closing.call("PUT", f"{upload.location}?digest={digest}").status == 201
                assert closing.call("GET", f"/v2/{REPO}/blobs/{digest}").body == data + rest


def test_hundreds_of_slow_manifests_hold_little_memory_and_arrive_whole(server: RegistryProcess) -> None:
    config = Blob(b"{}")
    manifest = image(config, [], annotations={"long": "x" * (2 * MIB)})
    with Client(server.port) as client:
        client.push(REPO, config.data)
    before = server.memory()
    with SlowClients(server) as clients:
        slow = [
            clients.manifest(REPO, f"tag-{number}", None if number % 2 else len(manifest.data), MANIFEST)
            for number in range(2 * SLOW)
        ]
        for push in slow:
            push.send(manifest.data[:-1])
        wait_for_memory(server, before + 48 * MIB)
        with Client(server.port) as client:
            small = image(config, [])
            target = f"/v2/{REPO}/manifests/small"
            assert client.call("PUT", target, small.data, {"Content-Type": MANIFEST}).status == 201
        for push in slow:
            push.send(manifest.data[-1:])
        assert {push.finish() for push in slow} == {201}
        with Client(server.port) as client:
            for tag in ("tag-0", "tag-1"):
                assert client.call("GET", f"/v2/{REPO}/manifests/{tag}").body == manifest.data
    assert server.peak_memory() < before + 160 * MIB

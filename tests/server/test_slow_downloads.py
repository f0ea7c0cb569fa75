"""Many clients that read slowly, or not at all: what they have not read is in no memory of the server."""

from __future__ import annotations

import os
import socket
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

from registry.server.direct_io.file_sender import STEP, _pass_on_for_a_while, _Stream
from tests.server.sending import TIMEOUT, Client, Config
from tests.support.payloads import MANIFEST, Blob, image
from tests.support.readable import is_readable
from tests.support.servers import HOST, RegistryProcess

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

REPO = "slow/downloads"
MIB = 1 << 20
READERS = 40


def test_large_manifests_that_are_read_slowly_are_in_no_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", str(128 << 10))  # what is freed is resident no more
    config: Config = {"storage": {"fsync": False}}
    with RegistryProcess(tmp_path, config) as server:
        blob = Blob(b"{}")
        manifest = image(blob, [], annotations={"long": "x" * (6 * MIB)})
        target = f"/v2/{REPO}/manifests/large"
        with Client(server.port) as client:
            client.push(REPO, blob.data)
            assert client.call("PUT", target, manifest.data, {"Content-Type": MANIFEST}).status == 201
            assert client.call("GET", target).body == manifest.data
            assert client.call("HEAD", target).headers["content-length"] == str(len(manifest.data))
            tag = {"If-None-Match": f'"{manifest.digest}"'}
            assert client.call("GET", target, headers=tag).status == 304
        before = server.memory()
        with ExitStack() as stack:
            readers = []
            for _ in range(READERS):
                reader = stack.enter_context(socket.socket())
                reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 10)
                reader.settimeout(TIMEOUT)
                reader.connect((HOST, server.port))
                reader.sendall(f"GET {target} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
                readers.append(reader)
            for reader in readers:
                assert is_readable(reader, TIMEOUT), "an answer has begun"
            until = time.monotonic() + TIMEOUT
            while server.memory() > before + READERS * MIB:
                assert time.monotonic() < until, f"{(server.memory() - before) / MIB:.0f} MiB more"
                time.sleep(0.1)
            with readers[0].makefile("rb") as answer:
                while answer.readline().strip():
                    pass
                assert answer.read(len(manifest.data)) == manifest.data


def test_little_is_read_ahead_for_a_client_that_does_not_read() -> None:
    data = os.urandom(16 * MIB)
    position, asked = 0, []

    def read(buffer: memoryview) -> int:
        nonlocal position
        count = min(len(buffer), len(data) - position)
        buffer[:count] = data[position : position + count]
        position += count
        asked.append(count)
        return count

    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        stream, got = _Stream(read, len(data)), b""
        step = _pass_on_for_a_while(ours.fileno(), stream)
        assert step.is_full
        held = stream.rest.obj
        assert isinstance(held, bytes)
        assert len(held) < STEP // 2, "a client that has taken little has shown nothing"
        while len(got) < len(data):
            got += theirs.recv(2 * MIB)
            _pass_on_for_a_while(ours.fileno(), stream)
    assert got == data
    assert max(asked) <= STEP

"""What a registry takes of memory while large layers come through it, whatever their clients do."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from tests.mirror.checks.conftest import Open
from tests.mirror.checks.mirroring import APP, WAIT, Mirroring
from tests.mirror.served_blob import ServedBlob
from tests.upstream.hostile import Handler, HostileServer

MIB = 1 << 20
SIZE = 96 * MIB
LAYERS = 4
MOST = (64 + LAYERS * 2 * 16) * MIB
"""Bytes that a process may take more: beside the rest two parts of each upload, one of which is written."""


class LargeLayer:
    """Bytes that nothing keeps."""

    def __init__(self, server: HostileServer, number: int) -> None:
        self._piece = bytes([number]) * MIB
        hasher = hashlib.sha256()
        for _ in range(SIZE // MIB):
            hasher.update(self._piece)
        self.digest = f"sha256:{hasher.hexdigest()}"
        server.replies[f"/v2/{APP}/blobs/{self.digest}"] = self._reply

    def _reply(self, handler: Handler) -> None:
        handler.answer(200, b"", Content_Length=str(SIZE))
        for _ in range(SIZE // MIB):
            handler.wfile.write(self._piece)


@contextmanager
def measured(mirroring: Mirroring) -> Iterator[list[int]]:
    """What each registry takes at most meanwhile, in bytes more than before."""
    before = [registry.memory() for registry in mirroring.registries]
    most, is_over = [0] * len(before), threading.Event()

    def measure() -> None:
        while not is_over.wait(0.05):
            now = [registry.memory() for registry in mirroring.registries]
            most[:] = [max(old, new - first) for old, new, first in zip(most, now, before, strict=True)]

    thread = threading.Thread(target=measure)
    thread.start()
    try:
        yield most
    finally:
        is_over.set()
        thread.join()


@pytest.mark.parametrize("is_slow", [False, True], ids=["fast clients", "slow clients"])
def test_large_layers_take_little_memory(opened: Open, is_slow: bool) -> None:
    """Check 1 of mirrors: four layers at a time, and clients that read at once, or nothing before all has come."""
    mirroring = opened()
    warm = ServedBlob(
        mirroring.server, bytes(MIB), path=f"/v2/{APP}/blobs/sha256:{hashlib.sha256(bytes(MIB)).hexdigest()}"
    )
    for at in range(2):
        assert mirroring.pull_whole(warm.digest, at).digest == warm.digest
    layers = [LargeLayer(mirroring.server, number) for number in range(LAYERS)]
    with measured(mirroring) as most, ThreadPoolExecutor(LAYERS) as pool:
        slow = [mirroring.pull(layer.digest, at) for at, layer in enumerate(layers)] if is_slow else []
        for client in slow:
            client.read(1000)
        done = pool.map(
            mirroring.pull_whole, [layer.digest for layer in layers], range(1, LAYERS + 1), timeout=5 * WAIT
        )
        assert [got.digest for got in done] == [layer.digest for layer in layers]
        for client, layer in zip(slow, layers, strict=False):
            with client:
                assert client.rest().digest == layer.digest
    assert max(most) < MOST

"""Objects that leave chunk by chunk through the server."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any, cast

from registry.api.http import blob_response
from registry.storage.driver import CHUNK_SIZE, ObjectStat

if TYPE_CHECKING:
    import pytest

DATA = os.urandom(6 * CHUNK_SIZE + 17)
PATIENCE = 2000
"""Milliseconds that a client which keeps up waits, at each chunk, for the thread that reads ahead."""


class Reader:
    """Notes what it is asked for."""

    def __init__(self) -> None:
        self.stat = ObjectStat(len(DATA), "", 0.0)
        self.asked: list[int] = []
        self._position = 0

    def read(self, size: int) -> bytes:
        self.asked.append(size)
        self._position += size
        return DATA[self._position - size : self._position]


class Threads:
    """An edge with threads alone."""

    def transfer(self, function: Any, *args: Any) -> asyncio.Future[bytes]:
        return asyncio.get_running_loop().run_in_executor(None, function, *args)


async def send_all(reader: Reader, seconds: float) -> tuple[bytes, int]:
    """What a client gets that takes so long for each chunk, and how much was read at most beyond what it had."""
    got, ahead = b"", 0

    async def send(message: Any) -> None:
        nonlocal got, ahead
        got += message["body"]
        await asyncio.sleep(seconds)
        is_fast = not seconds and len(got) < len(DATA)
        for _ in range(PATIENCE if is_fast and reader.asked[-1] == CHUNK_SIZE else 0):  # a thread begins when it can
            if sum(reader.asked) > len(got):
                break
            await asyncio.sleep(0.001)
        ahead = max(ahead, sum(reader.asked) - len(got))

    await blob_response.send_object(cast("Any", Threads()), cast("Any", reader), len(DATA), send, more=False)
    return got, ahead


def test_for_a_client_that_keeps_up_the_next_chunk_is_read_while_one_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blob_response, "SLOW_SECONDS", 60.0)
    reader = Reader()
    got, ahead = asyncio.run(send_all(reader, 0))
    assert got == DATA
    assert max(reader.asked) == CHUNK_SIZE
    assert ahead > 0


def test_for_a_slow_client_little_is_read_and_nothing_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blob_response, "SLOW_SECONDS", 0.001)
    reader = Reader()
    got, ahead = asyncio.run(send_all(reader, 0.005))
    assert got == DATA
    assert (max(reader.asked), ahead) == (blob_response.LEAST, 0)

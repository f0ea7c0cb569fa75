"""Coroutines that wait for a fetch: no thread each, none forgotten, none left behind."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from registry.api.mirroring.waiting import until_bytes, until_head
from registry.images.fetching.content import FetchFailed, Reason
from registry.images.fetching.hub import FetchHub
from registry.images.fetching.reader import FetchReader
from tests.images.fetching.scripted import PIECE, WAIT, Gate, ScriptedUpstream, hub_of, join
from tests.support.registry_world import World

DATA = random.Random(25).randbytes(20 * PIECE)
CLIENTS = 200


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[FetchHub]:
    world = World(tmp_path, "memory")
    with hub_of(world.registry()) as hub:
        yield hub
    world.close()


async def read_all(reader: FetchReader) -> bytes:
    await until_head(reader, WAIT)
    reader.head()
    data = b""
    while not reader.is_done:
        await until_bytes(reader, WAIT)
        data += reader.read(1 << 20)
    return data


def test_many_clients_wait_without_a_thread_each(hub: FetchHub) -> None:
    upstream = ScriptedUpstream(DATA)
    upstream.on_piece = gate = Gate(10 * PIECE)
    counts: list[int] = []

    async def work() -> list[bytes]:
        reading = [asyncio.create_task(read_all(reader)) for reader in readers]
        assert await asyncio.to_thread(gate.reached.wait, WAIT)
        await asyncio.sleep(0.1)
        counts.append(threading.active_count())
        gate.opened.set()
        return await asyncio.gather(*reading)

    with ExitStack() as stack:
        readers = [stack.enter_context(join(hub, upstream)) for _ in range(CLIENTS)]
        assert all(data == DATA for data in asyncio.run(work()))
    assert counts[0] < CLIENTS / 4
    assert upstream.requests == [0]


def test_a_client_that_waits_too_long_or_leaves_is_forgotten(hub: FetchHub) -> None:
    upstream = ScriptedUpstream(DATA)
    upstream.on_open = Gate(0)

    async def wait(reader: FetchReader) -> None:
        with pytest.raises(TimeoutError):
            await until_head(reader, 0.05)
        waiting = asyncio.create_task(until_bytes(reader))
        await asyncio.sleep(0.05)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    with join(hub, upstream) as reader:
        asyncio.run(wait(reader))
        assert reader.fetch._watches == set()
        upstream.on_open.opened.set()


def test_an_error_wakes_a_client(hub: FetchHub) -> None:
    upstream = ScriptedUpstream(DATA)
    gate = Gate(0)

    def refuse(number: int) -> None:
        gate(number)
        raise FetchFailed(Reason.ABSENT, "no")

    upstream.on_open = refuse

    async def wait(reader: FetchReader) -> None:
        waiting = asyncio.create_task(until_head(reader, WAIT))
        await asyncio.sleep(0.05)
        gate.opened.set()
        await waiting
        with pytest.raises(FetchFailed):
            reader.head()

    with join(hub, upstream) as reader:
        asyncio.run(wait(reader))


def test_a_loop_that_has_ended_is_no_harm_to_the_leader(hub: FetchHub) -> None:
    upstream = ScriptedUpstream(DATA)
    upstream.on_piece = gate = Gate(PIECE)

    with join(hub, upstream) as slow:
        assert gate.reached.wait(WAIT)
        slow.read(1 << 30)
        with pytest.raises(TimeoutError):
            asyncio.run(_wait_only(slow))
        gate.opened.set()
        assert asyncio.run(read_all(slow))


async def _wait_only(reader: FetchReader) -> None:
    await until_bytes(reader, 0.05)

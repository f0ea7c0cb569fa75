"""The memory of uploads: lent, and asked for where its upload is slow."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import pytest

from registry.api.http import upload_memory
from registry.api.http.upload_memory import Share, UploadMemory

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine

PART = 100


class Upload:
    """An upload that has a buffer for a whole part as soon as it has a byte."""

    def __init__(self, memory: UploadMemory) -> None:
        self.memory = memory
        self.held = 0
        self.spills = 0
        self.came = asyncio.Event()
        self.share: Share

    @contextlib.asynccontextmanager
    async def going_on(self) -> AsyncIterator[Upload]:
        with self.memory.share(self._spill) as self.share:
            yield self

    async def add(self, size: int) -> None:
        async with self.share.part(lambda: PART if self.held else 0):
            self.held = (self.held + size) % PART
        self.share.received(size)

    async def wait(self) -> None:
        await self.share.wait(self.came.wait)

    async def _spill(self) -> int:
        await asyncio.sleep(0)
        self.held = 0
        self.spills += 1
        return 0


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SILENT_SECONDS", "LOOK_SECONDS"):
        monkeypatch.setattr(upload_memory, name, 0.01)


def run(story: Coroutine[object, object, None]) -> None:
    async def within() -> None:
        async with asyncio.timeout(30):
            await story

    asyncio.run(within())


def test_an_upload_that_finds_no_memory_gets_that_of_silent_ones() -> None:
    async def story() -> None:
        memory = UploadMemory(3 * PART, PART)
        async with contextlib.AsyncExitStack() as stack:
            slow = [await stack.enter_async_context(Upload(memory).going_on()) for _ in range(3)]
            for upload in slow:
                await upload.add(90)
            waiting = [asyncio.create_task(upload.wait()) for upload in slow]
            fast = await stack.enter_async_context(Upload(memory).going_on())
            await fast.add(50)
            assert sum(upload.spills for upload in slow) == 1
            assert memory.taken <= 3 * PART
            assert not any(task.done() for task in waiting), "they still wait for their clients"
            for upload in slow:
                upload.came.set()
            await asyncio.gather(*waiting)
        assert memory.taken == 0

    run(story())


def test_more_uploads_than_there_is_memory_for_all_go_on() -> None:
    async def story() -> None:
        memory, most = UploadMemory(2 * PART, PART), 0

        async def push(upload: Upload) -> None:
            nonlocal most
            async with upload.going_on():
                for _ in range(20):
                    await upload.add(30)
                    most = max(most, memory.taken)
                    upload.came.clear()
                    asyncio.get_running_loop().call_later(0.005, upload.came.set)
                    await upload.wait()

        await asyncio.gather(*(push(Upload(memory)) for _ in range(30)))
        assert most <= 2 * PART
        assert memory.taken == 0

    run(story())


def test_what_is_larger_than_all_memory_goes_on_alone() -> None:
    async def story() -> None:
        memory = UploadMemory(10, PART)
        async with Upload(memory).going_on() as first, Upload(memory).going_on() as second:
            await first.add(90)
            waiting = asyncio.create_task(first.wait())
            await second.add(90)
            assert (first.spills, second.held) == (1, 90)
            first.came.set()
            await waiting

    run(story())


def test_an_upload_that_fills_its_part_in_time_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upload_memory, "SILENT_SECONDS", 100.0)

    async def story() -> None:
        memory = UploadMemory(PART, PART)
        async with Upload(memory).going_on() as first, Upload(memory).going_on() as second:
            await first.add(90)
            waiting = asyncio.create_task(first.wait())
            other = asyncio.create_task(second.add(10))
            await asyncio.sleep(0.05)
            assert not other.done()
            first.came.set()
            await waiting
            await first.add(10)  # the part is whole, and in the store
            await other
            assert first.spills == 0

    run(story())


def test_an_upload_that_is_given_up_while_it_waits_takes_nothing() -> None:
    async def story() -> None:
        memory = UploadMemory(PART, PART)
        async with Upload(memory).going_on() as first, Upload(memory).going_on() as second:
            await first.add(90)
            task = asyncio.create_task(second.add(10))
            await asyncio.sleep(0.05)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert memory.taken == 0

    run(story())


def test_a_client_whose_store_fails_while_it_spills_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail() -> int:
        raise OSError("the store is gone")

    async def story() -> None:
        memory = UploadMemory(PART, PART)
        async with Upload(memory).going_on() as first, Upload(memory).going_on() as second:
            await first.add(90)
            monkeypatch.setattr(first.share, "_spill", fail)
            waiting = asyncio.create_task(first.wait())
            other = asyncio.create_task(second.add(10))
            with pytest.raises(OSError, match="gone"):
                await waiting
            assert not other.done()
            memory.lend(first.share, 0)
            await other

    run(story())

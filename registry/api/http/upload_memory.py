"""Upload memory: that of parts for a store that takes them, lent to the uploads that fill it.

A part of an upload stays in memory until there is all of it. A slow client would keep that memory for minutes, and a
few of them all that there is. So memory is lent: an upload that finds none left asks for that of the slowest, which
brings what it has to the store (``UploadWriter.spill``) and goes on. Nothing waits for a client here, only for the
store.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import asynccontextmanager, contextmanager
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

T = TypeVar("T")

SILENT_SECONDS = 0.25
"""How long a client is silent before the memory of its upload may be asked for."""
FILLING_SECONDS = 4.0
"""How long an upload may take for a part before its memory may be asked for, silent or not."""
LOOK_SECONDS = 0.1
"""Between two looks at whether an upload has become slow, while another waits."""


class UploadMemory:
    """For the event loop's thread alone."""

    def __init__(self, total: int, part: int) -> None:
        """``part`` is what one upload holds at most, and ``total``, in bytes too, is at least that."""
        self.part = part
        self._total = max(total, part)
        self._taken = 0
        self._shares: set[Share] = set()
        self._queue: deque[_Wish] = deque()
        self._looking: asyncio.TimerHandle | None = None

    @property
    def taken(self) -> int:
        """Bytes that are lent now."""
        return self._taken

    @contextmanager
    def share(self, spill: Callable[[], Awaitable[int]]) -> Iterator[Share]:
        """What one upload has. ``spill`` frees its memory and returns how much it still holds."""
        share = Share(self, spill)
        self._shares.add(share)
        try:
            yield share
        finally:
            self._shares.discard(share)
            self.lend(share, 0)

    def lend(self, share: Share, size: int) -> None:
        """From now on the share has ``size`` bytes."""
        self._taken += size - share.held
        share.held = size
        self.look()

    async def wish(self, share: Share, size: int) -> None:
        """Wait until the share has ``size`` bytes; it must have none yet."""
        wish = _Wish(share, size, asyncio.get_running_loop().create_future())
        self._queue.append(wish)
        self.look()
        try:
            await wish.granted
        finally:
            if wish in self._queue:
                self._queue.remove(wish)
                self.look()

    def fits(self, size: int) -> bool:
        """Whether that much more may be lent now, before the uploads that wait."""
        return not self._queue and self._taken + size <= self._total

    def look(self) -> None:
        """Grant what there is room for, in the order of the wishes, and ask the slowest uploads for the rest."""
        while self._queue and self._taken + self._queue[0].size <= self._total:
            wish = self._queue.popleft()
            if not wish.granted.done():
                self._taken += wish.size
                wish.share.held = wish.size
                wish.granted.set_result(None)
        if self._queue:
            self._ask(self._taken + self._queue[0].size - self._total)

    def _ask(self, missing: int) -> None:
        missing -= sum(share.held for share in self._shares if share.is_asked)
        now = monotonic()
        slow = [share for share in self._shares if share.is_slow(now)]
        for share in sorted(slow, key=lambda share: share.burden(now), reverse=True):
            if missing <= 0:
                return
            missing -= share.held
            share.ask()
        if missing > 0 and self._looking is None:
            self._looking = asyncio.get_running_loop().call_later(LOOK_SECONDS, self._look_again)

    def _look_again(self) -> None:
        self._looking = None
        self.look()


class Share:
    """The memory of one upload."""

    def __init__(self, memory: UploadMemory, spill: Callable[[], Awaitable[int]]) -> None:
        self._memory = memory
        self._spill = spill
        self._waiting: asyncio.Timeout | None = None
        self._silent_since = 0.0
        self._filling_since = 0.0
        self._filled = 0
        self.held = 0
        """Bytes that it has."""
        self.is_asked = False
        """It is to give them back."""

    @asynccontextmanager
    async def part(self, held: Callable[[], int]) -> AsyncIterator[None]:
        """For a block that adds to the upload: with memory for a whole part. ``held`` tells what remains after it."""
        size = self._memory.part
        if self.held < size:
            if not self._memory.fits(size - self.held) and self.held:
                await self.give_back()
            if self._memory.fits(size - self.held):
                self._memory.lend(self, size)
            else:
                await self._memory.wish(self, size)
        try:
            yield
        finally:
            self._memory.lend(self, held())

    def received(self, size: int) -> None:
        """So many bytes came: with each part the upload is a new one, which has to show again that it is slow."""
        self._filled += size
        if self._filled >= self._memory.part or not self._filling_since:
            self._filled, self._filling_since = 0, monotonic()

    async def wait(self, client: Callable[[], Awaitable[T]]) -> T:
        """What ``client`` waits for, whose wait is broken off and begun again where memory is asked for meanwhile."""
        self._silent_since = monotonic()
        while True:
            try:
                async with asyncio.timeout(None) as self._waiting:
                    came = await client()
            except TimeoutError:
                self._waiting = None
                if not self.is_asked:
                    raise
                await self.give_back()
                continue
            finally:
                self._waiting = None
            if self.is_asked:  # in the instant in which it came
                self.is_asked = False
                self._memory.look()
            return came

    async def give_back(self) -> None:
        """Bring what is in memory to the store."""
        try:
            self._memory.lend(self, await self._spill())
        finally:
            self.is_asked = False

    def is_slow(self, now: float) -> bool:
        """Whether its memory may be asked for: it has some, and its client is waited for."""
        return (
            self.held > 0
            and self._waiting is not None
            and not self.is_asked
            and (now - self._silent_since > SILENT_SECONDS or now - self._filling_since > FILLING_SECONDS)
        )

    def burden(self, now: float) -> float:
        """Its cost for other uploads: bytes, times the seconds that it has been filling them."""
        return self.held * (now - self._filling_since)

    def ask(self) -> None:
        """Have it give its memory back."""
        if self._waiting is not None:
            self.is_asked = True
            self._waiting.reschedule(asyncio.get_running_loop().time())


class _Wish(NamedTuple):
    """Memory that an upload waits for."""

    share: Share
    size: int
    granted: asyncio.Future[None]

"""What every route of the API works with: the core, the pool of threads that runs it, and the rules of the edge."""

from __future__ import annotations

import asyncio
import contextvars
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from registry.api.locations import Locations
from registry.api.reads import ReadMemory
from registry.database.currency import currency_of
from registry.storage.driver import CHUNK_SIZE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request

    from registry.config import Settings
    from registry.images.core import Core

P = ParamSpec("P")
T = TypeVar("T")


class Edge:
    """One per process. The asynchronous side of the core."""

    def __init__(self, core: Core, settings: Settings) -> None:
        self.core = core
        self.settings = settings
        self.locations = Locations(settings.http)
        self.memory = ReadMemory(core, currency_of(core.stores.database), settings.limits.read_memory)
        self.buffers = asyncio.Semaphore(max(2, settings.limits.upload_buffers // (2 * CHUNK_SIZE)))
        """One permit is the right to receive a chunk of an upload while another is written."""
        self._pool = ThreadPoolExecutor(settings.limits.threads, thread_name_prefix="core")

    def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Awaitable[T]:
        """Run a call of the synchronous core in a thread; begins at once, also before it is awaited."""
        context = contextvars.copy_context()
        return asyncio.get_running_loop().run_in_executor(self._pool, lambda: context.run(function, *args, **kwargs))

    def close(self) -> None:
        """Wait for what runs in threads, then free what the edge holds. The core stays open."""
        self._pool.shutdown(wait=True)
        self.memory.close()


def edge_of(request: Request) -> Edge:
    """The edge of the application that handles ``request``."""
    edge: Edge = request.app.state.edge
    return edge

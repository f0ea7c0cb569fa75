"""Network delay: a proxy whose requests arrive later; answers come at once.

``python network_delay.py PORT STORE_PORT SECONDS``. It forwards bytes unseen, so it costs little. A call takes
so many seconds longer; a request that waits for ``100 Continue`` pays twice, as it does on a real line.
"""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from contextlib import suppress
from typing import cast

import uvloop

HOST = "127.0.0.1"


class _Back(asyncio.Protocol):
    """The store's side of a connection: what it says is passed on at once."""

    def __init__(self, client: asyncio.Transport) -> None:
        self._client = client

    def data_received(self, data: bytes) -> None:
        self._client.write(data)

    def connection_lost(self, _: Exception | None) -> None:
        self._client.close()


class _Line(asyncio.Protocol):
    """A client's connection: what it says is passed on ``seconds`` later, in order."""

    def __init__(self, store_port: int, seconds: float) -> None:
        self._store_port = store_port
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._under_way: deque[bytes] = deque()
        self._store: asyncio.Task[asyncio.Transport] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._store = self._loop.create_task(self._connect(cast("asyncio.Transport", transport)))

    def data_received(self, data: bytes) -> None:
        self._under_way.append(data)
        self._loop.call_later(self._seconds, self._arrive)

    def connection_lost(self, _: Exception | None) -> None:
        if self._store is not None:
            self._store.add_done_callback(_hang_up)

    async def _connect(self, client: asyncio.Transport) -> asyncio.Transport:
        try:
            store, _ = await self._loop.create_connection(lambda: _Back(client), HOST, self._store_port)
        except OSError:
            client.close()
            raise
        return store

    def _arrive(self) -> None:
        data = self._under_way.popleft()
        if self._store is not None:
            with suppress(OSError, asyncio.InvalidStateError):
                self._store.result().write(data)


def _hang_up(store: asyncio.Task[asyncio.Transport]) -> None:
    if not store.cancelled() and store.exception() is None:
        store.result().close()


async def _serve(port: int, store_port: int, seconds: float) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Line(store_port, seconds), HOST, port, backlog=256)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))

"""Readiness: waiting in the event loop until a socket has bytes, or room for them.

Tests: ``tests/server/test_slow_downloads.py``.
"""

from __future__ import annotations

import asyncio


async def readable(socket: int) -> None:
    """Wait until there is something to read, or the other side is gone."""
    loop = asyncio.get_running_loop()
    ready = loop.create_future()
    loop.add_reader(socket, _set, ready)
    try:
        await ready
    finally:
        loop.remove_reader(socket)


async def writable(socket: int) -> None:
    """Wait until there is room to write, or the other side is gone."""
    loop = asyncio.get_running_loop()
    ready = loop.create_future()
    loop.add_writer(socket, _set, ready)
    try:
        await ready
    finally:
        loop.remove_writer(socket)


def _set(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)

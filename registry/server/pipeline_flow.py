"""Pipeline flow: when a connection is read, if its client sends requests before earlier ones are answered.

Tests: ``tests/hostile/test_pipelines.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from uvicorn.protocols.http.flow_control import FlowControl

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sized

DEPTH = 64
"""Requests of a connection that wait for each other; what was read beyond them is not looked at before it is due."""


class PipelineFlow(FlowControl):
    """uvicorn's, but a connection whose requests wait for each other is not read: they would wait in memory."""

    def __init__(self, transport: asyncio.Transport, waiting: Sized) -> None:
        super().__init__(transport)
        self._waiting = waiting
        self.held = bytearray()
        """Bytes behind the requests that wait."""

    def resume_reading(self) -> None:
        """See uvicorn, which calls this after each answer."""
        if not self._waiting and not self.held:
            super().resume_reading()

    def hold(self, data: bytes | memoryview) -> None:
        """Keep what is to be looked at later, and read no more until then."""
        self.held += data
        self.pause_reading()

    def take_held(self) -> bytes:
        """What was kept, once. Reading goes on when it is asked for."""
        data = bytes(self.held)
        self.held.clear()
        return data

    def read_on(self) -> None:
        """Read, whatever waits: what comes is dropped."""
        self.held.clear()
        super().resume_reading()

"""When a connection is read, where its client sends requests before earlier ones are answered."""

from __future__ import annotations

from typing import TYPE_CHECKING

from uvicorn.protocols.http.flow_control import FlowControl

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sized


class PipelineFlow(FlowControl):
    """uvicorn's, but a connection whose requests wait for each other is not read: they would wait in memory."""

    def __init__(self, transport: asyncio.Transport, waiting: Sized) -> None:
        super().__init__(transport)
        self._waiting = waiting

    def resume_reading(self) -> None:
        """See uvicorn, which calls this after each answer."""
        if not self._waiting:
            super().resume_reading()

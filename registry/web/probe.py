"""*Probe*: a question to storage or database with a bounded wait for its answer.

Tests: ``tests/server/test_silent_database.py``.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from time import monotonic
from typing import TYPE_CHECKING

import structlog

from registry.database.errors import DatabaseError
from registry.storage.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Callable

SECONDS = 2.0
"""Seconds to wait for an answer; probes of orchestrators wait for a few seconds."""
ANEW_SECONDS = 10.0
"""Seconds after which a question may be waiting on a dead connection, and another one is asked beside it."""
MOST = 4
"""Questions that wait at once: each has a thread."""

log = structlog.get_logger(__name__)


class Probe:
    """Asks in threads of its own, so that waiting requests cannot delay it. For one event loop."""

    def __init__(self, name: str, ask: Callable[[], object], event: str) -> None:
        """``ask`` may block, and raises StorageError or DatabaseError if there is no answer.

        ``event`` is logged then.
        """
        self.name = name
        self._ask = ask
        self._event = event
        self._asked: asyncio.Future[bool] | None = None
        self._began = 0.0
        self._waiting = 0

    async def is_answered(self) -> bool:
        """Whether an answer comes within SECONDS. Callers at the same time share one question."""
        asked = self._asked
        is_old = monotonic() - self._began > ANEW_SECONDS
        if asked is None or asked.done() or (is_old and self._waiting < MOST):
            asked = self._begin(asyncio.get_running_loop())
        try:
            async with asyncio.timeout(SECONDS):
                return await asyncio.shield(asked)
        except TimeoutError:
            log.warning(self._event, reason=f"no answer within {SECONDS:g} seconds")
            return False

    def _begin(self, loop: asyncio.AbstractEventLoop) -> asyncio.Future[bool]:
        asked: asyncio.Future[bool] = loop.create_future()
        self._asked, self._began = asked, monotonic()
        self._waiting += 1

        def end(result: bool) -> None:  # noqa: FBT001 - called by the loop
            self._waiting -= 1
            if not asked.done():
                asked.set_result(result)

        def run() -> None:
            result = self._is_answered()
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(end, result)

        threading.Thread(target=run, name=f"probe-{self.name}", daemon=True).start()
        return asked

    def _is_answered(self) -> bool:
        try:
            self._ask()
        except (DatabaseError, StorageError) as error:
            log.warning(self._event, reason=str(error).strip())
            return False
        except Exception:
            log.exception(self._event)
            return False
        return True

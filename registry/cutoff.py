"""*Cutoff*: the end of a conversation that takes too long.

A timeout of a socket is for each byte, of which a server may send one now and then for ever. So something of the
conversation, as a rule its connection, is ended from outside when the time is over.

Tests: ``tests/auth/oidc/test_documents.py``, ``tests/upstream/test_client.py``.
"""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable


class Cutoff:
    """A context manager: ``end`` is called, in another thread, if the block takes longer than ``seconds``."""

    def __init__(self, seconds: float, end: Callable[[], object]) -> None:
        """``end`` may raise OSError or RuntimeError where the conversation has ended by itself."""
        self._end = end
        self._over = threading.Event()
        self._timer = threading.Timer(seconds, self._cut)
        self._timer.daemon = True

    @property
    def is_over(self) -> bool:
        """Whether the time was over before the block had ended."""
        return self._over.is_set()

    def __enter__(self) -> Self:
        self._timer.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._timer.cancel()
        self._timer.join()

    def _cut(self) -> None:
        self._over.set()
        with contextlib.suppress(OSError, RuntimeError):
            self._end()

"""*Watch*: a callback that waits for something of a fetch.

Tests: ``tests/images/fetching/test_fetch.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import structlog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

log = structlog.get_logger(__name__)


class Watch:
    """A callback that waits for something; it is called once."""

    def __init__(self, owner: Watched, is_due: Callable[[], bool], wake: Callable[[], object]) -> None:
        self.owner = owner
        self.is_due = is_due
        self.wake = wake

    def cancel(self) -> None:
        """Let it wait no more; it may be called at this moment."""
        self.owner.forget(self)


def wake_all(watches: Iterable[Watch]) -> None:
    """Call what waits for something that is true by now; the caller has no lock."""
    for watch in watches:
        try:
            watch.wake()
        except Exception:  # each other client is called all the same
            log.exception("a client of a fetch could not be woken")


class Watched(Protocol):
    """What a callback waits for."""

    def forget(self, watch: Watch) -> None:
        """See Watch.cancel."""

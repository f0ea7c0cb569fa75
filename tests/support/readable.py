"""*Readable*: waiting for what comes to a descriptor; ``select`` knows no more than 1024 of them, a worker has more.

Tests: ``tests/server/test_bounds.py``.
"""

from __future__ import annotations

import selectors
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import FileDescriptorLike


def is_readable(source: FileDescriptorLike, seconds: float) -> bool:
    """Whether there is something to read, or the end, within so many seconds."""
    with selectors.PollSelector() as selector:
        selector.register(source, selectors.EVENT_READ)
        return bool(selector.select(seconds))

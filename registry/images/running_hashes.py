"""Running hashes of uploads: what one process has seen of each, so that a closing PUT reads nothing again."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from cachetools import LRUCache

if TYPE_CHECKING:
    from hashlib import _Hash

REMEMBERED = 10_000
"""Uploads whose hash a process keeps; of one that it forgot the bytes are read once more."""


class RunningHashes:
    """Hash objects by upload and offset. Any thread; whoever takes one owns it until it is kept again."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: LRUCache[str, tuple[int, _Hash]] = LRUCache(REMEMBERED)

    def take(self, upload_id: str, offset: int) -> _Hash | None:
        """The hash of the first ``offset`` bytes, if this process has it."""
        with self._lock:
            kept = self._kept.pop(upload_id, None)
        return kept[1] if kept is not None and kept[0] == offset else None

    def keep(self, upload_id: str, offset: int, hasher: _Hash) -> None:
        """Keep the hash of the first ``offset`` bytes."""
        with self._lock:
            self._kept[upload_id] = (offset, hasher)

    def forget(self, upload_id: str) -> None:
        """The upload has ended."""
        with self._lock:
            self._kept.pop(upload_id, None)

    def count(self) -> int:
        """How many are kept."""
        with self._lock:
            return len(self._kept)

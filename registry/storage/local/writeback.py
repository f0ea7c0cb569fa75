"""Writeback: the kernel writes a long upload out while it arrives, so that its final fsync has little left to do.

Tests: ``tests/storage/test_driver_contract_uploads.py``.
"""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

WINDOW = 32 << 20
"""Bytes after which write-out of what was written is begun: measured, 8 MiB is slower and 64 MiB no faster."""

_SYNC_FILE_RANGE_WRITE = 2
"""Begin to write dirty pages of the range, and do not wait (sync_file_range(2)); it promises nothing, fsync does."""


def _find() -> Callable[[int, int, int], object] | None:
    """The system call, where the C library has it (Linux)."""
    function = getattr(ctypes.CDLL(None), "sync_file_range", None)
    if function is None:
        return None
    function.argtypes = [ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint]
    return lambda descriptor, offset, length: function(descriptor, offset, length, _SYNC_FILE_RANGE_WRITE)


_begin = _find()


class WriteBack:
    """Begins the write-out of one file window by window."""

    def __init__(self, *, enabled: bool) -> None:
        self._enabled = enabled and _begin is not None
        self._begun = 0

    def restart(self, position: int) -> None:
        """What lies before ``position`` is not ours to write out."""
        self._begun = position

    def advance(self, descriptor: int, position: int) -> None:
        """The file is now ``position`` bytes long."""
        if not self._enabled or position - self._begun < WINDOW or _begin is None:
            return
        _begin(descriptor, self._begun, position - self._begun)
        self._begun = position

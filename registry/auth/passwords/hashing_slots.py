"""*Hashing slots*: how many passwords all processes of one server verify at once.

Each process has threads of its own for that, at a low priority of their own. But priority counts among the threads of
one session or container alone, and a woken thread does not always take a core at once from what runs there: where every
core verifies a password, requests wait for it. So some cores are left to them.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class HashingSlots:
    """Made by the parent, held by processes that are forked from it since, of which each has one thread that hashes.

    A slot is a lock on a byte of a file without a name: a process that dies gives it back. Locks are a process's, not a
    thread's.
    """

    def __init__(self, count: int) -> None:
        self._descriptor = os.memfd_create("hashing", os.MFD_CLOEXEC)
        self._count = count

    @contextlib.contextmanager
    def hold(self) -> Iterator[None]:
        """Wait for a slot, and have it for the length of a block. In a thread."""
        slot = self._take()
        try:
            yield
        finally:
            fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1, slot)

    def _take(self) -> int:
        """Take any that is free; where none is, wait for one, always the same, for as long as its holder verifies."""
        first = os.getpid() % self._count
        slots: list[int] = [first, *range(self._count)]
        for slot in slots:
            with contextlib.suppress(BlockingIOError, PermissionError):  # it is held
                fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, slot)
                return slot
        fcntl.lockf(self._descriptor, fcntl.LOCK_EX, 1, first)
        return first


def slots_for(cores: int) -> int:
    """Tell how many passwords are verified at once on a machine: on half of its cores, so that the rest serve."""
    return max(1, cores // 2)

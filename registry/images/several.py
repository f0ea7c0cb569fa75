"""Several calls to a store at once, where each of them waits for an answer from far away."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from registry.waiting import aside

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from registry.storage.driver import Capabilities

A = TypeVar("A")
R = TypeVar("R")

AT_ONCE = 16
"""Calls of one piece of work that are under way at the same time."""


def map_several(capabilities: Capabilities, function: Callable[[A], R], items: Sequence[A]) -> list[R]:
    """``function`` of each, in order; the first error ends it, when what is under way has ended."""
    if capabilities.stat_is_local or len(items) < 2:  # noqa: PLR2004 - one needs no company
        return [function(item) for item in items]
    with aside, ThreadPoolExecutor(min(AT_ONCE, len(items)), thread_name_prefix="several") as pool:
        return list(pool.map(function, items))

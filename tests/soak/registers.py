"""Registers: values that one writer changes while many read, and whether what a reader saw can have been the value.

A write takes effect at one instant between its beginning and its answer. So a read that began after an answer sees
that value or a later one, and one that began after another reader had seen a value sees none from before it. What a
memory, a replica or a worker has kept too long breaks one of the two.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")


class Register(Generic[T]):
    """The values of one thing, in the order in which its one writer gave them. Any thread may read."""

    def __init__(self, name: str, value: T) -> None:
        self.name = name
        self._lock = threading.Lock()
        self._values = [value]
        self._settled = 0  # the last value that was acknowledged, or seen by a reader that was answered

    @property
    def value(self) -> T:
        """The last that was written. For the writer."""
        return self._values[-1]

    @property
    def writes(self) -> int:
        """How many there were."""
        return len(self._values) - 1

    @contextmanager
    def write(self, value: T) -> Iterator[None]:
        """Send the request that changes the value within the block, which ends without an error if it is answered."""
        with self._lock:
            self._values.append(value)
        yield
        with self._lock:
            self._settled = len(self._values) - 1

    def begin(self) -> int:
        """Before a read is sent: what it may see begins here."""
        with self._lock:
            return self._settled

    def judge(self, begun: int, seen: str, agrees: Callable[[T], bool]) -> None:
        """After its answer. Raises AssertionError if no value since ``begun`` agrees with what was seen."""
        with self._lock:
            possible = [number for number in range(begun, len(self._values)) if agrees(self._values[number])]
            assert possible, f"{self.name}: stale: {seen}, of {self._values[begun:]} after {self._values[:begun][-3:]}"
            self._settled = max(self._settled, possible[0])

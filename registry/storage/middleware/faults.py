"""Faults: a driver that fails on purpose, so that tests can show what a failure at each step leaves behind."""

from __future__ import annotations

import enum
import random
import threading
from collections import Counter
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, TypeVar

from registry.storage.errors import StorageError, StorageUnavailable
from registry.storage.middleware.base import DriverDecorator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from registry.storage.driver import StorageDriver

T = TypeVar("T")


class When(enum.Enum):
    """When a fault strikes. A caller sees the same error either way and must live with both."""

    BEFORE = "before"
    """Nothing was done."""
    AFTER = "after"
    """The operation took effect; its answer was lost."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Which operations fail, and how."""

    operation: str = "*"
    """Pattern (fnmatch) of the operation; their names are in DriverDecorator.around."""
    key: str = "*"
    """Pattern (fnmatch) of the key, prefix or upload id."""
    first: int = 1
    """The first matching operation that fails, counted from 1."""
    times: int | None = 1
    """Most operations that fail; None if all do."""
    probability: float = 1.0
    """How likely each of them fails; the driver's seed decides."""
    moment: When = When.BEFORE
    effect: StorageError | type[StorageError] | Callable[[], None] = StorageUnavailable
    """An error to raise (a class gets the key), or a function to call: one that returns lets the operation go on."""

    def matches(self, operation: str, key: str) -> bool:
        """Whether this fault is meant for such an operation."""
        return fnmatchcase(operation, self.operation) and fnmatchcase(key, self.key)


class FaultyDriver(DriverDecorator):
    """Strikes by a plan. Several faults may strike one operation, in the order of the plan; counting is thread-safe.

    Attributes:
        calls: how many operations began, by name.
        struck: how often each fault of the plan struck, by its place in the plan.
    """

    def __init__(self, inner: StorageDriver, plan: Iterable[Fault] = (), *, seed: int = 0) -> None:
        super().__init__(inner)
        self.calls: Counter[str] = Counter()
        self.struck: Counter[int] = Counter()
        self._plan = tuple(plan)
        self._matched: Counter[int] = Counter()
        self._random = random.Random(seed)  # noqa: S311 - it has to repeat
        self._lock = threading.Lock()

    def around(self, operation: str, key: str, call: Callable[[], T]) -> T:
        """See DriverDecorator."""
        striking = self._striking(operation, key)
        _strike(striking, When.BEFORE, operation, key)
        result = call()
        try:
            _strike(striking, When.AFTER, operation, key)
        except BaseException:
            _close(result)
            raise
        return result

    def _striking(self, operation: str, key: str) -> tuple[Fault, ...]:
        """The faults that strike this operation; it is counted."""
        with self._lock:
            self.calls[operation] += 1
            return tuple(
                fault
                for place, fault in enumerate(self._plan)
                if fault.matches(operation, key) and self._is_due(place, fault)
            )

    def _is_due(self, place: int, fault: Fault) -> bool:
        self._matched[place] += 1
        if self._matched[place] < fault.first or (fault.times is not None and self.struck[place] >= fault.times):
            return False
        if self._random.random() >= fault.probability:
            return False
        self.struck[place] += 1
        return True


def _close(result: object) -> None:
    """Free a reader or writer that its caller will never see, and so cannot free."""
    close = getattr(result, "close", None)
    if close is not None:
        close()


def _strike(faults: Iterable[Fault], moment: When, operation: str, key: str) -> None:
    for fault in faults:
        if fault.moment is not moment:
            continue
        effect = fault.effect
        if isinstance(effect, StorageError):
            raise effect
        if isinstance(effect, type):
            raise effect(key, f"fault injected {moment.value} {operation}")
        effect()

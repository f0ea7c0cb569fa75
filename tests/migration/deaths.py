"""Ending a process after any one of its steps: an operation on the store, or a commit of the database."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

from registry.database.engine import Database
from registry.database.transaction import Transaction
from registry.storage.driver import StorageDriver
from registry.storage.middleware.base import DriverDecorator

T = TypeVar("T")


class Killed(BaseException):
    """The end of a process: nothing catches it."""


class Doom:
    """Counts steps, and ends the process after one of them: whatever any of its threads begins then is not done."""

    def __init__(self, at: int | None = None) -> None:
        """``at``: the number of the last step, from 1; None: the process lives, and its steps are counted."""
        self.steps = 0
        self._at = at
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def step(self) -> Iterator[None]:
        """Around one step. What was done when the process ends is done; nobody hears of it."""
        with self._lock:
            if self.steps == self._at:
                raise Killed
        yield
        with self._lock:
            self.steps += 1
            if self.steps == self._at:
                raise Killed


class DyingDriver(DriverDecorator):
    """A driver of a process that is doomed."""

    def __init__(self, inner: StorageDriver, doom: Doom) -> None:
        super().__init__(inner)
        self._doom = doom

    def around(self, operation: str, key: str, call: Callable[[], T]) -> T:
        """See DriverDecorator."""
        with self._doom.step():
            return call()


class DyingDatabase(Database):
    """Its database: a step for each commit."""

    def __init__(self, url: str, doom: Doom) -> None:
        super().__init__(url)
        self._doom = doom

    @contextlib.contextmanager
    def write(self, *, durable: bool = True) -> Iterator[Transaction]:
        """See Database."""
        with self._doom.step(), super().write(durable=durable) as connection:
            yield connection

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[Transaction]:
        """See Database."""
        with self._doom.step(), super().exclusive() as connection:
            yield connection

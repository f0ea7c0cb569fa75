"""Killed command: ``registry STEP ARGUMENT...`` by ``main`` of this module is ``registry``, killed after a step."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import TypeVar

from registry.config.settings import Settings
from registry.storage import factory
from registry.storage.driver import StorageDriver
from registry.storage.middleware.base import DriverDecorator
from registry.storage.middleware.metrics import Observe

T = TypeVar("T")


class Suicide(DriverDecorator):
    """Kills this process once the store has done so many operations."""

    def __init__(self, inner: StorageDriver, step: int) -> None:
        super().__init__(inner)
        self._left = step

    def around(self, operation: str, key: str, call: Callable[[], T]) -> T:
        """See DriverDecorator."""
        result = call()
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return result


def main() -> None:
    """Do what ``registry`` does, with the first argument for the step."""
    from registry.cli import main as program

    step, opened = int(sys.argv[1]), factory.open_driver

    def open_doomed(settings: Settings, observe: Observe | None = None) -> StorageDriver:
        """As ``open_driver``."""
        return Suicide(opened(settings, observe), step)

    for module in list(sys.modules.values()):  # in a fork, what opens a store is loaded already
        if module.__dict__.get("open_driver") is opened:
            module.open_driver = open_doomed  # type: ignore[attr-defined]
    sys.argv = ["registry", *sys.argv[2:]]
    program.main()

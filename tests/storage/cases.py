"""The drivers and decorators that the contract suite runs over: a new driver is a new row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from registry.storage.driver import Capabilities, StorageDriver
from registry.storage.faulty import FaultyDriver
from registry.storage.local import LocalDriver
from registry.storage.measured import MeasuredDriver
from registry.storage.memory import MemoryDriver

if TYPE_CHECKING:
    from _pytest.mark import ParameterSet


def _ignore(driver: str, operation: str, seconds: float, failed: bool) -> None:
    assert driver
    assert operation
    assert seconds >= 0
    assert failed in {True, False}


@dataclass(frozen=True)
class DriverCase:
    """How to open a driver on an empty directory."""

    name: str
    open: Callable[[Path], StorageDriver]
    capabilities: Capabilities
    shared: bool
    """Processes that open it on one directory see one store."""


CASES = (
    DriverCase("memory", lambda _: MemoryDriver(), MemoryDriver.capabilities, shared=False),
    DriverCase("local", LocalDriver, LocalDriver.capabilities, shared=True),
    DriverCase("local-nosync", lambda root: LocalDriver(root, fsync=False), LocalDriver.capabilities, shared=True),
    DriverCase(
        "measured-memory", lambda _: MeasuredDriver(MemoryDriver(), _ignore), MemoryDriver.capabilities, shared=False
    ),
    DriverCase("faulty-local", lambda root: FaultyDriver(LocalDriver(root)), LocalDriver.capabilities, shared=True),
)


def cases(where: Callable[[DriverCase], bool] = lambda _: True) -> list[ParameterSet]:
    """Parameters of the ``driver`` and ``case`` fixtures: the rows for which ``where`` holds."""
    import pytest

    return [pytest.param(case, id=case.name) for case in CASES if where(case)]


def case_named(name: str) -> DriverCase:
    """The row of that name, for another process."""
    return next(case for case in CASES if case.name == name)

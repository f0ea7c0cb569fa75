"""The drivers and decorators that the contract suite runs over: a new driver is a new row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from moto import mock_aws
from pydantic import SecretStr

from registry.config import S3Settings
from registry.storage.driver import Capabilities, StorageDriver
from registry.storage.faulty import FaultyDriver
from registry.storage.local import LocalDriver
from registry.storage.measured import MeasuredDriver
from registry.storage.memory import MemoryDriver
from registry.storage.s3 import S3Driver

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


PART = 5 << 20


def _moto(_: Path) -> StorageDriver:
    mocked = mock_aws()
    mocked.start()
    settings = S3Settings(
        bucket="bucket", region="us-east-1", access_key_id="k", secret_access_key=SecretStr("s"), part_size=PART
    )
    driver = S3Driver(settings, "some/root")
    driver._client.create_bucket(Bucket="bucket")
    close = driver.close

    def end() -> None:
        close()
        mocked.stop()

    driver.close = end  # type: ignore[method-assign]
    return driver


CASES = (
    DriverCase("s3-moto", _moto, S3Driver.capabilities, shared=False),
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

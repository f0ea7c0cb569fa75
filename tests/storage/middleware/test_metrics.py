"""What a measured driver reports."""

from __future__ import annotations

from collections import Counter

import pytest

from registry.storage.errors import AlreadyExists, PathNotFound, StorageFull, UploadBusy
from registry.storage.memory import MemoryDriver
from registry.storage.middleware.faults import Fault, FaultyDriver
from registry.storage.middleware.metrics import MeasuredDriver
from tests.storage.uploads import NO_STATE


class Log:
    """Every report that was made."""

    def __init__(self) -> None:
        self.reports: list[tuple[str, str, str | None, float, bool]] = []

    def __call__(self, driver: str, operation: str, kind: str | None, seconds: float, failed: bool) -> None:
        self.reports.append((driver, operation, kind, seconds, failed))

    def operations(self) -> list[str]:
        return [operation for _, operation, _, _, _ in self.reports]

    def failures(self) -> list[str]:
        return [operation for _, operation, _, _, failed in self.reports if failed]


@pytest.fixture
def log() -> Log:
    return Log()


def test_each_operation_is_reported_once_with_its_seconds(log: Log) -> None:
    driver = MeasuredDriver(MemoryDriver(), log)
    driver.write("a/x", b"data")
    driver.stat("a/x")
    driver.read("a/x", max_bytes=10)
    with driver.open("a/x") as reader:
        reader.read(2)
    driver.start_upload("u1")
    with driver.open_upload("u1") as writer:
        writer.resume(NO_STATE, offset=0)
        writer.write(b"data")
        writer.flush()
        writer.read().close()
        writer.publish("a/y")
    driver.discard_upload("u1")
    driver.delete(["a/x", "a/y"])
    driver.check()
    assert log.operations() == [
        "write", "stat", "read", "open", "reader.read", "start_upload", "open_upload", "writer.resume", "writer.write",
        "writer.flush", "writer.read", "writer.publish", "discard_upload", "delete", "check",
    ]  # fmt: skip
    assert [(operation, kind) for _, operation, kind, _, _ in log.reports if kind is not None] == [
        ("write", "put"), ("stat", "head"), ("read", "get"), ("open", "get"), ("delete", "delete"),
    ]  # fmt: skip
    assert {driver for driver, _, _, _, _ in log.reports} == {"memory"}
    assert all(0 <= seconds < 10 for _, _, _, seconds, _ in log.reports)
    assert log.failures() == []


def test_the_time_is_that_of_the_operation(log: Log) -> None:
    import time

    slow = FaultyDriver(MemoryDriver(), [Fault("write", effect=lambda: time.sleep(0.05))])
    MeasuredDriver(slow, log).write("a/x", b"data")
    assert 0.05 <= log.reports[0][3] < 5


def test_an_answer_is_no_failure(log: Log) -> None:
    driver = MeasuredDriver(MemoryDriver(), log)
    with pytest.raises(PathNotFound):
        driver.stat("missing")
    driver.write("a/x", b"data")
    with pytest.raises(AlreadyExists):
        driver.write("a/x", b"data", if_absent=True)
    driver.start_upload("u1")
    with driver.open_upload("u1"), pytest.raises(UploadBusy):
        driver.open_upload("u1")
    assert log.failures() == []
    assert log.operations() == ["stat", "write", "write", "start_upload", "open_upload", "open_upload"]


def test_a_failure_is_reported_as_one_and_raised(log: Log) -> None:
    faults = [Fault("writer.write", effect=StorageFull), Fault("list"), Fault("reader.read", effect=_crash)]
    driver = MeasuredDriver(FaultyDriver(MemoryDriver(), faults), log)
    driver.write("a/x", b"data")
    driver.start_upload("u1")
    with driver.open_upload("u1") as writer:
        writer.resume(NO_STATE, offset=0)
        with pytest.raises(StorageFull):
            writer.write(b"data")
    with pytest.raises(Exception, match="fault injected before list"):
        next(driver.list(""))
    with driver.open("a/x") as reader, pytest.raises(ZeroDivisionError):
        reader.read(1)
    assert log.failures() == ["writer.write", "list", "reader.read"]


def _crash() -> None:
    raise ZeroDivisionError


def test_listings_are_reported_for_each_page(log: Log) -> None:
    driver = MeasuredDriver(MemoryDriver(), log)
    for number in range(600):
        driver.inner.write(f"a/{number}", b"")
    assert len(list(driver.list(""))) == 600
    assert len(list(driver.children("a"))) == 600
    assert list(driver.uploads()) == []
    assert Counter(log.operations()) == {"list": 4, "children": 4, "uploads": 1}

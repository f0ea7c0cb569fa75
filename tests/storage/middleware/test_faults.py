"""What a faulty driver does to its caller."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from registry.storage.errors import PathNotFound, StorageFull, StorageUnavailable, Throttled, UploadBusy
from registry.storage.local.driver import LocalDriver
from registry.storage.memory import MemoryDriver
from registry.storage.middleware.faults import Fault, FaultyDriver, When
from tests.storage.uploads import NO_STATE


def outcomes(driver: FaultyDriver, times: int) -> str:
    """``x`` for each write that failed, ``.`` for each that did not."""
    made = ""
    for _ in range(times):
        try:
            driver.write("a/x", b"data")
            made += "."
        except StorageUnavailable:
            made += "x"
    return made


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (Fault(), "x....."),
        (Fault("write"), "x....."),
        (Fault("write", first=3), "..x..."),
        (Fault("write", first=3, times=2), "..xx.."),
        (Fault("write", first=3, times=None), "..xxxx"),
        (Fault("wr*", key="a/*"), "x....."),
        (Fault("read"), "......"),
        (Fault("write", key="b/*"), "......"),
        (Fault("write", times=None, probability=0), "......"),
    ],
)
def test_a_fault_strikes_as_planned(fault: Fault, expected: str) -> None:
    driver = FaultyDriver(MemoryDriver(), [fault])
    assert outcomes(driver, 6) == expected
    assert driver.calls["write"] == 6
    assert driver.struck[0] == expected.count("x")


def test_chance_repeats_with_its_seed() -> None:
    plan = [Fault("write", times=None, probability=0.5)]
    first = outcomes(FaultyDriver(MemoryDriver(), plan, seed=1), 64)
    assert first == outcomes(FaultyDriver(MemoryDriver(), plan, seed=1), 64)
    assert first != outcomes(FaultyDriver(MemoryDriver(), plan, seed=2), 64)
    assert 10 < first.count("x") < 54


def test_before_nothing_was_done_and_after_everything() -> None:
    inner = MemoryDriver()
    driver = FaultyDriver(inner, [Fault("write"), Fault("write", first=2, moment=When.AFTER, effect=Throttled)])
    with pytest.raises(StorageUnavailable, match="a/x"):
        driver.write("a/x", b"data")
    with pytest.raises(PathNotFound):
        inner.stat("a/x")
    with pytest.raises(Throttled):
        driver.write("a/x", b"data")
    assert inner.stat("a/x").size == 4


def test_an_error_value_is_raised_as_it_is() -> None:
    full = StorageFull("a/x", "no space")
    driver = FaultyDriver(MemoryDriver(), [Fault("write", effect=full)])
    with pytest.raises(StorageFull) as caught:
        driver.write("a/x", b"data")
    assert caught.value is full


def test_a_function_is_called_and_the_operation_goes_on() -> None:
    seen: list[str] = []
    inner = MemoryDriver()
    plan = [
        Fault("write", effect=lambda: seen.append(f"before {len(list(inner.list('')))}")),
        Fault("write", moment=When.AFTER, effect=lambda: seen.append(f"after {len(list(inner.list('')))}")),
    ]
    FaultyDriver(inner, plan).write("a/x", b"data")
    assert seen == ["before 0", "after 1"]


def test_readers_and_writers_fail_midway() -> None:
    plan = [Fault("reader.read", first=2), Fault("writer.write", first=2, effect=StorageFull)]
    driver = FaultyDriver(MemoryDriver(), plan)
    driver.write("a/x", b"0123456789")
    with driver.open("a/x") as reader:
        assert reader.read(4) == b"0123"
        with pytest.raises(StorageUnavailable):
            reader.read(4)
    driver.start_upload("u1")
    with driver.open_upload("u1") as writer:
        writer.resume(NO_STATE, offset=0)
        writer.write(b"one")
        with pytest.raises(StorageFull):
            writer.write(b"two")


@pytest.mark.parametrize("make", [lambda root: MemoryDriver(), LocalDriver], ids=["memory", "local"])
def test_a_writer_whose_answer_is_lost_holds_no_right(make: type[LocalDriver], tmp_path: object) -> None:
    driver = FaultyDriver(make(tmp_path), [Fault("open_upload", moment=When.AFTER, effect=UploadBusy)])  # type: ignore[arg-type]
    driver.start_upload("u1")
    with pytest.raises(UploadBusy):
        driver.open_upload("u1")
    driver.open_upload("u1").close()


def test_threads_are_counted_exactly() -> None:
    driver = FaultyDriver(MemoryDriver(), [Fault("write", first=50, times=100)])
    with ThreadPoolExecutor(8) as pool:
        made = "".join(pool.map(lambda _: outcomes(driver, 50), range(8)))
    assert made.count("x") == 100
    assert driver.calls["write"] == 400

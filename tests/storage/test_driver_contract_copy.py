"""The contract of every driver and decorator: copies inside the store."""

from __future__ import annotations

import random
import time

import pytest

from registry.storage.driver import StorageDriver
from registry.storage.errors import PathNotFound, PreconditionFailed, UnsupportedOperation
from tests.storage.drivers import cases

with_copies = pytest.mark.parametrize("case", cases(lambda case: case.capabilities.copies), indirect=True)
with_conditions = pytest.mark.parametrize(
    "case", cases(lambda case: case.capabilities.copies and case.copy_conditions), indirect=True
)
without_copies = pytest.mark.parametrize("case", cases(lambda case: not case.capabilities.copies), indirect=True)

SOURCE = "zot/team/app/blobs/sha256/00"
TARGET = "storage/blobs/sha256/00"
DATA = random.Random(1).randbytes(1_500_000)


def content(driver: StorageDriver, key: str) -> bytes:
    return driver.read(key, max_bytes=1 << 24)[0]


@with_copies
@pytest.mark.parametrize("data", [b"", b"x", DATA])
def test_a_copy_has_the_bytes_of_its_source_which_stays(driver: StorageDriver, data: bytes) -> None:
    source = driver.write(SOURCE, data)
    before = time.time()
    copied = driver.copy(SOURCE, TARGET, size=len(data), if_etag=source.etag)
    assert content(driver, TARGET) == data
    assert driver.stat(TARGET).is_same(copied)
    assert before - 1 <= copied.modified <= time.time() + 1
    assert driver.stat(SOURCE).is_same(source)
    driver.delete([SOURCE])
    assert content(driver, TARGET) == data
    assert list(driver.uploads()) == []


@with_copies
def test_a_copy_replaces_what_is_there_and_can_be_repeated(driver: StorageDriver) -> None:
    source = driver.write(SOURCE, b"source")
    driver.write(TARGET, b"another, longer")
    for _ in range(2):
        driver.copy(SOURCE, TARGET, size=6, if_etag=source.etag)
        assert content(driver, TARGET) == b"source"
    assert [key for key, _ in driver.list("")] == [TARGET, SOURCE]


@with_conditions
def test_another_version_is_not_copied(driver: StorageDriver) -> None:
    old = driver.write(SOURCE, b"source")
    driver.write(SOURCE, b"SOURCE")
    target = driver.write(TARGET, b"stays")
    with pytest.raises(PreconditionFailed):
        driver.copy(SOURCE, TARGET, size=6, if_etag=old.etag)
    assert driver.stat(TARGET).is_same(target)


@with_copies
def test_a_copy_of_what_is_gone_is_not_found(driver: StorageDriver) -> None:
    source = driver.write(SOURCE, b"source")
    driver.delete([SOURCE])
    with pytest.raises(PathNotFound):
        driver.copy(SOURCE, TARGET, size=6, if_etag=source.etag)
    with pytest.raises(PathNotFound):
        driver.copy("zot/team", TARGET, size=6, if_etag=source.etag)
    assert list(driver.list("")) == []


@with_copies
@pytest.mark.parametrize("key", ["a b/c+d%20&e=f?g#h", "ümlaut/~x", "a:b/@x"])
def test_a_key_that_looks_odd_is_copied_and_copied_to(driver: StorageDriver, key: str) -> None:
    there = driver.write(key, b"odd")
    copied = driver.copy(key, f"{key}-2", size=3, if_etag=there.etag)
    driver.copy(f"{key}-2", f"{key}-3", size=3, if_etag=copied.etag)
    assert content(driver, f"{key}-3") == b"odd"


@with_copies
@pytest.mark.parametrize("key", ["", "../x", "a//b", ".uploads/x", "a/.tmp-x"])
def test_a_key_that_leads_elsewhere_is_refused(driver: StorageDriver, key: str) -> None:
    there = driver.write(SOURCE, b"x")
    for source, target in ((SOURCE, key), (key, TARGET)):
        with pytest.raises(ValueError, match="not a storage key"):
            driver.copy(source, target, size=1, if_etag=there.etag)
    assert [found for found, _ in driver.list("")] == [SOURCE]


@without_copies
def test_a_driver_without_copies_says_so(driver: StorageDriver) -> None:
    there = driver.write(SOURCE, b"source")
    with pytest.raises(UnsupportedOperation):
        driver.copy(SOURCE, TARGET, size=6, if_etag=there.etag)
    assert [found for found, _ in driver.list("")] == [SOURCE]

"""Bytes of an object are hashed before they are served, or while they are."""

from __future__ import annotations

import pytest

from registry.images.verification import VerifyingReader, WrongBytes, hash_object
from registry.oci.digest import Digest
from registry.storage.errors import PathNotFound
from registry.storage.memory import MemoryDriver

KEY = "storage/blobs/sha256/00"
DATA = b"bytes of a blob"


@pytest.fixture(name="driver")
def _driver() -> MemoryDriver:
    driver = MemoryDriver()
    driver.write(KEY, DATA)
    return driver


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_an_object_with_the_right_bytes_has_its_etag(driver: MemoryDriver, algorithm: str) -> None:
    assert hash_object(driver, KEY, Digest.of(DATA, algorithm)) == driver.stat(KEY).etag


def test_an_object_with_other_bytes_has_none(driver: MemoryDriver) -> None:
    assert hash_object(driver, KEY, Digest.of(b"other")) is None
    with pytest.raises(PathNotFound):
        hash_object(driver, "storage/blobs/sha256/01", Digest.of(DATA))


def test_a_reader_gives_the_right_bytes_and_says_so_once(driver: MemoryDriver) -> None:
    heard: list[bool] = []
    with VerifyingReader(driver.open(KEY), Digest.of(DATA), heard.append) as reader:
        assert (reader.read(5), heard) == (DATA[:5], [])
        assert (reader.read(100), heard) == (DATA[5:], [True])
        assert (reader.read(100), heard) == (b"", [True])
        assert reader.fileno() is None


def test_a_reader_keeps_the_last_of_wrong_bytes_back(driver: MemoryDriver) -> None:
    heard: list[bool] = []
    with VerifyingReader(driver.open(KEY), Digest.of(b"other"), heard.append) as reader:
        assert reader.read(5) == DATA[:5]
        with pytest.raises(WrongBytes):
            reader.read(100)
    assert heard == [False]

"""The contract of every driver and decorator: an object that is deleted once, before a deadline."""

from __future__ import annotations

import pytest

from registry.clocks import boot_seconds
from registry.storage.deadlines import require_time
from registry.storage.driver import StorageDriver
from registry.storage.errors import NotSent, PathNotFound

KEY = "storage/blobs/sha256/00"
SOON = 30.0


def test_an_object_is_deleted_and_a_missing_one_is_no_error(driver: StorageDriver) -> None:
    written, deadline = driver.write(KEY, b"x"), boot_seconds() + SOON
    other = driver.write(f"{KEY}1", b"other")
    for _ in range(2):
        driver.delete_once(KEY, etag=written.etag, deadline=deadline)
        with pytest.raises(PathNotFound):
            driver.stat(KEY)
    assert driver.stat(f"{KEY}1").is_same(other)


def test_an_object_comes_back_after_it_was_deleted(driver: StorageDriver) -> None:
    for _ in range(2):
        written = driver.write(KEY, b"x")
        driver.delete_once(KEY, etag=written.etag, deadline=boot_seconds() + SOON)
    assert driver.write(KEY, b"x").is_same(driver.stat(KEY))


def test_nothing_is_deleted_after_the_deadline(driver: StorageDriver) -> None:
    written = driver.write(KEY, b"x")
    with pytest.raises(NotSent, match="s ago"):
        driver.delete_once(KEY, etag=written.etag, deadline=boot_seconds() - 0.001)
    assert driver.stat(KEY).is_same(written)


def test_the_time_that_is_left_is_told() -> None:
    assert SOON - 1 < require_time(KEY, boot_seconds() + SOON) <= SOON


def test_several_are_deleted_as_each_alone(driver: StorageDriver) -> None:
    names = ["storage/blobs/sha256/00", "storage/blobs/sha256/01", "storage/blobs/sha512/02"]
    objects = [(key, driver.write(key, b"x").etag) for key in names]
    kept = driver.write(f"{KEY}1", b"other")
    for _ in range(2):
        assert list(driver.delete_several(objects, deadline=boot_seconds() + SOON)) == [None, None, None]
        for key in names:
            with pytest.raises(PathNotFound):
                driver.stat(key)
    assert driver.stat(f"{KEY}1").is_same(kept)


def test_of_several_none_is_deleted_after_the_deadline(driver: StorageDriver) -> None:
    objects = [(key, driver.write(key, b"x").etag) for key in (KEY, f"{KEY}1")]
    errors = driver.delete_several(objects, deadline=boot_seconds() - 0.001)
    assert [type(error) for error in errors] == [NotSent, NotSent]
    for key, etag in objects:
        assert driver.stat(key).etag == etag

"""The contract of every driver and decorator: listings."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from registry.storage.driver import Child, StorageDriver

KEYS = [
    "a",
    "b-c/1",
    "b.d",
    "b/.journal/1",
    "b/blobs/sha256/00",
    "b/blobs/sha256/01",
    "b/index.json",
    "b/z",
    "b0",
    "b0x/y",
    "c/d/e/f/g",
    "ü/x",
]
"""As a sort of whole keys has them: ``-`` and ``.`` come before ``/``, digits after it."""


@pytest.fixture
def filled(driver: StorageDriver) -> StorageDriver:
    shuffled = random.Random(1).sample(KEYS, len(KEYS))
    for key in shuffled:
        driver.write(key, key.encode())
    return driver


def test_list_is_every_object_sorted_by_its_whole_key(filled: StorageDriver) -> None:
    listed = list(filled.list(""))
    assert [key for key, _ in listed] == sorted(KEYS) == KEYS
    assert all(stat == filled.stat(key) for key, stat in listed)


@pytest.mark.parametrize("prefix", ["b", "b/blobs", "b/blobs/sha256", "c/d", "b-c", "ü"])
def test_list_keeps_to_its_directory(filled: StorageDriver, prefix: str) -> None:
    assert [key for key, _ in filled.list(prefix)] == [key for key in KEYS if key.startswith(f"{prefix}/")]


@pytest.mark.parametrize("after", ["b/.journal/1", "b/blobs/sha256/00", "b/c", "b", "b/z"])
def test_list_begins_after_a_key(filled: StorageDriver, after: str) -> None:
    assert [key for key, _ in filled.list("b", after=after)] == [
        key for key in KEYS if key.startswith("b/") and key > after
    ]


@pytest.mark.parametrize("prefix", ["missing", "b/missing/x", "b/blobs/sha256/00", "b/blobs/sha", "b0x/y/z"])
def test_a_missing_prefix_is_empty(filled: StorageDriver, prefix: str) -> None:
    assert list(filled.list(prefix)) == []
    assert list(filled.children(prefix)) == []


def test_children_are_the_names_directly_below(filled: StorageDriver) -> None:
    assert list(filled.children("b")) == [
        Child(".journal", is_prefix=True),
        Child("blobs", is_prefix=True),
        Child("index.json", is_prefix=False),
        Child("z", is_prefix=False),
    ]
    assert [(child.name, child.is_prefix) for child in filled.children("")] == [
        ("a", False),
        ("b", True),
        ("b-c", True),
        ("b.d", False),
        ("b0", False),
        ("b0x", True),
        ("c", True),
        ("ü", True),
    ]


def test_a_listing_of_many_objects_is_whole_and_sorted(driver: StorageDriver) -> None:
    keys = [f"r{number % 7}/blobs/{number}" for number in range(210)]
    for key in keys:
        driver.write(key, b"")
    assert [key for key, _ in driver.list("")] == sorted(keys)
    assert len(list(driver.children("r0/blobs"))) == len([key for key in keys if key.startswith("r0/")])


def test_a_listing_lives_with_deletions_meanwhile(driver: StorageDriver) -> None:
    keys = [f"r{number // 100}/{number:03}" for number in range(400)]
    for key in keys:
        driver.write(key, b"")
    seen = []
    for key, _ in driver.list(""):
        seen.append(key)
        if len(seen) in {1, 150}:
            driver.delete(keys[200:])
    assert seen[:200] == keys[:200]
    assert all(first < second for first, second in pairwise(seen))
    assert [key for key, _ in driver.list("")] == keys[:200]


def test_a_listing_that_is_not_read_to_its_end_holds_nothing_back(filled: StorageDriver) -> None:
    listing = filled.list("")
    assert next(listing)[0] == KEYS[0]
    filled.delete(KEYS)
    assert list(filled.list("")) == []

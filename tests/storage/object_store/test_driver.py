"""What drivers of buckets share beyond single objects: keys that are checked first, and what is told of uploads."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from registry.storage.driver import UploadState
from tests.storage.object_store.directory_store import DirectoryStore

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def requests() -> list[str]:
    """What was asked of the store."""
    return []


@pytest.fixture
def store(tmp_path: Path, requests: list[str]) -> DirectoryStore:
    return DirectoryStore(tmp_path, lambda _, operation, *__: requests.append(operation))


def test_nothing_is_deleted_where_one_is_no_key(store: DirectoryStore, requests: list[str]) -> None:
    store.write("a", b"")
    requests.clear()
    with pytest.raises(ValueError, match="not a storage key"):
        store.delete(["a", "../b"])
    assert requests == []


def test_deletions_go_together_as_the_store_takes_them(store: DirectoryStore, requests: list[str]) -> None:
    store.delete(f"{number}" for number in range(21))
    assert requests == ["delete"] * 3


def test_an_upload_is_as_old_as_the_newest_of_its_objects(store: DirectoryStore) -> None:
    for upload_id, number in (("u1", 1), ("u2", 1), ("u1", 2)):
        store._objects.put(f".uploads/{upload_id}/{number}", b"x")
    entries = {entry.upload_id: entry.modified for entry in store.uploads()}
    newest = {key.split("/")[1]: stat.modified for key, stat in store._objects.keys(".uploads/")}
    assert entries == newest
    assert entries["u1"] == store._objects.stat(".uploads/u1/2").modified


def test_an_upload_of_which_the_store_holds_nothing_is_discarded_without_a_request(
    store: DirectoryStore, requests: list[str]
) -> None:
    store.discard_upload("u1", UploadState())
    assert requests == []
    store.discard_upload("u1")
    assert requests == ["list"]


def test_a_store_is_tried_by_one_entry_of_a_listing(store: DirectoryStore, requests: list[str]) -> None:
    store.check()
    assert requests == ["list"]

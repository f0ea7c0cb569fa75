"""The index file of a repository, and whose it is."""

from __future__ import annotations

import json

import pytest

from registry.images.index_file import IndexFile, owner_of
from registry.oci.index import FOLDED, LAYOUT_FILE, Index, Owner
from registry.storage.errors import AlreadyExists, PathNotFound, PreconditionFailed
from registry.storage.memory import MemoryDriver

NAME = "library/app"
THEIRS = b'{"schemaVersion":2,"manifests":[]}'


@pytest.fixture(name="driver")
def _driver() -> MemoryDriver:
    return MemoryDriver()


@pytest.fixture(name="file")
def _file(driver: MemoryDriver) -> IndexFile:
    return IndexFile(driver)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (Index.empty().serialise(), Owner.EMPTY),
        (json.dumps(json.loads(Index.empty().serialise()), indent=2).encode(), Owner.EMPTY),
        (json.dumps({"schemaVersion": 2, "manifests": [], "annotations": {FOLDED: "0"}}).encode(), Owner.OURS),
        (THEIRS, Owner.FOREIGN),
        (json.dumps({"manifests": [{"annotations": {FOLDED: "1"}}]}).encode(), Owner.FOREIGN),
        (FOLDED.encode(), Owner.FOREIGN),
        (b"", Owner.FOREIGN),
    ],
)
def test_an_index_says_who_wrote_it(data: bytes, expected: Owner, driver: MemoryDriver, file: IndexFile) -> None:
    driver.write(f"{NAME}/index.json", data)
    assert (owner_of(data), file.owner(NAME)) == (expected, expected)


def test_an_index_that_is_not_there_belongs_to_no_registry(file: IndexFile) -> None:
    assert (file.owner(NAME), file.etag(NAME)) == (Owner.EMPTY, "")
    with pytest.raises(PathNotFound):
        file.read(NAME)


def test_a_new_repository_is_a_valid_image_layout(driver: MemoryDriver, file: IndexFile) -> None:
    etag = file.create(NAME)
    assert etag == file.etag(NAME)
    assert driver.read(f"{NAME}/oci-layout", max_bytes=100)[0] == LAYOUT_FILE
    assert file.read(NAME)[0] == Index.empty().serialise()


def test_creating_leaves_an_index_that_is_there(driver: MemoryDriver, file: IndexFile) -> None:
    driver.write(f"{NAME}/index.json", THEIRS)
    assert file.create(NAME) == ""
    assert file.read(NAME)[0] == THEIRS


def test_a_write_replaces_the_index_that_was_read_and_no_other(file: IndexFile) -> None:
    first = file.create(NAME)
    second = file.write(NAME, THEIRS, first)
    assert file.etag(NAME) == second != first
    with pytest.raises(PreconditionFailed):
        file.write(NAME, b"{}", first)
    with pytest.raises(AlreadyExists):
        file.write(NAME, b"{}", "")
    assert file.read(NAME)[0] == THEIRS

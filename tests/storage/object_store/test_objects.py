"""Single objects: what is asked of a store for them, and conditional writes whose answers are lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from registry.storage.errors import AlreadyExists, PreconditionFailed, StorageUnavailable, Throttled
from registry.storage.object_store.objects import ABSENT
from tests.storage.object_store.directory_store import DirectoryObjects

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from registry.storage.driver import ObjectStat
    from tests.storage.object_store.directory_store import Bytes

KEY = "a/index.json"
BLOB = "storage/blobs/sha256/00"


class Doubtful(DirectoryObjects):
    """Each write that ``faults`` has something for is made, or not, and then its answer is lost."""

    def __init__(self, root: Path) -> None:
        super().__init__(root, None)
        self.faults: list[Callable[[], None]] = []
        self.retry._retrying.sleep = lambda _: None
        self.writes = 0

    def put_once(
        self, key: str, data: bytes | bytearray, over: str | None = None, *, sha256: str | None = None
    ) -> ObjectStat:
        self.writes += 1
        written = super().put_once(key, data, over)
        if self.faults:
            self.faults.pop(0)()
            raise StorageUnavailable(key, "the answer was lost")
        return written


@pytest.fixture
def objects(tmp_path: Path) -> Doubtful:
    return Doubtful(tmp_path)


def test_its_requests_are_reported_with_their_kinds(tmp_path: Path) -> None:
    kinds: list[tuple[str, str | None, bool]] = []
    objects = DirectoryObjects(tmp_path, lambda _, operation, kind, __, failed: kinds.append((operation, kind, failed)))
    objects.put("a/2", b"2")
    objects.put_if("a/1", b"1", ABSENT)
    assert objects.read("a/1", max_bytes=1)[0] == b"1"
    assert [key for key, _ in objects.keys("a/")] == ["a/1", "a/2"]
    objects.delete(["a/1", "a/2"])
    assert objects.same("a/1", 1) is None
    expected = [
        ("put", "put"),
        ("put", "put"),
        ("get", "get"),
        ("list", "list"),
        ("delete", "delete"),
        ("stat", "head"),
    ]
    assert kinds == [(*reported, False) for reported in expected]


@pytest.mark.parametrize(("offset", "length"), [(1, None), (0, 2), (1, 2)])
def test_a_store_that_sends_all_bytes_where_some_were_asked_for_is_not_believed(
    tmp_path: Path, offset: int, length: int | None
) -> None:
    class Rangeless(DirectoryObjects):
        def get(self, key: str, start: int, end: int | None, version: str = "") -> tuple[ObjectStat, Bytes]:
            return super().get(key, 0, None, version)

    objects = Rangeless(tmp_path, None)
    objects.put(KEY, b"index")
    with pytest.raises(StorageUnavailable, match="sends 5 bytes"):
        objects.open(KEY, offset=offset, length=length)
    with objects.open(KEY, offset=0, length=9) as reader:
        assert reader.read(9) == b"index"


def test_a_conditional_write_whose_answer_was_lost_meets_its_own_object(objects: Doubtful) -> None:
    objects.faults = [lambda: None]
    first = objects.put_if(KEY, b"ours", ABSENT)
    assert (objects.stat(KEY), objects.writes) == (first, 2)
    objects.faults = [lambda: None]
    assert objects.put_if(KEY, b"newer", first.etag) == objects.stat(KEY)


def test_without_a_doubt_an_equal_object_is_that_of_another_writer(objects: Doubtful) -> None:
    first = objects.put_if(KEY, b"same", ABSENT)
    with pytest.raises(AlreadyExists):
        objects.put_if(KEY, b"same", ABSENT)
    objects.put(KEY, b"same")
    with pytest.raises(PreconditionFailed):
        objects.put_if(KEY, b"same", first.etag)


def test_another_writer_that_came_in_between_is_not_taken_for_our_own(objects: Doubtful) -> None:
    def replace() -> None:
        DirectoryObjects.put_once(objects, KEY, b"theirs")

    objects.faults = [replace]
    with pytest.raises(AlreadyExists):
        objects.put_if(KEY, b"ours", ABSENT)
    theirs = objects.stat(KEY)
    objects.faults = [lambda: objects.delete([KEY])]
    with pytest.raises(PreconditionFailed):
        objects.put_if(KEY, b"ours", theirs.etag)


def test_a_store_that_answers_no_conditional_write_is_given_up(
    objects: Doubtful, monkeypatch: pytest.MonkeyPatch
) -> None:
    def throttle(*_: object, **__: object) -> None:
        objects.writes += 1
        raise Throttled(KEY)

    monkeypatch.setattr(objects, "put_once", throttle)
    with pytest.raises(Throttled):
        objects.put_if(KEY, b"ours", ABSENT)
    assert objects.writes == 4


@pytest.mark.parametrize(
    ("there", "replace", "kept"), [(b"same", False, True), (b"same", True, False), (b"x", False, False)]
)
def test_a_blob_of_the_same_size_is_the_same_one_unless_it_is_to_be_replaced(
    objects: Doubtful, there: bytes, replace: bool, kept: bool
) -> None:
    before = objects.put(BLOB, there)
    after = objects.put_blob(BLOB, b"blob", replace=replace)
    assert after.is_same(before) is kept
    assert objects.read(BLOB, max_bytes=9)[0] == (there if kept else b"blob")


def test_a_blob_whose_answer_was_lost_is_there(objects: Doubtful) -> None:
    objects.faults = [lambda: None]
    assert objects.put_blob(BLOB, b"blob", replace=False) == objects.stat(BLOB)

"""The contract of every driver and decorator: uploads."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from registry.storage.driver import CHUNK_SIZE, TAIL_BYTES, ObjectStat, StorageDriver, UploadState, UploadWriter
from registry.storage.errors import PathNotFound, UploadBusy, UploadOffsetMismatch
from tests.storage.drivers import cases

BLOB = "team/app/blobs/sha256/0"

Upload = Callable[..., UploadState]

with_rights = pytest.mark.parametrize("case", cases(lambda case: case.capabilities.exclusive_uploads), indirect=True)


def content(driver: StorageDriver, key: str) -> bytes:
    return driver.read(key, max_bytes=1 << 26)[0]


def whole(writer: UploadWriter) -> bytes:
    with writer.read() as reader:
        parts = []
        while part := reader.read(CHUNK_SIZE):
            parts.append(part)
        return b"".join(parts)


def uploaded(driver: StorageDriver, upload_id: str, state: UploadState, size: int) -> bytes:
    with driver.open_upload(upload_id) as writer:
        writer.resume(state, offset=size)
        return whole(writer)


def publish(
    driver: StorageDriver, upload_id: str, state: UploadState, size: int, key: str = BLOB, *, replace: bool = False
) -> ObjectStat:
    with driver.open_upload(upload_id) as writer:
        writer.resume(state, offset=size)
        return writer.publish(key, replace=replace)


def go_on(driver: StorageDriver, upload_id: str, state: UploadState, offset: int, data: bytes) -> UploadState:
    with driver.open_upload(upload_id) as writer:
        writer.resume(state, offset=offset)
        writer.write(data)
        return writer.flush()


def test_an_upload_becomes_an_object(driver: StorageDriver, upload: Upload) -> None:
    data = os.urandom(3 * CHUNK_SIZE + 17)
    state = upload("u1", data)
    assert uploaded(driver, "u1", state, len(data)) == data
    with pytest.raises(PathNotFound):
        driver.stat(BLOB)
    published = publish(driver, "u1", state, len(data))
    assert driver.stat(BLOB).is_same(published)
    assert published.size == len(data)
    assert content(driver, BLOB) == data


def test_an_empty_upload_becomes_an_empty_object(driver: StorageDriver) -> None:
    state = driver.start_upload("u1")
    assert uploaded(driver, "u1", state, 0) == b""
    assert publish(driver, "u1", state, 0).size == 0
    assert content(driver, BLOB) == b""


def test_an_upload_is_published_by_who_wrote_it_without_a_flush(driver: StorageDriver) -> None:
    state = driver.start_upload("u1")
    with driver.open_upload("u1") as writer:
        writer.resume(state, offset=0, key=BLOB)
        writer.write(b"blob")
        published = writer.publish(BLOB)
    assert driver.stat(BLOB).is_same(published)
    assert content(driver, BLOB) == b"blob"


def test_what_a_driver_wants_to_be_kept_is_small(driver: StorageDriver, upload: Upload) -> None:
    for size in (1, TAIL_BYTES, TAIL_BYTES + 1, CHUNK_SIZE):
        state = upload("u1", os.urandom(size))
        assert len(state.note.encode()) <= 512 << 10
        assert len(state.tail) <= TAIL_BYTES


def test_bytes_may_come_in_any_buffer_that_is_reused_afterwards(driver: StorageDriver) -> None:
    state = driver.start_upload("u1")
    buffer = bytearray(b"abcdef")
    with driver.open_upload("u1") as writer:
        writer.resume(state, offset=0)
        writer.write(buffer)
        writer.write(memoryview(buffer)[2:4])
        buffer[:] = b"------"
        writer.write(b"end")
        writer.write(b"")
        state = writer.flush()
    assert uploaded(driver, "u1", state, 11) == b"abcdefcdend"


def test_a_writer_goes_on_after_a_flush(driver: StorageDriver) -> None:
    state = driver.start_upload("u1")
    with driver.open_upload("u1") as writer:
        writer.resume(state, offset=0)
        writer.write(b"first")
        writer.flush()
        writer.write(b" second")
        state = writer.flush()
    assert uploaded(driver, "u1", state, 12) == b"first second"


def test_an_upload_continues_at_an_offset_and_drops_what_lies_beyond(driver: StorageDriver, upload: Upload) -> None:
    state = upload("u1", b"0123456789")
    state = go_on(driver, "u1", state, 10, b"abc")
    assert uploaded(driver, "u1", state, 13) == b"0123456789abc"
    state = go_on(driver, "u1", state, 4, b"XY")
    assert uploaded(driver, "u1", state, 6) == b"0123XY"
    state = go_on(driver, "u1", state, 2, b"")
    assert uploaded(driver, "u1", state, 2) == b"01"


def test_taking_the_right_alone_drops_nothing(driver: StorageDriver, upload: Upload) -> None:
    state = upload("u1", b"0123456789")
    driver.open_upload("u1").close()
    assert uploaded(driver, "u1", state, 10) == b"0123456789"


def test_an_offset_beyond_the_end_is_a_mismatch_that_changes_nothing(driver: StorageDriver, upload: Upload) -> None:
    state = upload("u1", b"0123")
    with driver.open_upload("u1") as writer, pytest.raises(UploadOffsetMismatch):
        writer.resume(state, offset=5)
    assert uploaded(driver, "u1", state, 4) == b"0123"


def test_writing_needs_the_offset_first(driver: StorageDriver) -> None:
    driver.start_upload("u1")
    with driver.open_upload("u1") as writer, pytest.raises(ValueError, match="resumed"):
        writer.write(b"x")


@with_rights
def test_a_second_writer_is_refused_at_once_until_the_first_closes(driver: StorageDriver) -> None:
    driver.start_upload("u1")
    driver.start_upload("u2")
    first = driver.open_upload("u1")
    begin = time.monotonic()
    with pytest.raises(UploadBusy):
        driver.open_upload("u1")
    assert time.monotonic() - begin < 40
    driver.open_upload("u2").close()
    first.close()
    first.close()
    with pytest.raises(ValueError, match="closed"):
        first.write(b"x")
    driver.open_upload("u1").close()


@with_rights
def test_a_look_at_an_upload_takes_no_right_and_needs_none(driver: StorageDriver) -> None:
    assert not driver.has_upload("u1")
    driver.start_upload("u1")
    with driver.open_upload("u1"):
        assert driver.has_upload("u1")
    driver.discard_upload("u1")
    assert not driver.has_upload("u1")


@with_rights
def test_one_of_many_writers_gets_the_right(driver: StorageDriver) -> None:
    state = driver.start_upload("u1")

    def write(number: int) -> bool:
        try:
            writer = driver.open_upload("u1")
        except UploadBusy:
            return False
        with writer:
            writer.resume(state, offset=0)
            for _ in range(50):
                writer.write(b"%d" % number)
            assert whole(writer) == b"%d" % number * 50
        return True

    with ThreadPoolExecutor(8) as pool:
        assert any(pool.map(write, range(8)))


@pytest.mark.parametrize("upload_id", ["", "..", "a/b", "/a", "a\0", ".hidden", "a.b", "ü", "x" * 129, "-a"])
def test_an_upload_id_that_leads_elsewhere_is_refused(driver: StorageDriver, upload_id: str) -> None:
    calls: list[Callable[[], object]] = [
        lambda: driver.start_upload(upload_id),
        lambda: driver.open_upload(upload_id),
        lambda: driver.discard_upload(upload_id),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="not an upload id"):
            call()


@with_rights
def test_an_unknown_upload_is_not_found(driver: StorageDriver) -> None:
    with pytest.raises(PathNotFound):
        driver.open_upload("u1")


def test_discarding_an_unknown_upload_is_no_error(driver: StorageDriver) -> None:
    driver.discard_upload("u1")


# ---- publishing


@pytest.mark.parametrize(("size", "replace"), [(0, False), (3, False), (3, True), (8, True), (5000, False)])
def test_publishing_replaces_an_object_of_another_size_and_any_if_it_must(
    driver: StorageDriver, upload: Upload, size: int, replace: bool
) -> None:
    driver.write(BLOB, b"w" * size)
    with driver.open(BLOB) as reader:
        published = publish(driver, "u1", upload("u1", b"rightful"), 8, replace=replace)
        assert reader.read(size + 1) == b"w" * size
    assert content(driver, BLOB) == b"rightful"
    assert driver.stat(BLOB).is_same(published)


def test_publishing_can_be_repeated_and_to_several_keys(driver: StorageDriver, upload: Upload) -> None:
    state = upload("u1", b"blob")
    for key in (BLOB, BLOB, "other/blobs/sha256/0", BLOB):
        publish(driver, "u1", state, 4, key)
        assert content(driver, key) == b"blob"


def test_publishing_at_once_from_many_threads_gives_one_whole_object(driver: StorageDriver, upload: Upload) -> None:
    states = {f"u{number}": upload(f"u{number}", b"blob" * 1000) for number in range(8)}
    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(publish, driver, name, states[name], 4000) for name in states]:
            assert done.result().size == 4000
    assert content(driver, BLOB) == b"blob" * 1000


@pytest.mark.parametrize("offset", [0, 2, 4])
def test_continuing_a_published_upload_leaves_the_object_alone(
    driver: StorageDriver, upload: Upload, offset: int
) -> None:
    state = upload("u1", b"blob")
    publish(driver, "u1", state, 4)
    state = go_on(driver, "u1", state, offset, b"more")
    assert content(driver, BLOB) == b"blob"
    assert uploaded(driver, "u1", state, offset + 4) == b"blob"[:offset] + b"more"
    publish(driver, "u1", state, offset + 4, replace=True)
    assert content(driver, BLOB) == b"blob"[:offset] + b"more"


@with_rights
def test_a_writer_that_goes_on_after_publication_leaves_the_object_alone(driver: StorageDriver) -> None:
    state = driver.start_upload("u1")
    with driver.open_upload("u1") as writer:
        writer.resume(state, offset=0)
        writer.write(b"blob")
        writer.publish(BLOB)
        writer.write(b"more")
        with pytest.raises(UploadBusy):
            driver.open_upload("u1")
        state = writer.flush()
    assert content(driver, BLOB) == b"blob"
    assert uploaded(driver, "u1", state, 8) == b"blobmore"


def test_beginning_an_upload_again_empties_it_and_leaves_what_was_published(
    driver: StorageDriver, upload: Upload
) -> None:
    publish(driver, "u1", upload("u1", b"blob"), 4)
    assert uploaded(driver, "u1", driver.start_upload("u1"), 0) == b""
    assert content(driver, BLOB) == b"blob"


@with_rights
def test_a_writer_whose_upload_is_begun_again_is_told_so(driver: StorageDriver, upload: Upload) -> None:
    state = upload("u1", b"blob")
    with driver.open_upload("u1") as writer:
        writer.resume(state, offset=4)
        writer.publish(BLOB)
        state = driver.start_upload("u1")
        with pytest.raises(PathNotFound):
            writer.write(b"more")
    assert content(driver, BLOB) == b"blob"
    assert uploaded(driver, "u1", state, 0) == b""


# ---- discarding


def test_a_discarded_upload_is_gone_and_what_it_published_stays(driver: StorageDriver, upload: Upload) -> None:
    state = upload("u1", b"blob")
    publish(driver, "u1", state, 4)
    driver.discard_upload("u1", state)
    driver.discard_upload("u1", state)
    if driver.capabilities.exclusive_uploads:
        with pytest.raises(PathNotFound):
            driver.open_upload("u1")
    assert content(driver, BLOB) == b"blob"
    assert list(driver.uploads()) == []


@with_rights
@pytest.mark.parametrize("published", [False, True])
def test_a_writer_whose_upload_is_discarded_is_told_so(driver: StorageDriver, upload: Upload, published: bool) -> None:
    state = upload("u1", b"blob")
    with driver.open_upload("u1") as writer:
        writer.resume(state, offset=4)
        if published:
            writer.publish(BLOB)
        driver.discard_upload("u1", state)
        with pytest.raises(PathNotFound):
            writer.write(b"more")
        with pytest.raises(PathNotFound):
            writer.resume(state, offset=0)
    if published:
        assert content(driver, BLOB) == b"blob"
    assert list(driver.uploads()) == []


@with_rights
def test_uploads_are_told_with_their_last_change(driver: StorageDriver, upload: Upload) -> None:
    before = time.time()
    upload("u1", b"one")
    driver.start_upload("u2")
    entries = {entry.upload_id: entry.modified for entry in driver.uploads()}
    assert sorted(entries) == ["u1", "u2"]
    assert all(before - 1 <= modified <= time.time() + 1 for modified in entries.values())
    for upload_id in entries:
        driver.discard_upload(upload_id)
    assert list(driver.uploads()) == []


def test_uploads_are_in_no_listing(driver: StorageDriver, upload: Upload) -> None:
    upload("u1", b"one")
    assert list(driver.list("")) == []
    assert list(driver.children("")) == []


@with_rights
def test_an_upload_without_a_byte_is_new(driver: StorageDriver) -> None:
    state = driver.start_upload("u1")
    with driver.open_upload("u1") as writer:
        assert writer.is_new
        writer.resume(state, offset=0)
        writer.write(b"kept or not")
        writer.flush()
    with driver.open_upload("u1") as writer:
        assert not writer.is_new
        writer.resume(state, offset=0)  # what was written is dropped
    with driver.open_upload("u1") as writer:
        assert writer.is_new

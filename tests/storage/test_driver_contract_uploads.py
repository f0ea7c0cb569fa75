"""The contract of every driver and decorator: uploads."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from registry.storage.driver import CHUNK_SIZE, StorageDriver
from registry.storage.errors import PathNotFound, UploadBusy, UploadOffsetMismatch

BLOB = "team/app/blobs/sha256/0"

Upload = Callable[..., str]


def content(driver: StorageDriver, key: str) -> bytes:
    return driver.read(key, max_bytes=1 << 26)[0]


def uploaded(driver: StorageDriver, upload_id: str, state: str) -> bytes:
    with driver.read_upload(upload_id, state) as reader:
        parts = []
        while part := reader.read(CHUNK_SIZE):
            parts.append(part)
        return b"".join(parts)


def go_on(driver: StorageDriver, upload_id: str, state: str, offset: int, data: bytes) -> str:
    with driver.open_upload(upload_id) as writer:
        writer.resume(state, offset=offset)
        writer.write(data)
        return writer.flush()


def test_an_upload_becomes_an_object(driver: StorageDriver, upload: Upload) -> None:
    data = os.urandom(3 * CHUNK_SIZE + 17)
    state = upload("u1", data)
    assert uploaded(driver, "u1", state) == data
    with pytest.raises(PathNotFound):
        driver.stat(BLOB)
    published = driver.publish_upload("u1", state, BLOB)
    assert published == driver.stat(BLOB)
    assert published.size == len(data)
    assert content(driver, BLOB) == data


def test_an_empty_upload_becomes_an_empty_object(driver: StorageDriver) -> None:
    state = driver.start_upload("u1")
    assert uploaded(driver, "u1", state) == b""
    assert driver.publish_upload("u1", state, BLOB).size == 0


def test_the_driver_state_is_small_text(driver: StorageDriver, upload: Upload) -> None:
    assert len(upload("u1", os.urandom(CHUNK_SIZE)).encode()) <= 65536


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
    assert uploaded(driver, "u1", state) == b"abcdefcdend"


def test_flushed_bytes_are_readable_while_the_writer_goes_on(driver: StorageDriver) -> None:
    state = driver.start_upload("u1")
    with driver.open_upload("u1") as writer:
        writer.resume(state, offset=0)
        writer.write(b"first")
        state = writer.flush()
        assert uploaded(driver, "u1", state) == b"first"
        writer.write(b" second")
        state = writer.flush()
    assert uploaded(driver, "u1", state) == b"first second"


def test_an_upload_continues_at_an_offset_and_drops_what_lies_beyond(driver: StorageDriver, upload: Upload) -> None:
    state = upload("u1", b"0123456789")
    state = go_on(driver, "u1", state, 10, b"abc")
    assert uploaded(driver, "u1", state) == b"0123456789abc"
    state = go_on(driver, "u1", state, 4, b"XY")
    assert uploaded(driver, "u1", state) == b"0123XY"
    state = go_on(driver, "u1", state, 2, b"")
    assert uploaded(driver, "u1", state) == b"01"


def test_taking_the_right_alone_drops_nothing(driver: StorageDriver, upload: Upload) -> None:
    state = upload("u1", b"0123456789")
    driver.open_upload("u1").close()
    assert uploaded(driver, "u1", state) == b"0123456789"


def test_an_offset_beyond_the_end_is_a_mismatch_that_changes_nothing(driver: StorageDriver, upload: Upload) -> None:
    state = upload("u1", b"0123")
    with driver.open_upload("u1") as writer, pytest.raises(UploadOffsetMismatch):
        writer.resume(state, offset=5)
    assert uploaded(driver, "u1", state) == b"0123"


def test_writing_needs_the_offset_first(driver: StorageDriver) -> None:
    driver.start_upload("u1")
    with driver.open_upload("u1") as writer, pytest.raises(ValueError, match="resumed"):
        writer.write(b"x")


def test_a_second_writer_is_refused_at_once_until_the_first_closes(driver: StorageDriver) -> None:
    driver.start_upload("u1")
    driver.start_upload("u2")
    first = driver.open_upload("u1")
    begin = time.monotonic()
    with pytest.raises(UploadBusy):
        driver.open_upload("u1")
    assert time.monotonic() - begin < 1
    driver.open_upload("u2").close()
    first.close()
    first.close()
    with pytest.raises(ValueError, match="closed"):
        first.write(b"x")
    driver.open_upload("u1").close()


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
            assert uploaded(driver, "u1", writer.flush()) == b"%d" % number * 50
        return True

    with ThreadPoolExecutor(8) as pool:
        assert any(pool.map(write, range(8)))


@pytest.mark.parametrize("upload_id", ["", "..", "a/b", "/a", "a\0", ".hidden", "a.b", "ü", "x" * 129, "-a"])
def test_an_upload_id_that_leads_elsewhere_is_refused(driver: StorageDriver, upload_id: str) -> None:
    calls: list[Callable[[], object]] = [
        lambda: driver.start_upload(upload_id),
        lambda: driver.open_upload(upload_id),
        lambda: driver.read_upload(upload_id, ""),
        lambda: driver.publish_upload(upload_id, "", BLOB),
        lambda: driver.discard_upload(upload_id, ""),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="not an upload id"):
            call()


def test_an_unknown_upload_is_not_found(driver: StorageDriver) -> None:
    driver.write(BLOB, b"stays")
    with pytest.raises(PathNotFound):
        driver.open_upload("u1")
    with pytest.raises(PathNotFound):
        driver.read_upload("u1", "")
    with pytest.raises(PathNotFound):
        driver.publish_upload("u1", "", BLOB)
    with pytest.raises(PathNotFound):
        driver.publish_upload("u1", "", "team/new/blobs/sha256/0")
    driver.discard_upload("u1", "")
    assert content(driver, BLOB) == b"stays"


# ---- publishing


@pytest.mark.parametrize("size", [0, 3, 8, 5000])
def test_publishing_replaces_an_object_of_any_size(driver: StorageDriver, upload: Upload, size: int) -> None:
    driver.write(BLOB, b"w" * size)
    with driver.open(BLOB) as reader:
        driver.publish_upload("u1", upload("u1", b"rightful"), BLOB)
        assert reader.read(size + 1) == b"w" * size
    assert content(driver, BLOB) == b"rightful"


def test_publishing_can_be_repeated_and_to_several_keys(driver: StorageDriver, upload: Upload) -> None:
    state = upload("u1", b"blob")
    for key in (BLOB, BLOB, "other/blobs/sha256/0", BLOB):
        driver.publish_upload("u1", state, key)
        assert content(driver, key) == b"blob"
    assert [entry.upload_id for entry in driver.uploads()] == ["u1"]


def test_publishing_at_once_from_many_threads_gives_one_whole_object(driver: StorageDriver, upload: Upload) -> None:
    states = {f"u{number}": upload(f"u{number}", b"blob" * 1000) for number in range(8)}
    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(driver.publish_upload, name, states[name], BLOB) for name in states for _ in range(3)]:
            assert done.result().size == 4000
    assert content(driver, BLOB) == b"blob" * 1000
    assert sorted(entry.upload_id for entry in driver.uploads()) == sorted(states)


def test_the_holder_of_the_right_may_publish(driver: StorageDriver) -> None:
    state = driver.start_upload("u1")
    with driver.open_upload("u1") as writer:
        writer.resume(state, offset=0)
        writer.write(b"blob")
        driver.publish_upload("u1", writer.flush(), BLOB)
    assert content(driver, BLOB) == b"blob"


@pytest.mark.parametrize("offset", [0, 2, 4])
def test_continuing_a_published_upload_leaves_the_object_alone(
    driver: StorageDriver, upload: Upload, offset: int
) -> None:
    state = upload("u1", b"blob")
    driver.publish_upload("u1", state, BLOB)
    state = go_on(driver, "u1", state, offset, b"more")
    assert content(driver, BLOB) == b"blob"
    assert uploaded(driver, "u1", state) == b"blob"[:offset] + b"more"
    driver.publish_upload("u1", state, BLOB)
    assert content(driver, BLOB) == b"blob"[:offset] + b"more"


def test_a_writer_that_goes_on_after_publication_leaves_the_object_alone(driver: StorageDriver) -> None:
    state = driver.start_upload("u1")
    with driver.open_upload("u1") as writer:
        writer.resume(state, offset=0)
        writer.write(b"blob")
        driver.publish_upload("u1", writer.flush(), BLOB)
        writer.write(b"more")
        with pytest.raises(UploadBusy):
            driver.open_upload("u1")
        state = writer.flush()
    assert content(driver, BLOB) == b"blob"
    assert uploaded(driver, "u1", state) == b"blobmore"


def test_beginning_an_upload_again_empties_it_and_leaves_what_was_published(
    driver: StorageDriver, upload: Upload
) -> None:
    driver.publish_upload("u1", upload("u1", b"blob"), BLOB)
    assert uploaded(driver, "u1", driver.start_upload("u1")) == b""
    assert content(driver, BLOB) == b"blob"


def test_a_writer_whose_upload_is_begun_again_is_told_so(driver: StorageDriver, upload: Upload) -> None:
    state = upload("u1", b"blob")
    with driver.open_upload("u1") as writer:
        writer.resume(state, offset=4)
        driver.publish_upload("u1", state, BLOB)
        state = driver.start_upload("u1")
        with pytest.raises(PathNotFound):
            writer.write(b"more")
    assert content(driver, BLOB) == b"blob"
    assert uploaded(driver, "u1", state) == b""


# ---- discarding


def test_a_discarded_upload_is_gone_and_what_it_published_stays(driver: StorageDriver, upload: Upload) -> None:
    state = upload("u1", b"blob")
    driver.publish_upload("u1", state, BLOB)
    driver.discard_upload("u1", state)
    driver.discard_upload("u1", state)
    with pytest.raises(PathNotFound):
        driver.open_upload("u1")
    with pytest.raises(PathNotFound):
        driver.publish_upload("u1", state, BLOB)
    assert content(driver, BLOB) == b"blob"
    assert list(driver.uploads()) == []


@pytest.mark.parametrize("published", [False, True])
def test_a_writer_whose_upload_is_discarded_is_told_so(driver: StorageDriver, upload: Upload, published: bool) -> None:
    state = upload("u1", b"blob")
    with driver.open_upload("u1") as writer:
        writer.resume(state, offset=4)
        if published:
            driver.publish_upload("u1", state, BLOB)
        driver.discard_upload("u1", state)
        with pytest.raises(PathNotFound):
            writer.write(b"more")
        with pytest.raises(PathNotFound):
            writer.resume(state, offset=0)
    if published:
        assert content(driver, BLOB) == b"blob"
    assert list(driver.uploads()) == []


def test_uploads_are_told_with_their_last_change(driver: StorageDriver, upload: Upload) -> None:
    before = time.time()
    upload("u1", b"one")
    driver.start_upload("u2")
    entries = {entry.upload_id: entry.modified for entry in driver.uploads()}
    assert sorted(entries) == ["u1", "u2"]
    assert all(before - 1 <= modified <= time.time() + 1 for modified in entries.values())
    for upload_id in entries:
        driver.discard_upload(upload_id, "")
    assert list(driver.uploads()) == []


def test_uploads_are_in_no_listing(driver: StorageDriver, upload: Upload) -> None:
    upload("u1", b"one")
    assert list(driver.list("")) == []
    assert list(driver.children("")) == []

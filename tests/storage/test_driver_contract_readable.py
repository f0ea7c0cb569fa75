"""The contract of every driver and decorator: uploads that are read while they grow."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from registry.storage.driver import CHUNK_SIZE, TAIL_BYTES, StorageDriver, UploadState
from registry.storage.errors import PathNotFound, StorageUnavailable, UploadOffsetMismatch
from tests.storage.drivers import DriverCase, cases

BLOB = "team/app/blobs/sha256/0"
PIECE = TAIL_BYTES + 50_000
"""Bytes that a state does not hold by itself."""

shared = pytest.mark.parametrize("case", cases(lambda case: case.shared), indirect=True)
keys = pytest.mark.parametrize("key", [None, BLOB], ids=["anywhere", "at its key"])


def read(driver: StorageDriver, state: UploadState, size: int, offset: int = 0, upload_id: str = "u1") -> bytes:
    with driver.read_upload(upload_id, state, size=size, offset=offset) as reader:
        return b"".join(iter(lambda: reader.read(CHUNK_SIZE), b""))


def several_parts(driver: StorageDriver) -> bytes:
    return os.urandom(2 * (driver.capabilities.part_bytes or CHUNK_SIZE) + PIECE)


@pytest.fixture
def second(case: DriverCase, root: Path) -> Iterator[StorageDriver]:
    """Another process would have this driver of the same store."""
    opened = case.open(root)
    yield opened
    opened.close()


@keys
def test_what_was_flushed_is_read_while_the_writer_goes_on(driver: StorageDriver, key: str | None) -> None:
    data = several_parts(driver)
    state = driver.start_upload("u1", readable=True)
    states = [(state, 0)]
    with driver.open_upload("u1") as writer:
        writer.resume(state, offset=0, key=key)
        for begin in range(0, len(data), 700_000):
            writer.write(data[begin : begin + 700_000])
            states.append((writer.flush(), min(begin + 700_000, len(data))))
            assert read(driver, *states[-1]) == data[: states[-1][1]]
        for state, size in states:  # those of before are as good as they were
            assert read(driver, state, size, max(size - 900_000, 0)) == data[max(size - 900_000, 0) : size]
        writer.publish(BLOB)
        assert read(driver, *states[-1]) == data
    assert driver.read(BLOB, max_bytes=len(data))[0] == data
    assert read(driver, *states[-1]) == data
    driver.discard_upload("u1", states[-1][0])
    assert list(driver.uploads()) == []
    assert driver.read(BLOB, max_bytes=len(data))[0] == data


@shared
def test_another_process_reads_them(driver: StorageDriver, second: StorageDriver) -> None:
    data = several_parts(driver)
    state = driver.start_upload("u1", readable=True)
    with driver.open_upload("u1") as writer:
        writer.resume(state, offset=0, key=BLOB)
        writer.write(data)
        state = writer.flush()
        assert read(second, state, len(data)) == data
        assert read(second, state, 10, 5) == data[5:10]


@pytest.mark.parametrize(
    ("offset", "size"), [(0, 0), (0, 1), (PIECE - 1, PIECE), (PIECE, PIECE + 1), (5, 3 * PIECE), (7, 7)]
)
def test_any_range_is_read(driver: StorageDriver, offset: int, size: int) -> None:
    data = os.urandom(3 * PIECE)
    state = driver.start_upload("u1", readable=True)
    with driver.open_upload("u1") as writer:
        writer.resume(state, offset=0)
        for begin in range(0, len(data), PIECE):
            writer.write(data[begin : begin + PIECE])
            state = writer.flush()
    assert read(driver, state, size, offset) == data[offset:size]


@keys
def test_a_successor_goes_on_and_its_bytes_count(driver: StorageDriver, key: str | None) -> None:
    data = several_parts(driver)
    state = driver.start_upload("u1", readable=True)
    with driver.open_upload("u1") as writer:
        writer.resume(state, offset=0, key=key)
        writer.write(data[:PIECE])
        state = writer.flush()
        writer.write(os.urandom(PIECE))  # which it never commits
        writer.flush()
    with driver.open_upload("u1") as writer:
        writer.resume(state, offset=PIECE, key=key)
        with writer.read() as reader:
            assert b"".join(iter(lambda: reader.read(CHUNK_SIZE), b"")) == data[:PIECE]
    with driver.open_upload("u1") as writer:
        writer.resume(state, offset=PIECE, key=key)
        writer.write(data[PIECE:])
        state = writer.flush()
        assert read(driver, state, len(data)) == data
    with driver.open_upload("u1") as writer:
        writer.resume(state, offset=len(data), key=key)
        for _ in range(2):  # the answer to the first one may be lost
            assert writer.publish(BLOB).size == len(data)
    assert driver.read(BLOB, max_bytes=len(data))[0] == data


def test_an_upload_that_begins_anew_is_readable(driver: StorageDriver) -> None:
    data = several_parts(driver)
    state = driver.start_upload("u1", readable=True)
    for content in (data[::-1], data):
        with driver.open_upload("u1") as writer:
            writer.resume(state, offset=0, key=BLOB)
            writer.write(content)
            state = writer.flush()
        assert read(driver, state, len(content)) == content


def test_a_publication_leaves_what_is_there_or_replaces_it(driver: StorageDriver) -> None:
    data = several_parts(driver)
    driver.write(BLOB, bytes(len(data)))
    state = driver.start_upload("u1", readable=True)
    with driver.open_upload("u1") as writer:
        writer.resume(state, offset=0)
        writer.write(data)
        assert writer.publish(BLOB).size == len(data)
        writer.publish(BLOB, replace=True)
    assert driver.read(BLOB, max_bytes=len(data))[0] == data


def test_more_than_is_there_is_refused(driver: StorageDriver) -> None:
    state = driver.start_upload("u1", readable=True)
    with driver.open_upload("u1") as writer:
        writer.resume(state, offset=0)
        writer.write(bytes(PIECE))
        state = writer.flush()
    with pytest.raises(UploadOffsetMismatch):
        driver.read_upload("u1", state, size=PIECE + 1)


def test_an_upload_that_was_discarded_is_not_read(driver: StorageDriver) -> None:
    state = driver.start_upload("u1", readable=True)
    data = several_parts(driver)
    with driver.open_upload("u1") as writer:
        writer.resume(state, offset=0)
        writer.write(data)
        state = writer.flush()
    with driver.read_upload("u1", state, size=len(data)) as reader:
        begin = reader.read(1)
        driver.discard_upload("u1", state)
        with suppress(StorageUnavailable):  # else the store still has the bytes for it
            assert begin + b"".join(iter(lambda: reader.read(CHUNK_SIZE), b"")) == data
    with pytest.raises(PathNotFound):
        driver.read_upload("u1", state, size=len(data))


def test_an_id_that_is_none_is_refused(driver: StorageDriver) -> None:
    with pytest.raises(ValueError, match=r"\.\./x"):
        driver.read_upload("../x", UploadState(), size=0)


def test_bytes_that_were_spilled_are_read_after_a_flush(driver: StorageDriver) -> None:
    data = os.urandom(3 * PIECE)
    state = driver.start_upload("u1", readable=True)
    with driver.open_upload("u1") as writer:
        writer.resume(state, offset=0)
        for begin in range(0, len(data), PIECE):
            writer.write(data[begin : begin + PIECE])
            writer.spill()
        state = writer.flush()
        assert read(driver, state, len(data)) == data
        writer.publish(BLOB)
    assert driver.read(BLOB, max_bytes=len(data))[0] == data

"""What is pushed is kept, what is deleted is forgotten, and neither fails because of the directory."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest

from registry.storage.driver import UploadState
from registry.storage.errors import PathNotFound, StorageUnavailable, UnsupportedOperation
from registry.storage.local.driver import LocalDriver
from registry.storage.middleware.faults import Fault, FaultyDriver, When
from registry.storage.middleware.tiered.budget import TEMPORARY
from registry.storage.middleware.tiered.cached_file import BLOCK
from registry.storage.middleware.tiered.driver import TieredDriver
from registry.storage.middleware.tiered.writer import MOST_WAITING
from tests.storage.middleware.tiered.tiers import Blob, World, blob


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def begin(world: World, upload_id: str, data: bytes) -> UploadState:
    """POST and PATCH: all bytes, kept by the store, without a key."""
    state = world.driver.start_upload(upload_id)
    with world.driver.open_upload(upload_id) as writer:
        writer.resume(state, offset=0)
        writer.write(data)
        return writer.flush()


def finish(world: World, upload_id: str, state: UploadState, offset: int, each: Blob, *, rest: bytes = b"") -> None:
    """PUT."""
    with world.driver.open_upload(upload_id) as writer:
        writer.resume(state, offset=offset, key=each.key)
        if rest:
            writer.write(rest)
        writer.publish(each.key)


def is_kept(world: World, each: Blob) -> bool:
    """Whether a client gets the blob without the store."""
    asked = world.asked
    assert world.read(each) == each.data
    return world.asked == asked


def temporary(world: World) -> list[str]:
    return [path.name for path in world.files() if path.name.startswith(TEMPORARY)]


@pytest.mark.parametrize("size", [1, BLOCK, 3 * BLOCK + 5, 3 << 20])
def test_a_push_in_one_request_is_kept(world: World, size: int) -> None:
    each = blob(size)
    state = world.driver.start_upload("u1")
    with world.driver.open_upload("u1") as writer:
        writer.resume(state, offset=0, key=each.key)
        buffer = bytearray(BLOCK + 7)
        for position in range(0, size, len(buffer)):
            piece = each.data[position : position + len(buffer)]
            buffer[: len(piece)] = piece
            writer.write(memoryview(buffer)[: len(piece)])  # which the caller uses again
        stat = writer.publish(each.key)
    assert is_kept(world, each)
    with world.driver.serving.open(each.key) as reader:
        assert reader.stat == stat == world.store.stat(each.key)
    assert temporary(world) == []


def test_a_push_in_several_requests_is_kept(world: World) -> None:
    each = blob(3 * BLOCK)
    state = begin(world, "u1", each.data[:1000])
    with world.driver.open_upload("u1") as writer:
        writer.resume(state, offset=1000)
        writer.write(each.data[1000:BLOCK])
        state = writer.flush()
    finish(world, "u1", state, BLOCK, each, rest=each.data[BLOCK:])
    assert is_kept(world, each)
    assert temporary(world) == []


def test_a_push_whose_bytes_went_through_another_process_is_not_kept_and_not_hindered(world: World) -> None:
    each = blob(3 * BLOCK)
    state = world.store.start_upload("u1")
    with world.store.open_upload("u1") as writer:
        writer.resume(state, offset=0)
        writer.write(each.data[:1000])
        state = writer.flush()
    finish(world, "u1", state, 1000, each, rest=each.data[1000:])
    assert not is_kept(world, each)
    assert is_kept(world, each)


def test_bytes_that_were_sent_again_through_another_process_are_found_out(world: World) -> None:
    each = blob(3 * BLOCK)
    begin(world, "u1", b"x" * 1000)  # the answer was lost, and the client sent other bytes to another process
    with world.store.open_upload("u1") as writer:
        writer.resume(UploadState(), offset=0)
        writer.write(each.data[:1000])
        state = writer.flush()
    finish(world, "u1", state, 1000, each, rest=each.data[1000:])
    assert world.counts.counts["put", "blob", "wrong"] == 1
    assert not is_kept(world, each)


def test_bytes_that_were_not_flushed_are_not_gone_on_with(world: World) -> None:
    each = blob(3 * BLOCK)
    state = begin(world, "u1", each.data[:1000])
    with world.driver.open_upload("u1") as writer:
        writer.resume(state, offset=1000)
        writer.write(b"cut")
    assert temporary(world) == []
    finish(world, "u1", state, 1000, each, rest=each.data[1000:])
    assert world.read(each) == each.data


def test_uploads_that_wait_hold_no_more_than_so_many_files(world: World) -> None:
    states = [begin(world, f"u{number}", b"x" * 100) for number in range(MOST_WAITING + 5)]
    assert len(temporary(world)) == MOST_WAITING
    for number, state in enumerate(states):
        world.driver.discard_upload(f"u{number}", state)
    assert temporary(world) == []


def test_a_process_that_ends_leaves_no_temporary_file(world: World) -> None:
    begin(world, "u1", b"x" * 100)
    world.driver.close()
    assert temporary(world) == []


@pytest.mark.parametrize("failure", ["pwrite", "ftruncate"])
def test_a_push_does_not_fail_with_the_directory(world: World, monkeypatch: pytest.MonkeyPatch, failure: str) -> None:
    def fail(*_arguments: object) -> int:
        raise OSError(28, "No space left on device")

    each = blob(3 * BLOCK)
    with monkeypatch.context() as patched:
        patched.setattr(os, failure, fail)
        state = begin(world, "u1", each.data)
        finish(world, "u1", state, len(each.data), each)
    assert world.counts.counts["error", "blob"]
    assert world.read(each) == each.data
    assert temporary(world) == []


def test_a_directory_that_fails_at_the_last_moment_fails_no_push(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_arguments: object) -> None:
        raise OSError(30, "Read-only file system")

    each = blob(3 * BLOCK)
    state = begin(world, "u1", each.data)
    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", fail)
        finish(world, "u1", state, len(each.data), each)
    assert world.counts.counts["put", "blob", "error"] == 1
    assert world.read(each) == each.data
    assert temporary(world) == []


def test_a_push_that_the_store_does_not_take_keeps_nothing(tmp_path: Path) -> None:
    world = World(tmp_path)
    store = FaultyDriver(world.store, [Fault("writer.publish", moment=When.AFTER)])
    each = blob(1000)
    state = store.start_upload("u1")
    with TieredDriver(store, blobs=world.blobs).open_upload("u1") as writer:
        writer.resume(state, offset=0)
        writer.write(each.data)
        with pytest.raises(StorageUnavailable):
            writer.publish(each.key)
    assert world.files() == []


def test_a_blob_that_is_replaced_says_so(world: World) -> None:
    each = blob(1000)
    old = world.put(each)
    world.read(each)
    state = world.store.start_upload("u1")  # another process has its bytes
    with world.store.open_upload("u1") as writer:
        writer.resume(state, offset=0)
        writer.write(each.data)
        state = writer.flush()
    with world.driver.open_upload("u1") as writer:
        writer.resume(state, offset=1000)
        new = writer.publish(each.key, replace=True)
    assert not new.is_same(old)
    with world.driver.serving.open(each.key) as reader:
        assert reader.stat == new


@pytest.mark.parametrize("how", ["delete", "delete_once", "delete_several", "write", "copy"])
def test_what_is_deleted_or_replaced_is_forgotten(world: World, how: str) -> None:
    each, other = blob(1000), blob(1000, 2)
    stat = world.put(each)
    world.read(each)
    world.driver.serving.read(each.key, max_bytes=1000)
    driver = world.driver.serving
    match how:
        case "delete":
            driver.delete([other.key, each.key])
        case "delete_once":
            driver.delete_once(each.key, etag=stat.etag, deadline=math.inf)
        case "delete_several":
            assert driver.delete_several([(each.key, stat.etag)], deadline=math.inf) == [None]
        case "write":
            driver.write(each.key, b"x" * 1000)
        case _:
            found = world.put(other)
            driver.copy(other.key, each.key, size=1000, if_etag=found.etag)
    assert world.files() == []
    assert list((world.path / "metadata").glob("??/*")) == []
    if how.startswith("delete"):
        with pytest.raises(PathNotFound):
            driver.open(each.key)


def test_what_was_perhaps_deleted_is_forgotten(tmp_path: Path) -> None:
    world = World(tmp_path)
    each = blob(1000)
    world.put(each)
    world.read(each)
    driver = TieredDriver(FaultyDriver(world.store, [Fault("delete", moment=When.AFTER)]), blobs=world.blobs)
    with pytest.raises(StorageUnavailable):
        driver.delete([each.key])
    assert world.files() == []


def test_a_manifest_is_kept_when_it_is_put(world: World) -> None:
    each = blob(500)
    stat = world.driver.write(each.key, each.data)
    assert world.driver.serving.read(each.key, max_bytes=500) == (each.data, stat)
    assert world.asked == 0


def test_a_store_with_files_of_its_own_has_no_tier(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedOperation):
        TieredDriver(LocalDriver(tmp_path / "store"))


def test_without_directories_not_one_file_is_made(tmp_path: Path) -> None:
    world = World(tmp_path)
    driver = TieredDriver(world.store)
    before = sorted(tmp_path.rglob("*"))
    each = blob(1000)
    driver.write(each.key, each.data)
    with driver.serving.open(each.key) as reader:
        assert reader.read(2000) == each.data
    driver.delete([each.key])
    driver.close()
    assert sorted(tmp_path.rglob("*")) == before

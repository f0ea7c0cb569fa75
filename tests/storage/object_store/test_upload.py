"""The template of uploads in parts, over the directory store: memory, the thread that sends, and what is lost."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

import pytest

from registry.storage.driver import UploadState
from registry.storage.errors import StorageUnavailable, UploadNotResumable
from registry.storage.object_store.parts import PartBuffers
from tests.storage.object_store.directory_store import CAPABILITIES, DirectoryStore

if TYPE_CHECKING:
    from pathlib import Path

PART = CAPABILITIES.part_bytes
DATA = os.urandom(3 * PART + 7)
KEY = "storage/blobs/sha256/00"
LONG = 20.0


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    opened = DirectoryStore(tmp_path)
    opened._objects.retry._retrying.sleep = lambda _: None
    return opened


def gathered(store: DirectoryStore) -> list[str]:
    """What lies in the store for uploads."""
    return [key for key, _ in store._objects.keys(".uploads/")]


def test_the_next_part_fills_while_one_is_sent_and_no_third_is_held(
    store: DirectoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    put, go_on, sending = store._objects.put, threading.Event(), threading.Semaphore(0)

    def wait(key: str, data: bytes | bytearray) -> object:
        sending.release()
        assert go_on.wait(LONG)
        return put(key, data)

    monkeypatch.setattr(store._objects, "put", wait)
    with store.open_upload("u1") as writer:
        writer.resume(UploadState(), offset=0)
        writer.write(DATA[: 2 * PART])  # returns, although the first part has not arrived
        assert sending.acquire(timeout=LONG)
        assert writer.held == PART
        assert gathered(store) == []
        go_on.set()
        writer.write(DATA[2 * PART :])
        writer.publish(KEY)
    assert store.read(KEY, max_bytes=len(DATA))[0] == DATA
    assert gathered(store) == []


@pytest.mark.parametrize("spare", [0, 1])
def test_a_part_that_fails_is_lost_with_what_comes_after_it_and_the_last_state_is_not(
    store: DirectoryStore, monkeypatch: pytest.MonkeyPatch, spare: int
) -> None:
    store._buffers = PartBuffers(PART, spare)
    with store.open_upload("u1") as writer:
        writer.resume(UploadState(), offset=0)
        writer.write(DATA[: PART + 1])
        kept = writer.flush()
        with monkeypatch.context() as patch:
            patch.setattr(store._objects, "put_once", _fail)
            with pytest.raises(StorageUnavailable):
                writer.write(DATA[PART + 1 :] * 2)
        with pytest.raises(UploadNotResumable):
            writer.flush()
        with pytest.raises(UploadNotResumable):
            writer.publish(KEY)
        writer.resume(kept, offset=PART + 1)
        writer.write(DATA[PART + 1 :])
        writer.publish(KEY)
    assert store.read(KEY, max_bytes=len(DATA))[0] == DATA
    store.discard_upload("u1", kept)
    assert gathered(store) == []


@pytest.mark.parametrize("end", ["close", "spill"])
def test_the_right_to_a_second_buffer_comes_back(store: DirectoryStore, end: str) -> None:
    store._buffers = PartBuffers(PART, spare=1)
    with store.open_upload("u1") as first, store.open_upload("u2") as second:
        for writer in (first, second):
            writer.resume(UploadState(), offset=0)
            writer.write(DATA[: PART + 1])
        assert not store._buffers.take_spare()
        getattr(first, end)()
        assert store._buffers.take_spare()


def test_a_writer_that_is_closed_leaves_what_its_last_state_names(store: DirectoryStore) -> None:
    with store.open_upload("u1") as writer:
        writer.resume(UploadState(), offset=0)
        writer.write(DATA[: PART + 1])
        state = writer.flush()
        named = gathered(store)
        writer.write(DATA)
        writer.spill()
        assert len(gathered(store)) > len(named)
    assert gathered(store) == named
    with pytest.raises(ValueError, match="closed"):
        writer.write(b"x")
    with store.open_upload("u1") as other:
        other.resume(state, offset=PART + 1)
        other.write(DATA[PART + 1 :])
        other.publish(KEY)
    assert store.read(KEY, max_bytes=len(DATA))[0] == DATA


def _fail(key: str, *_: object, **__: object) -> None:
    raise StorageUnavailable(key, "no answer")

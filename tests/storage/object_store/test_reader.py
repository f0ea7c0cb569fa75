"""Readers that go on through connections that break, always of one version."""

from __future__ import annotations

import io

import pytest

from registry.storage.driver import ObjectStat
from registry.storage.errors import InvalidRange, PathNotFound, PreconditionFailed, StorageError, StorageUnavailable
from registry.storage.object_store.gate import StoreGate
from registry.storage.object_store.reader import REOPENED, ConcatenatedReader, ResumingReader

DATA = bytes(range(250)) * 4
STAT = ObjectStat(len(DATA), "version", 0.0)


class Breaking(io.BytesIO):
    """A body whose connection ends after so many bytes, with an error or in silence."""

    def __init__(self, data: bytes, after: int, error: Exception | None) -> None:
        super().__init__(data[:after])
        self.length = len(data)
        self._error = error

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        if not data and self._error is not None:
            raise self._error
        return data

    def read_into(self, buffer: memoryview, /) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


class Store:
    """Answers each request with a body that breaks after ``after`` bytes."""

    def __init__(self, after: int, error: Exception | None = None) -> None:
        self.asked: list[tuple[int, int | None, str]] = []
        self.gone: StorageError | None = None
        self._after = after
        self._error = error

    def get(self, key: str, start: int, end: int | None, version: str = "") -> tuple[ObjectStat, Breaking]:
        assert key == "key"
        self.asked.append((start, end, version))
        if self.gone is not None:
            raise self.gone
        return STAT, Breaking(DATA[start:end], self._after, self._error)

    def open(self, start: int = 0, end: int | None = None) -> ResumingReader:
        return ResumingReader("key", self.get, StoreGate(1), *self.get("key", start, end), start)


@pytest.mark.parametrize("error", [None, OSError("reset")])
def test_a_range_goes_on_where_its_connection_broke_with_the_version_it_began_with(error: Exception | None) -> None:
    store = Store(300, error)
    with store.open(10, 990) as reader:
        parts = []
        while part := reader.read(100):
            parts.append(part)
    assert b"".join(parts) == DATA[10:990]
    assert store.asked == [(10, 990, ""), (310, 990, "version"), (610, 990, "version"), (910, 990, "version")]


def test_a_store_that_goes_on_with_other_bytes_than_those_asked_for_is_not_believed() -> None:
    class Rangeless(Store):
        def get(self, key: str, start: int, end: int | None, version: str = "") -> tuple[ObjectStat, Breaking]:
            return super().get(key, 0 if version else start, None if version else end)

    with Rangeless(300).open(10, 990) as reader:
        assert reader.read(300) == DATA[10:310]
        with pytest.raises(StorageUnavailable, match="1000 bytes, and 680 were asked for"):
            reader.read(300)


def test_a_buffer_is_filled_through_a_broken_connection() -> None:
    store, buffer, taken = Store(600), memoryview(bytearray(400)), b""
    with store.open() as reader:
        while count := reader.read_into(buffer):
            taken += buffer[:count]
    assert taken == DATA


def test_a_reader_that_gets_nowhere_gives_up_and_never_ends_short_in_silence() -> None:
    store = Store(0)
    with store.open() as reader, pytest.raises(StorageUnavailable, match="ended early"):
        reader.read(1)
    assert len(store.asked) == 1 + REOPENED


@pytest.mark.parametrize("gone", [PathNotFound("key"), PreconditionFailed("key"), InvalidRange("key")])
def test_an_object_that_was_replaced_or_deleted_meanwhile_is_said_to_be(gone: StorageError) -> None:
    store = Store(300)
    with store.open() as reader:
        assert reader.read(300) == DATA[:300]
        store.gone = gone
        with pytest.raises(StorageUnavailable, match="replaced or deleted"):
            reader.read(1)


def test_several_objects_and_a_rest_are_read_as_one() -> None:
    with ConcatenatedReader([Store(1000).open(0, 10), Store(1000).open(10, 20)], DATA[20:30]) as reader:
        assert reader.stat.size == 2 * len(DATA) + 10
        parts = []
        while part := reader.read(7):
            parts.append(part)
    assert b"".join(parts) == DATA[:30]

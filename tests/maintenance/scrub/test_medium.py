"""What a scrub reads of a file comes from the disk, and does not stay in memory."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from registry.maintenance.scrub.medium import MediumReader
from registry.storage.local.driver import LocalDriver
from registry.storage.memory import MemoryDriver


def test_the_memory_that_the_kernel_has_of_a_file_is_dropped_before_while_and_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    advice: list[int] = []
    monkeypatch.setattr("registry.maintenance.scrub.medium.DROPPED_BYTES", 1000)
    monkeypatch.setattr(os, "posix_fadvise", lambda _file, _at, _length, given: advice.append(given))
    driver = LocalDriver(tmp_path, fsync=False)
    driver.write("a", bytes(2500))
    with MediumReader(driver.open("a")) as reader:
        assert advice == [os.POSIX_FADV_DONTNEED]
        read = 0
        while data := reader.read(500):
            read += len(data)
        assert (read, len(advice), reader.fileno()) == (2500, 3, None)
    assert len(advice) == 4
    reader.close()


def test_a_file_system_without_such_advice_is_read_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: int) -> None:
        raise OSError

    monkeypatch.setattr(os, "posix_fadvise", refuse)
    driver = LocalDriver(tmp_path, fsync=False)
    driver.write("a", b"bytes")
    with MediumReader(driver.open("a")) as reader:
        assert reader.read(10) == b"bytes"


def test_what_is_no_file_is_read_as_it_is() -> None:
    driver = MemoryDriver()
    driver.write("a", b"bytes")
    with MediumReader(driver.open("a")) as reader:
        assert (reader.read(10), reader.read(10)) == (b"bytes", b"")

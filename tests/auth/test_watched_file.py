"""A file of an operator takes effect when it is replaced, and never when it makes no sense."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from registry.auth.watched_file import WatchedFile


def number(data: bytes) -> int:
    return int(data)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "number"
    path.write_text("1")
    return path


def test_a_file_that_is_replaced_takes_effect(path: Path) -> None:
    watched = WatchedFile(path, number)
    assert (watched.current(), watched.generation) == (1, 1)
    new = path.with_suffix(".new")
    new.write_text("2")
    new.replace(path)
    assert (watched.current(), watched.generation) == (2, 2)


def test_it_is_read_only_when_it_changed(path: Path) -> None:
    read: list[bytes] = []

    def reading(data: bytes) -> int:
        read.append(data)
        return number(data)

    watched = WatchedFile(path, reading)
    for _ in range(10):
        watched.current()
    assert len(read) == 1


@pytest.mark.parametrize("damage", ["text", "missing", "directory", "pipe", "device"])
def test_a_file_that_makes_no_sense_changes_nothing_and_is_said_to(path: Path, damage: str) -> None:
    watched = WatchedFile(path, number)
    path.unlink()
    if damage == "text":
        path.write_text("one")
    elif damage == "directory":
        path.mkdir()
    elif damage == "pipe":
        os.mkfifo(path)  # to open it waits for a writer
    elif damage == "device":
        path.symlink_to("/dev/zero")
    assert (watched.current(), watched.generation) == (1, 1)
    assert watched.problem
    if path.is_dir():
        path.rmdir()
    path.unlink(missing_ok=True)
    path.write_text("3")
    assert (watched.current(), watched.generation) == (3, 2)
    assert watched.problem is None


def test_the_first_file_has_to_make_sense(path: Path) -> None:
    path.write_text("one")
    with pytest.raises(ValueError, match="one"):
        WatchedFile(path, number)
    path.unlink()
    with pytest.raises(FileNotFoundError):
        WatchedFile(path, number)

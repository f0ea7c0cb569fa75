"""Lines of the log reach pipes, sockets, terminals and files whole, and nothing waits that must not."""

from __future__ import annotations

import errno
import os
import pty
import socket
import threading
import tty
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from registry.observability.line_writer import LineWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LINE = b"x" * 199 + b"\n"


def test_lines_of_several_writers_to_one_pipe_are_never_mixed() -> None:
    reading, writing = os.pipe()
    received = bytearray()

    def read() -> None:
        while data := os.read(reading, 1 << 16):
            received.extend(data)

    def write(letter: bytes) -> None:
        writer = LineWriter(writing)
        for _ in range(20):
            writer(b"".join(letter * length + b"\n" for length in range(1, 900, 7)))

    reader = threading.Thread(target=read)
    reader.start()
    writers = [threading.Thread(target=write, args=(letter,)) for letter in (b"a", b"b", b"c")]
    for thread in writers:
        thread.start()
    for thread in writers:
        thread.join()
    os.close(writing)
    reader.join()
    os.close(reading)
    lines = bytes(received).splitlines()
    assert len(lines) == 3 * 20 * len(range(1, 900, 7))
    assert all(len(set(line)) == 1 for line in lines)


def test_a_log_that_cannot_be_written_raises_nothing() -> None:
    reading, writing = os.pipe()
    writer = LineWriter(writing)
    os.close(reading)
    assert writer(b"line\n") == (b"", 1)
    os.close(writing)
    with Path("/dev/full").open("wb") as full:
        assert LineWriter(full.fileno())(b"line\n" * 3) == (b"", 3)


def test_a_file_gets_every_byte(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as file:
        LineWriter(file.fileno())(b"line\n" * 100_000)
    assert (tmp_path / "log").read_bytes() == b"line\n" * 100_000


def test_a_line_that_a_full_disk_has_cut_ends_before_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    room, real = len(b"one\ntwo\nth"), os.write

    def write(descriptor: int, data: memoryview) -> int:
        nonlocal room
        if not room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = real(descriptor, data[:room])
        room -= written
        return written

    monkeypatch.setattr(os, "write", write)
    with (tmp_path / "log").open("wb") as file:
        writer = LineWriter(file.fileno())
        assert writer(b"one\ntwo\nthree\n") == (b"", 1)
        assert writer(b"four\nfive\n") == (b"", 2)
        room = 100
        assert writer(b"six\n") == writer(b"seven\n") == (b"", 0)
    assert (tmp_path / "log").read_bytes() == b"one\ntwo\nth\nsix\nseven\n"


def pipe() -> tuple[int, int]:
    """Both ends of a pipe: for reading, and for writing."""
    return os.pipe()


def sockets() -> tuple[int, int]:
    """Both ends of a connection."""
    ours, theirs = socket.socketpair()
    return ours.detach(), theirs.detach()


def terminal() -> tuple[int, int]:
    """Both sides of a terminal that passes bytes on as they are."""
    ours, theirs = pty.openpty()
    tty.setraw(theirs)
    return ours, theirs


@pytest.fixture(params=[pipe, sockets, terminal])
def ends(request: pytest.FixtureRequest) -> Iterator[tuple[int, int]]:
    """An end that is read and an end that is written, of each kind that may have to wait."""
    make: Callable[[], tuple[int, int]] = request.param
    reading, writing = make()
    yield reading, writing
    os.close(reading)
    os.close(writing)


def test_a_writer_that_must_not_wait_returns_the_bytes_that_were_not_taken(ends: tuple[int, int]) -> None:
    reading, writing = ends
    writer = LineWriter.without_waiting(writing)
    assert writer is not None
    sent = rest = b"".join(b"%07d\n" % number for number in range(1 << 18))
    received = b""
    refused = 0
    while rest:
        rest, lost = writer(rest)
        assert lost == 0
        refused += bool(rest)
        while len(received) + len(rest) < len(sent):
            received += os.read(reading, 1 << 16)
    assert refused, "2 MiB are more than any of them holds"
    assert received == sent
    writer.close()
    assert os.get_blocking(writing), "other processes write to the same description, and wait"


def test_a_pipe_takes_whole_lines_or_nothing() -> None:
    reading, writing = os.pipe()
    writer = LineWriter.without_waiting(writing)
    assert writer is not None
    rest, _lost = writer(LINE * 1000)
    assert rest
    assert len(rest) % len(LINE) == 0
    received = os.read(reading, 1 << 20)
    assert received == LINE * (1000 - len(rest) // len(LINE))
    writer.close()
    os.close(reading)
    os.close(writing)


def test_a_file_is_written_at_once(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as file:
        writer = LineWriter.without_waiting(file.fileno())
        assert writer is not None
        assert writer(LINE * 10_000) == (b"", 0)
        writer.close()
        file.write(LINE)
    assert (tmp_path / "log").read_bytes() == LINE * 10_001


def test_a_pipe_that_was_closed_loses_its_lines() -> None:
    reading, writing = os.pipe()
    writer = LineWriter.without_waiting(writing)
    assert writer is not None
    os.close(reading)
    assert writer(LINE * 3) == (b"", 3)
    writer.close()
    os.close(writing)

"""Lines on their way to a stderr that may not be read: nothing waits for them, and what is lost is counted."""

from __future__ import annotations

import os
import threading

from registry.observability.line_writer import LineWriter
from registry.observability.outlet import Outlet, OutletStream

PATIENCE = 30.0
"""Seconds that another thread may need."""


class Sink:
    """A stderr that is read only once it is opened."""

    def __init__(self) -> None:
        self.is_asked = threading.Event()
        self.is_open = threading.Event()
        self.lines: list[bytes] = []

    def __call__(self, data: bytes) -> tuple[bytes, int]:
        self.is_asked.set()
        assert self.is_open.wait(PATIENCE)
        self.lines += data.splitlines()
        return b"", 0


class Cup:
    """A way that takes some bytes without waiting."""

    def __init__(self, lines: list[bytes], room: int) -> None:
        self.lines = lines
        self.room = room

    def __call__(self, data: bytes) -> tuple[bytes, int]:
        taken = data[: self.room]
        taken = taken[: taken.rfind(b"\n") + 1]
        self.room -= len(taken)
        self.lines += taken.splitlines()
        return data[len(taken) :], 0


def test_lines_are_written_in_their_order() -> None:
    sink = Sink()
    sink.is_open.set()
    outlet = Outlet(sink)
    for number in range(1000):
        outlet(b"%d\n" % number)
    assert outlet.drain(PATIENCE)
    assert sink.lines == [b"%d" % number for number in range(1000)]
    assert outlet.dropped == 0


def test_no_thread_waits_for_a_sink_that_is_not_read() -> None:
    sink = Sink()
    outlet = Outlet(sink, room=100)
    outlet(b"first\n")
    assert sink.is_asked.wait(PATIENCE)
    for number in range(1000):
        outlet(b"line %d\n" % number)
    assert not outlet.drain(0.01)
    kept = 1001 - outlet.dropped
    assert 10 < kept < 20, "as many as there is room for"
    sink.is_open.set()
    assert outlet.drain(PATIENCE)
    assert sink.lines == [b"first", *(b"line %d" % number for number in range(kept - 1))]


def test_the_log_says_where_lines_are_missing() -> None:
    sink = Sink()
    outlet = Outlet(sink, room=20)
    outlet.gap = lambda lines: b"<%d missing>\n" % lines
    outlet(b"one\n")
    assert sink.is_asked.wait(PATIENCE)
    outlet(b"three lines\n that find\nno room\n")
    outlet(b"and a fourth one does not\n")
    sink.is_open.set()
    assert outlet.drain(PATIENCE)
    for line in (b"on\n", b"and on\n"):
        outlet(line)
        assert outlet.drain(PATIENCE)
    assert sink.lines == [b"one", b"<4 missing>", b"on", b"and on"]
    assert outlet.dropped == 4


def test_lines_that_cannot_be_written_are_counted_too() -> None:
    reading, writing = os.pipe()
    outlet = Outlet(LineWriter(writing))
    os.close(reading)
    outlet(b"one\ntwo\n")
    assert outlet.drain(PATIENCE)
    os.close(writing)
    assert outlet.dropped == 2


def test_a_stream_takes_text_of_any_kind() -> None:
    sink = Sink()
    sink.is_open.set()
    outlet = Outlet(sink)
    OutletStream(outlet).write("a lone surrogate \ud800 and é\n")
    assert outlet.drain(PATIENCE)
    assert sink.lines == ["a lone surrogate \\ud800 and é".encode()]


def test_the_calling_thread_writes_all_bytes_that_are_taken_at_once() -> None:
    sink = Sink()
    outlet = Outlet(sink, Cup(sink.lines, room=1000))
    for number in range(3):
        outlet(b"%d\n" % number)
    assert sink.lines == [b"0", b"1", b"2"]
    assert not sink.is_asked.is_set()
    assert outlet.drain(0)


def test_nothing_overtakes_lines_that_wait() -> None:
    sink = Sink()
    cup = Cup(sink.lines, room=6)
    outlet = Outlet(sink, cup)
    outlet(b"one\ntwo\nthree\n")
    assert sink.lines == [b"one"]
    cup.room = 1000
    outlet(b"four\n")
    assert sink.lines == [b"one"]
    sink.is_open.set()
    assert outlet.drain(PATIENCE)
    outlet(b"five\n")
    assert sink.lines == [b"one", b"two", b"three", b"four", b"five"]
    assert outlet.dropped == 0


def test_lines_that_the_direct_way_loses_are_counted_and_told() -> None:
    lines: list[bytes] = []
    broken = True

    def write_now(data: bytes) -> tuple[bytes, int]:
        if broken:
            return b"", data.count(b"\n")
        lines.extend(data.splitlines())
        return b"", 0

    outlet = Outlet(Sink(), write_now)
    outlet.gap = lambda lines: b"<%d missing>\n" % lines
    for number in range(3):
        outlet(b"line\n" * (number + 1))
    assert outlet.dropped == 6, "what says how many are missing is none of them"
    broken = False
    outlet(b"three\n")
    outlet(b"four\n")
    assert lines == [b"<6 missing>", b"three", b"four"]


def test_a_pipe_that_is_read_late_gets_every_line_in_its_order() -> None:
    reading, writing = os.pipe()
    writer = LineWriter.without_waiting(writing)
    assert writer is not None
    outlet = Outlet(LineWriter(writing), writer)
    sent = [b"%07d\n" % number for number in range(1 << 16)]
    for start in range(0, len(sent), 1000):
        outlet(b"".join(sent[start : start + 1000]))
    received = b""
    while len(received) < len(sent) * 8:
        received += os.read(reading, 1 << 16)
    assert received == b"".join(sent)
    assert outlet.drain(PATIENCE)
    outlet(b"once more\n")
    assert os.read(reading, 100) == b"once more\n"
    assert outlet.dropped == 0
    writer.close()
    os.close(reading)
    os.close(writing)

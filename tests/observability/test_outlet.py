"""Lines on their way to a stderr that may not be read: nothing waits for them, and what is lost is counted."""

from __future__ import annotations

import os
import threading

from registry.observability.outlet import Outlet, OutletStream
from registry.observability.request_log import LineWriter

PATIENCE = 30.0
"""Seconds that another thread may need."""


class Sink:
    """A stderr that is read only once it is opened."""

    def __init__(self) -> None:
        self.is_asked = threading.Event()
        self.is_open = threading.Event()
        self.lines: list[bytes] = []

    def __call__(self, data: bytes) -> int:
        self.is_asked.set()
        assert self.is_open.wait(PATIENCE)
        self.lines += data.splitlines()
        return 0


def test_lines_are_written_in_their_order() -> None:
    sink = Sink()
    sink.is_open.set()
    outlet = Outlet(sink)
    for number in range(1000):
        outlet(b"%d\n" % number)
    assert outlet.drain(PATIENCE)
    assert sink.lines == [b"%d" % number for number in range(1000)]
    assert outlet.dropped == 0


def test_a_sink_that_is_not_read_is_waited_for_by_nothing() -> None:
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


def test_what_cannot_be_written_is_counted_too() -> None:
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

"""A document that a parent shows: the last one, whole, for each process that was forked from it."""

from __future__ import annotations

import multiprocessing
import os

import pytest

from registry.server.broadcast import Broadcast


def test_the_last_document_is_read_whatever_was_written_before() -> None:
    broadcast = Broadcast()
    assert broadcast.read() is None
    for document in (b"one", b"x" * 3_000_000, b"", b"two"):
        broadcast.write(document)
        assert broadcast.read() == document


def test_a_process_that_was_forked_before_reads_what_is_written_later() -> None:
    broadcast, context = Broadcast(), multiprocessing.get_context("fork")
    asked, answers = context.Event(), context.SimpleQueue()

    def read() -> None:
        assert asked.wait(30)
        answers.put(broadcast.read())

    process = context.Process(target=read)
    process.start()
    broadcast.write(b"later")
    asked.set()
    assert answers.get() == b"later"
    process.join(30)


def test_half_a_document_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """The writer is in the middle of the next one, and tells of it when that is done."""
    broadcast, pwrite = Broadcast(), os.pwrite
    broadcast.write(b"a" * 100)

    def half(descriptor: int, data: bytes, offset: int) -> int:
        if offset:
            raise InterruptedError
        return pwrite(descriptor, data[: len(data) // 2], offset)

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", half)
        with pytest.raises(InterruptedError):
            broadcast.write(b"b" * 100)
    assert broadcast.read() is None

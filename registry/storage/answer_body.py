"""The bytes of one answer over HTTP, into a buffer of the caller's where there are many."""

from __future__ import annotations

from http.client import HTTPConnection
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import socket

    from urllib3 import BaseHTTPResponse


class AnswerBody:
    """For one thread at a time. Of an answer of urllib3 with a Content-Length, and no other framing.

    ``read`` and ``read_into`` return less than is asked for, also nothing, where the connection ends early.
    """

    def __init__(self, answer: BaseHTTPResponse, length: int) -> None:
        """``length`` of the body in bytes."""
        self._answer = answer
        self._left = length
        self._socket: socket.socket | None = None

    def read(self, size: int) -> bytes:
        """At most ``size`` more bytes."""
        if self._socket is not None:
            buffer = bytearray(min(size, self._left))
            return bytes(buffer[: self.read_into(memoryview(buffer))])
        data = self._answer.read(min(size, self._left))
        self._left -= len(data)
        return data

    def read_into(self, buffer: memoryview) -> int:
        """Fill a buffer; how many bytes these are.

        A new object of a MiB for each read costs as much again as receiving it: the system has to find its pages.
        """
        wanted = buffer[: self._left]
        filled = 0
        while filled < len(wanted):
            count = self._receive(wanted[filled:])
            self._left -= count
            filled += count
            if not count:
                break
        return filled

    def close(self) -> None:
        """Let the connection be used again, where everything was read in the usual way; else cut it."""
        if self._left or self._socket is not None:
            self._answer.close()
        else:
            self._answer.drain_conn()
        self._answer.release_conn()

    def _receive(self, wanted: memoryview) -> int:
        if self._socket is not None:
            return self._socket.recv_into(wanted)
        data = self._answer.read1(len(wanted))
        wanted[: len(data)] = data
        connection: object = self._answer.connection
        if len(data) < len(wanted) and isinstance(connection, HTTPConnection):
            # What came with the head has been taken: nothing is left in between, and the socket is ours.
            self._socket = connection.sock
        return len(data)

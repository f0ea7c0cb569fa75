"""Everything that comes back on one connection, cut into answers."""

from __future__ import annotations

import socket
import time
from contextlib import suppress
from typing import TYPE_CHECKING, cast

from tests.hostile.wire import TIMEOUT, Reply, read_reply

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tests.hostile.wire import Address


def converse(address: Address, pieces: Iterable[bytes], *, pause: float = 0.0) -> bytes:
    """Send the pieces one by one, and end the sending side. Returns all bytes until the server ends its own.

    Raises TimeoutError on a hang.
    """
    with socket.create_connection((address.host, address.port), timeout=TIMEOUT) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with suppress(OSError):  # the server may have ended the connection by now
            for piece in pieces:
                connection.sendall(piece)
                if pause:
                    time.sleep(pause)
            connection.shutdown(socket.SHUT_WR)
        received = bytearray()
        with suppress(ConnectionError):
            while data := connection.recv(1 << 20):
                received += data
        return bytes(received)


def answers(received: bytes, methods: Sequence[str]) -> list[Reply]:
    """The answers in what was received; ``methods`` are those of the requests, in order.

    Raises AssertionError where something is left over that is no answer.
    """
    stream = _Sent(received)
    found = []
    for method in [*methods, *["GET"] * 100]:
        reply = read_reply(cast("socket.socket", stream), head=method == "HEAD")
        if reply is None:
            break
        found.append(reply)
    assert not stream.rest, f"no answer: {stream.rest[:200]!r}"
    return found


class _Sent:
    """A connection on which these bytes come one at a time, so that reading an answer takes nothing of the next."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def recv(self, _size: int) -> bytes:
        """The next byte."""
        self._at += 1
        return self._data[self._at - 1 : self._at]

    @property
    def rest(self) -> bytes:
        """What was not read."""
        return self._data[self._at :]

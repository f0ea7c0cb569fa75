"""Peer: what the kernel knows of the other side of a connection, and how a side that does not listen is left.

Tests: ``tests/server/test_bounds.py``.
"""

from __future__ import annotations

import fcntl
import socket as sockets
import struct
import termios
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio

_ACKNOWLEDGED = 120
"""Where struct tcp_info has tcpi_bytes_acked."""
_INFO = _ACKNOWLEDGED + 8
_COUNT = struct.Struct("=Q")
_NUMBER = struct.Struct("=i")
_CLOSED = 7
"""TCP_CLOSE, the first byte of struct tcp_info once a reset has come."""
_RESET = struct.pack("ii", 1, 0)
"""The value of SO_LINGER that drops bytes which the other side has not taken."""


def untaken(transport: asyncio.Transport) -> int:
    """Bytes that were written to a connection, and are not known to have arrived."""
    waiting = transport.get_write_buffer_size()
    descriptor = _descriptor(transport)
    if descriptor is None:
        return waiting
    try:
        (queued,) = _NUMBER.unpack(fcntl.ioctl(descriptor, termios.TIOCOUTQ, bytes(_NUMBER.size)))
    except OSError:
        return waiting
    return waiting + int(queued)


def taken(transport: asyncio.Transport) -> int:
    """How many bytes the other side has acknowledged since the connection began; 0 where nothing says so."""
    socket = transport.get_extra_info("socket")
    if socket is None or socket.fileno() < 0:
        return 0
    try:
        info = socket.getsockopt(sockets.IPPROTO_TCP, sockets.TCP_INFO, _INFO)
    except OSError:
        return 0
    return int(_COUNT.unpack_from(info, _ACKNOWLEDGED)[0]) if len(info) >= _INFO else 0


def is_reset(transport: asyncio.Transport) -> bool:
    """Whether the other side has ended the connection, also where it had closed its side before."""
    socket = transport.get_extra_info("socket")
    if socket is None or socket.fileno() < 0:
        return transport.is_closing()
    try:
        return bool(socket.getsockopt(sockets.IPPROTO_TCP, sockets.TCP_INFO, 1)[0] == _CLOSED)
    except OSError:
        return False


def cut(transport: asyncio.Transport) -> None:
    """End a connection at once, also for a thread that waits for room in it; what was not taken is dropped."""
    descriptor = _descriptor(transport)
    if descriptor is not None:
        socket = sockets.socket(fileno=descriptor)
        try:
            socket.setsockopt(sockets.SOL_SOCKET, sockets.SO_LINGER, _RESET)
            socket.shutdown(sockets.SHUT_RDWR)
        except OSError:
            pass  # it is gone already
        finally:
            socket.detach()  # it stays the transport's
    transport.abort()


def _descriptor(transport: asyncio.Transport) -> int | None:
    socket = transport.get_extra_info("socket")
    descriptor: int = -1 if socket is None else socket.fileno()
    return descriptor if descriptor >= 0 else None

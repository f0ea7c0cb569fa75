"""Head rate: repeated HEAD requests, counted by this client, because wrk waits for a body after a HEAD."""

from __future__ import annotations

import select
import socket
import time

from benchmarks.wire import WireError, head

PATIENCE = 30.0
"""Seconds beyond those asked for after which a server that has answered nothing never will."""
_END = b"\r\n\r\n"
_GOOD = b"HTTP/1.1 200 "


def rate(target: str, port: int, seconds: float, connections: int) -> float:
    """Return the HEADs per second answered 200 on so many kept-alive connections, one request in flight on each.

    It counts for ``seconds``, and longer where a busy machine answers nothing in that time.
    Raises `WireError` for another answer, and for none at all.
    """
    request = head("HEAD", target, 0)
    poll = select.epoll()
    sockets: dict[int, socket.socket] = {}
    try:
        for _ in range(connections):
            each = socket.create_connection(("127.0.0.1", port))
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sockets[each.fileno()] = each
            poll.register(each, select.EPOLLIN)
        return _count(poll, sockets, request, seconds)
    finally:
        poll.close()
        for each in sockets.values():
            each.close()


def _count(poll: select.epoll, sockets: dict[int, socket.socket], request: bytes, seconds: float) -> float:
    done = 0
    started = time.monotonic()
    for each in sockets.values():
        each.send(request)
    while (elapsed := time.monotonic() - started) < seconds or not done:
        if elapsed > seconds + PATIENCE:
            raise WireError(f"no HEAD was answered within {elapsed:.0f} s")
        for descriptor, _ in poll.poll(seconds):
            each = sockets[descriptor]
            reply = each.recv(8192)
            if not reply.startswith(_GOOD) or not reply.endswith(_END):
                raise WireError(f"HEAD answered {reply[:200]!r}")
            done += 1
            each.send(request)
    return done / elapsed

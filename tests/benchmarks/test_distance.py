"""The store that is far away: each call takes longer, and its bytes arrive as they were sent."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.s3.distance import Distance
from tests.support.servers import HOST

SECONDS = 0.1


def _echo(listener: socket.socket) -> None:
    """Send back what each connection sends, until the listener is shut down."""
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with connection:
            while data := connection.recv(65536):
                connection.sendall(data)


@contextmanager
def _echoing() -> Iterator[int]:
    """A server on the port that is yielded."""
    with socket.create_server((HOST, 0)) as listener:
        answering = threading.Thread(target=_echo, args=(listener,))
        answering.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            answering.join()


def test_a_call_takes_longer_by_the_distance_and_nothing_is_lost_or_mixed_up(tmp_path: Path) -> None:
    with (
        _echoing() as port,
        Distance(tmp_path, port, SECONDS) as far,
        socket.create_connection((HOST, far.port), 10) as line,
        line.makefile("rb") as answers,
    ):
        for _ in range(3):
            started = time.monotonic()
            line.sendall(b"call")
            assert answers.read(4) == b"call"
            assert time.monotonic() - started >= SECONDS * 0.9
        sent = bytes(range(256)) * 1000
        line.sendall(sent)
        assert answers.read(len(sent)) == sent

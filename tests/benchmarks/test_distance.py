"""The store that is far away: each call takes longer, and its bytes arrive as they were sent."""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path

from benchmarks.s3.distance import Distance
from tests.servers import HOST

SECONDS = 0.1


def _echo(listener: socket.socket) -> None:
    while True:
        connection, _ = listener.accept()
        with connection:
            while data := connection.recv(65536):
                connection.sendall(data)


def test_a_call_takes_longer_by_the_distance_and_nothing_is_lost_or_mixed_up(tmp_path: Path) -> None:
    with socket.create_server((HOST, 0)) as listener:
        threading.Thread(target=_echo, args=(listener,), daemon=True).start()
        with (
            Distance(tmp_path, listener.getsockname()[1], SECONDS) as far,
            socket.create_connection((HOST, far.port), 10) as line,
            line.makefile("rb") as answers,
        ):
            for _ in range(3):
                started = time.monotonic()
                line.sendall(b"call")
                assert answers.read(4) == b"call"
                assert SECONDS * 0.9 <= time.monotonic() - started < 10 * SECONDS
            sent = bytes(range(256)) * 1000
            line.sendall(sent)
            assert answers.read(len(sent)) == sent

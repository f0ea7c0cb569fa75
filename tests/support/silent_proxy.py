"""A TCP proxy that can fall silent, as a hung pooler or a network that drops packets: nothing is closed or refused."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from typing import TYPE_CHECKING, Self

from tests.support.servers import HOST

if TYPE_CHECKING:
    from collections.abc import Callable

BLOCK = 1 << 16


class SilentProxy:
    """Passes bytes between its port and another one while ``passing`` is set; meanwhile it accepts and says nothing.

    ``lose`` is asked about what a client sends. Once it says yes, these bytes and all that follow on that connection
    are lost; with ``lose_answer`` they are passed on, and what the server says is lost.
    """

    def __init__(self, port: int) -> None:
        self._target = (HOST, port)
        self._listener = socket.create_server((HOST, 0), backlog=512)
        self.port: int = self._listener.getsockname()[1]
        self.passing = threading.Event()
        self.passing.set()
        self.lose: Callable[[bytes], bool] = lambda _: False
        self.lose_answer: Callable[[bytes], bool] = lambda _: False
        self._closed = threading.Event()
        self._sockets: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """End every connection."""
        self._closed.set()
        self.passing.set()
        for end in [self._listener, *self._sockets]:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _accept(self) -> None:
        while not self._closed.is_set():
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._sockets.append(client)
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        self.passing.wait()
        with (
            contextlib.suppress(OSError, ValueError),
            client,
            socket.create_connection(self._target) as server,
            selectors.DefaultSelector() as ready,
        ):
            self._sockets.append(server)
            ready.register(client, selectors.EVENT_READ, server)
            ready.register(server, selectors.EVENT_READ, client)
            self._pass(ready, client)

    def _pass(self, ready: selectors.BaseSelector, client: socket.socket) -> None:
        silent = deaf = False
        while not self._closed.is_set():
            for key, _ in ready.select(1):
                source = key.fileobj
                assert isinstance(source, socket.socket)
                data = source.recv(BLOCK)
                if not data:
                    return
                self.passing.wait()
                if source is client:
                    silent = silent or self.lose(data)
                    deaf = deaf or self.lose_answer(data)
                if silent or (deaf and source is not client):
                    continue
                key.data.sendall(data)

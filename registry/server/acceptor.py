"""Acceptor: takes connections from a listening socket, no more than there is room for, and never stops.

Those of uvloop and asyncio have no bound, and end listening for good where the process is out of descriptors.
"""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import socket as sockets
from time import monotonic
from typing import TYPE_CHECKING, Any, cast

import structlog

from registry.server.balance import ASIDE_SECONDS
from registry.server.deadlines import Deadlines

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from registry.api.http.access_log import AccessLog
    from registry.config.sections import HttpSettings
    from registry.server.balance import Balance
    from registry.server.framed_protocol import FramedProtocol
    from registry.server.tls_files import TlsFiles

RESERVE = 16
"""Connections beyond the bound, on which probes are answered; and descriptors that are kept for them."""
PER_CONNECTION = 4
"""Descriptors that one connection may need: its socket twice, and a file or a connection to a store or database."""
FOR_THE_PROCESS = 128
"""Descriptors for everything else."""
AT_ONCE = 32
"""Connections that are taken in one turn of the event loop: requests of the open ones are answered in between."""
ROOM = 16
"""A part of the bound, as a divisor: so many idle connections are ended together where there is no room."""
PAUSE_SECONDS = 0.1
"""For which no connection is taken where there is no room at all; those that come wait in the kernel."""
SHUTDOWN_SECONDS = 5.0
"""For which the end of a TLS connection waits for its client to agree."""
SAY_AGAIN_SECONDS = 60.0
"""Between two log lines that say that there is no room."""
_OUT_OF_DESCRIPTORS = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}

log = structlog.get_logger(__name__)


def raise_descriptor_limit() -> None:
    """Let this process, and those that it starts, have as many descriptors as it may give itself."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):  # the system has less by now: it is served with what there is
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def room_for(wanted: int) -> int:
    """How many of so many connections the descriptors of this process are enough for."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return wanted
    return max(RESERVE, min(wanted, (soft - FOR_THE_PROCESS) // PER_CONNECTION))


class Acceptor:
    """Accepts connections of a listening socket, which several processes may share. For the event loop's thread alone.

    Beyond the bound it ends connections that wait for their clients, the longest first; where none does, RESERVE more
    are taken, on which only probes are answered. As uvicorn expects of a server, it can be closed and waited for.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        listener: sockets.socket,
        make_protocol: Callable[[], FramedProtocol],
        http: HttpSettings,
        tls: TlsFiles | None,
        balance: Balance | None = None,
    ) -> None:
        """``balance`` is that of several processes."""
        self._loop = loop
        self._listener = listener
        self._make_protocol = make_protocol
        self._tls = tls
        self._handshake_seconds = 0.0 if http.tls is None else http.tls.handshake_timeout
        model = make_protocol()
        self._connections = model.connections
        """All connections of the process, after their handshakes: uvicorn keeps them."""
        self._observation = cast("AccessLog", model.app)
        self._deadlines = Deadlines(http, self._observation.connection_ended)
        self._most = room_for(http.max_connections)
        self._balance = balance
        self._at_once = min(AT_ONCE, self._most // 4 + 1) if balance is None else 1
        self._joining: dict[asyncio.Task[None], None] = {}
        """Connections before the end of their handshakes; the oldest first."""
        self._spares: list[int] = []
        self._said = -SAY_AGAIN_SECONDS
        self._is_closed = False
        listener.settimeout(0)
        listener.setsockopt(sockets.IPPROTO_TCP, sockets.TCP_NODELAY, 1)
        self._keep_spares()
        self._watch()
        self._listen()

    def close(self) -> None:
        """Take no more connections, nor finish the handshakes of those that come."""
        if self._is_closed:
            return
        self._is_closed = True
        self._loop.remove_reader(self._listener)
        if self._tls:  # what has no handshake joins within this turn, and is told then
            for task in self._joining:
                task.cancel()
        while self._spares:
            os.close(self._spares.pop())

    async def wait_closed(self) -> None:
        """Return when it takes no more; what it has taken may still be open."""

    def _listen(self) -> None:
        if not self._is_closed:
            self._loop.add_reader(self._listener, self._take)

    def _watch(self) -> None:
        """Again and again, also while connections that are open end."""
        if self._is_closed and not self._connections:
            return
        self._loop.call_later(self._deadlines.interval, self._watch)
        self._deadlines.look(list(cast("set[FramedProtocol]", self._connections)), monotonic())
        self._observation.connections(len(self._connections))
        self._note()
        self._keep_spares()

    def _note(self) -> None:
        if self._balance is not None:
            self._balance.note(len(self._connections) + len(self._joining))

    def _take(self) -> None:
        self._note()
        if self._balance is not None and self._balance.is_ahead():
            self._loop.remove_reader(self._listener)
            self._loop.call_later(ASIDE_SECONDS, self._take_what_is_left)
        else:
            self._accept()

    def _take_what_is_left(self) -> None:
        """Those that no other process has taken meanwhile: it may be busy for long."""
        if not self._is_closed:
            self._listen()
            self._accept()

    def _accept(self) -> None:
        room = self._most - len(self._connections) - len(self._joining)
        for _ in range(self._at_once):
            if room <= -RESERVE:
                room += self._make_room()
            if room <= -RESERVE:
                self._pause()
                return
            try:
                connection, _ = self._listener.accept()
            except OSError as error:
                if error.errno in _OUT_OF_DESCRIPTORS:
                    self._take_with_spare()
                return  # else nothing is there, or it is gone again
            if room <= 0:
                room += self._make_room()
            self._join(connection, is_spare=room <= 0)
            room -= 1

    def _take_with_spare(self) -> None:
        """Take one connection, where the process is out of descriptors."""
        self._make_room()
        if not self._spares:
            self._pause()
            return
        os.close(self._spares.pop())
        try:
            connection, _ = self._listener.accept()
        except BlockingIOError:
            return
        except OSError:  # a thread was faster
            self._pause()
            return
        self._join(connection, is_spare=True)

    def _make_room(self) -> int:
        """End connections that only wait for their clients, and handshakes if there is none. Returns how many."""
        now = monotonic()
        if now - self._said >= SAY_AGAIN_SECONDS:
            self._said = now
            log.warning("there is no room for more connections", open=len(self._connections), most=self._most)
        count = max(1, self._most // ROOM)
        ended = self._deadlines.make_room(count, cast("set[FramedProtocol]", self._connections))
        if not ended and self._tls:  # what has no handshake joins at once
            oldest = list(self._joining)[:count]
            for task in oldest:
                task.cancel()
            ended = len(oldest)
        return ended

    def _pause(self) -> None:
        self._loop.remove_reader(self._listener)
        self._loop.call_later(PAUSE_SECONDS, self._listen)

    def _join(self, connection: sockets.socket, *, is_spare: bool) -> None:
        connection.settimeout(0)
        protocol = self._make_protocol()
        protocol.is_spare = is_spare
        task = self._loop.create_task(self._connect(connection, protocol))
        self._joining[task] = None
        task.add_done_callback(self._joining.pop)

    async def _connect(self, connection: sockets.socket, protocol: FramedProtocol) -> None:
        """Give it to the loop. What fails in its handshake concerns nothing else."""
        try:
            await self._loop.connect_accepted_socket(lambda: protocol, connection, **self._tls_options())
        except (OSError, TimeoutError):
            connection.close()
            self._connections.discard(protocol)
        else:
            self._deadlines.begin(protocol, monotonic())
            if self._is_closed:  # it was none of the connections when the server told them that it ends
                protocol.shutdown()

    def _tls_options(self) -> dict[str, Any]:
        """Those of the next connection: what the files said last."""
        if self._tls is None:
            return {}
        return {
            "ssl": self._tls.context,
            "ssl_handshake_timeout": self._handshake_seconds,
            "ssl_shutdown_timeout": SHUTDOWN_SECONDS,
        }

    def _keep_spares(self) -> None:
        try:
            while len(self._spares) < RESERVE and not self._is_closed:
                self._spares.append(os.open(os.devnull, os.O_RDONLY))
        except OSError:
            return  # later

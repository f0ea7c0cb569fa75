"""*Connection* to a checked address: the name is resolved by us, and TLS still asks the server for the name.

Tests: ``tests/upstream/test_client.py``.
"""

from __future__ import annotations

import contextlib
import os
import socket
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError
from urllib3.util.connection import create_connection

from registry.cutoff import Cutoff
from registry.interruption import interruptible
from registry.upstream.resolver import NameUnknown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from urllib3 import HTTPResponse

    Find = Callable[[float], Sequence[str]]

IDLE: Final = 60.0
"""Seconds after which a connection is not used again: servers close theirs about then."""
_LEAST: Final = 0.5
"""Seconds that each of several addresses has at least."""
_DEFAULT: Final = 30.0


class UpstreamConnection(HTTPConnection):
    """One connection over HTTP, or through a proxy."""

    def __init__(self, host: str, port: int | None = None, *, find: Find, **options: Any) -> None:  # noqa: ANN401 - those of urllib3
        """``find`` gives the addresses of the server, in the seconds that it is told. It raises NameUnknown."""
        super().__init__(host, port, **options)
        self._find = find
        self._cutoff: contextlib.ExitStack | None = None
        self.idle_since: float | None = None
        """When it was last put aside; None if it never was."""

    @property
    def is_connected(self) -> bool:
        """Whether it can be used again."""
        return super().is_connected and (self.idle_since is None or monotonic() - self.idle_since < IDLE)

    def connect(self) -> None:
        """Find the address, connect, and do what TLS wants, all within the connect timeout."""
        with contextlib.ExitStack() as stack:
            self._cutoff = stack
            super().connect()

    def getresponse(self) -> HTTPResponse:  # type: ignore[override]  # as urllib3 has it
        """The head of the answer, all of it within the read timeout."""
        with contextlib.ExitStack() as stack:
            with _bounded(self.sock, self._seconds()) as cutoff:
                try:
                    response = super().getresponse()
                except Exception as error:
                    if cutoff.is_over:
                        raise TimeoutError("the head of the answer takes too long") from error
                    raise
                stack.callback(response.close)
            stack.pop_all()  # it was not interrupted
        if cutoff.is_over:  # the standard library takes the end of a connection for the end of a head
            response.close()
            raise TimeoutError("the head of the answer takes too long")
        return response

    def _new_conn(self) -> socket.socket:
        seconds = self._seconds()
        deadline = monotonic() + seconds
        try:
            addresses = self._find(seconds)
        except NameUnknown as error:
            raise NameResolutionError(self.host, self, socket.gaierror(str(error))) from error
        failure: OSError | None = None
        for number, address in enumerate(addresses):
            left = deadline - monotonic()
            try:
                connection = create_connection(
                    (address, self.port),
                    max(left / (len(addresses) - number), _LEAST),
                    source_address=self.source_address,
                    socket_options=self.socket_options,
                )
            except OSError as error:
                failure = error
                continue
            if self._cutoff is not None:
                self._cutoff.enter_context(_bounded(connection, max(deadline - monotonic(), _LEAST)))
            return connection
        if isinstance(failure, TimeoutError):
            raise ConnectTimeoutError(self, "the connection is not accepted in time") from failure
        raise NewConnectionError(self, "the connection is refused") from failure

    def _seconds(self) -> float:
        return float(self.timeout) if isinstance(self.timeout, int | float) else _DEFAULT


@contextlib.contextmanager
def _bounded(connection: socket.socket, seconds: float) -> Iterator[Cutoff]:
    """End a connection after so many seconds, by another descriptor of it: TLS has taken the first one."""
    with socket.socket(fileno=os.dup(connection.fileno())) as other:
        end = partial(other.shutdown, socket.SHUT_RDWR)
        with interruptible(end), Cutoff(seconds, end) as cutoff:
            yield cutoff


class SecureConnection(UpstreamConnection, HTTPSConnection):
    """One connection over HTTPS, perhaps through a proxy."""

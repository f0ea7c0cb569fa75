"""*Patience* with a store over a network: how long a request may take in all, and how a dead connection is found."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Protocol

import tenacity
from urllib3.connection import HTTPConnection

if TYPE_CHECKING:
    from tenacity.stop import stop_base

KEPT_ALIVE = [
    *HTTPConnection.default_socket_options,
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    # A peer that the network has swallowed is found within 20 seconds, before the store is taken to be silent.
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 2),
]


class Patience(Protocol):
    """The settings of a store that say how long it is waited for, in seconds."""

    attempts: int
    connect_timeout: float
    read_timeout: float
    timeout: float


def stop_of(settings: Patience) -> stop_base:
    """When a request is not repeated any more: after so many attempts, or where another might end too late."""
    last = max(0.0, settings.timeout - settings.connect_timeout - settings.read_timeout)
    return tenacity.stop_any(tenacity.stop_after_attempt(settings.attempts), tenacity.stop_before_delay(last))

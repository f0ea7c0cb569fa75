"""*Retry*: requests to a store over a network, repeated within bounds, and reported.

How long a request may take in all, how a dead connection is found, and how many requests are under way at once.
"""

from __future__ import annotations

import socket
from contextlib import contextmanager
from time import perf_counter
from typing import TYPE_CHECKING, Protocol, TypeVar

import tenacity
from urllib3 import Timeout
from urllib3.connection import HTTPConnection

from registry.storage.deadlines import require_time
from registry.storage.errors import (
    StorageError,
    StorageFull,
    StorageUnavailable,
    StoreMisconfigured,
    Throttled,
    Unanswered,
)
from registry.storage.object_store.gate import StoreGate

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from tenacity.retry import retry_base
    from tenacity.stop import stop_base

    from registry.storage.middleware.metrics import Kind, Observe

T = TypeVar("T")

KEPT_ALIVE = [
    *HTTPConnection.default_socket_options,
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    # A peer that the network has swallowed is found within 20 seconds, before the store is taken to be silent.
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 2),
]
_FAILURES = (StorageUnavailable, Throttled, StoreMisconfigured, StorageFull)
"""Every other StorageError answers a question."""
_may_help: retry_base = tenacity.retry_if_exception_type((Throttled, StorageUnavailable))


class Patience(Protocol):
    """The settings of a store that say how long it is waited for, in seconds, and how much is asked of it at once."""

    attempts: int
    connect_timeout: float
    read_timeout: float
    timeout: float
    connections: int


class Retry:
    """The requests to one store. Any thread."""

    def __init__(self, driver: str, settings: Patience, observe: Observe | None = None) -> None:
        """``observe`` hears of each request under the name of the ``driver``."""
        self.gate = StoreGate(settings.connections)
        self._driver = driver
        self._observe = observe
        self._retrying = tenacity.Retrying(
            stop=stop_of(settings),
            wait=tenacity.wait_exponential_jitter(multiplier=0.1, max=2.0, jitter=0.1),
            retry=_may_help,
            reraise=True,
        )
        self._sending = self._retrying.copy(retry=_may_help & tenacity.retry_if_not_exception_type(Unanswered))
        self._waiting = self._retrying.copy(stop=tenacity.stop_before_delay(_last(settings)))

    def repeat(self, key: str, work: Callable[[], T]) -> T:
        """Do ``work``, again where the store throttles it or does not answer. Raises StorageError."""
        with self.gate.enter(key):
            return self._retrying(work)

    def repeat_refused(self, key: str, work: Callable[[], T]) -> T:
        """As ``repeat``, not where the store does not answer in time: what it does late must not follow an answer."""
        with self.gate.enter(key):
            return self._sending(work)

    def wait_for(self, key: str, work: Callable[[], T]) -> T:
        """As ``repeat``, as often as there is time: ``work`` looks for what an earlier request may still do."""
        with self.gate.enter(key):
            return self._waiting(work)

    @contextmanager
    def request(self, key: str, operation: str, kind: Kind) -> Generator[None]:
        """For one request, whose answer is read in the block: it has room at the store, and is reported.

        Raises StorageUnavailable where the store is silent.
        """
        begin = perf_counter()
        failed = True
        try:
            with self.gate.enter(key):
                yield
            failed = False
        except StorageError as error:
            failed = isinstance(error, _FAILURES)
            raise
        finally:
            if self._observe is not None:
                self._observe(self._driver, operation, kind, perf_counter() - begin, failed)


def timeout_until(key: str, deadline: float, settings: Patience) -> Timeout:
    """How long a request may take that begins now and ends before ``deadline`` (``clocks.boot_seconds``).

    Raises NotSent when the deadline has passed.
    """
    left = require_time(key, deadline)
    return Timeout(total=left, connect=min(left, settings.connect_timeout), read=min(left, settings.read_timeout))


def stop_of(settings: Patience) -> stop_base:
    """When a request is not repeated any more: after so many attempts, or where another might end too late."""
    return tenacity.stop_any(
        tenacity.stop_after_attempt(settings.attempts), tenacity.stop_before_delay(_last(settings))
    )


def _last(settings: Patience) -> float:
    """Seconds after the first request when the last one begins."""
    return max(0.0, settings.timeout - settings.connect_timeout - settings.read_timeout)

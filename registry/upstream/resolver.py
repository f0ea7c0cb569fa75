"""*Resolver*: the addresses of a name, in a bounded time.

The system's look-up cannot be ended, so that it runs in a thread that is left behind when it takes too long; while
too many of these are there, no further one begins.
"""

from __future__ import annotations

import queue
import socket
import threading
from ipaddress import ip_address
from time import monotonic
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    LookUp = Callable[[str], Sequence[str]]

AT_ONCE: Final = 16


class NameUnknown(Exception):
    """The name has no address, or none in time; the message says which."""


def look_up(host: str) -> Sequence[str]:
    """The addresses that the system knows for a name. Raises OSError, UnicodeError."""
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class Resolver:
    """Any thread."""

    def __init__(self, look_up: LookUp = look_up) -> None:
        self._look_up = look_up
        self._room = threading.BoundedSemaphore(AT_ONCE)

    def addresses(self, host: str, seconds: float) -> Sequence[str]:
        """The addresses of a host, at least one, in the order of the system. Raises NameUnknown."""
        try:
            return [str(ip_address(host))]
        except ValueError:
            pass
        deadline = monotonic() + seconds
        if not self._room.acquire(timeout=seconds):
            raise NameUnknown("its name could not be looked up: too many look-ups are not answered")
        answer: queue.SimpleQueue[Sequence[str] | Exception] = queue.SimpleQueue()
        try:
            threading.Thread(target=self._answer, args=(host, answer), name="resolver", daemon=True).start()
        except RuntimeError:  # no more threads
            self._room.release()
            raise
        try:
            found = answer.get(timeout=max(deadline - monotonic(), 0.001))
        except queue.Empty:
            raise NameUnknown("its name is not resolved in time") from None
        if isinstance(found, Exception):
            raise NameUnknown("its name is not known") from found
        if not found:
            raise NameUnknown("its name has no address")
        return found

    def _answer(self, host: str, answer: queue.SimpleQueue[Sequence[str] | Exception]) -> None:
        try:
            answer.put(self._look_up(host))
        except Exception as error:  # noqa: BLE001 - for the thread that waits
            answer.put(error)
        finally:
            self._room.release()

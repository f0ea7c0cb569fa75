"""Deadlines: how long a connection may wait for its client, looked at from time to time.

A request costs nothing for it: no timer is set and no time is noted where a request is answered. What a connection
waits for is asked of it, and a wait that is the same for longer than its deadline ends the connection.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable

    from registry.config.sections import HttpSettings

MOST_SECONDS = 1.0
"""Between two looks, where no deadline is shorter than a few of them."""
LINGER_SECONDS = 5.0
"""For which a client that was refused may go on sending before it has read why."""
FIRST_BYTE_OF_SPARE = 2.0
"""Seconds until the first byte on a connection of the reserve."""


class Wait(Enum):
    """What a connection waits for; the values are reasons in metrics."""

    US = "application"
    FIRST_BYTE = "first_byte"
    """For its first request."""
    FIRST_BYTE_OF_SPARE = "first_byte_of_spare"
    """The same, on a connection of the reserve."""
    NEXT_REQUEST = "next_request"
    HEAD = "head"
    """For the rest of one."""
    BODY = "body"
    """For the rest of one that the application does not want."""
    ANSWER = "answer"
    """Until its client takes more of one."""
    LINGER = "linger"
    """Until a client that was refused closes its side."""


IDLE = frozenset({Wait.FIRST_BYTE, Wait.FIRST_BYTE_OF_SPARE, Wait.NEXT_REQUEST, Wait.HEAD, Wait.LINGER})
"""Waits that may be ended early, where the connection is needed for another client."""


class Watched(Protocol):
    """A connection."""

    def standing(self) -> tuple[Wait, object]:
        """What it waits for, and something that is another value when its client has got on."""

    def expire(self, wait: Wait) -> None:
        """End what lasted too long."""

    def leave(self) -> None:
        """End it at once, for there is no room."""


class _Seen(NamedTuple):
    wait: Wait
    progress: object
    since: float


class Deadlines:
    """Those of one process. For the event loop's thread alone."""

    def __init__(self, http: HttpSettings, ended: Callable[[str], object] = lambda _reason: None) -> None:
        """``ended`` is told why, of each connection that was ended."""
        self._ended = ended
        self._seen: dict[Watched, _Seen] = {}
        self._limits = {
            Wait.FIRST_BYTE: http.first_byte_timeout,
            Wait.FIRST_BYTE_OF_SPARE: min(http.first_byte_timeout, FIRST_BYTE_OF_SPARE),
            Wait.NEXT_REQUEST: http.keep_alive_timeout,
            Wait.HEAD: http.head_timeout,
            Wait.BODY: http.idle_timeout,
            Wait.ANSWER: http.answer_timeout,
            Wait.LINGER: LINGER_SECONDS,
        }
        self.interval = min(MOST_SECONDS, min(self._limits.values()) / 2)
        """Seconds between two looks."""

    def begin(self, connection: Watched, now: float) -> None:
        """Know of a new connection before the next look."""
        wait, progress = connection.standing()
        if wait is not Wait.US:
            self._seen[connection] = _Seen(wait, progress, now)

    def look(self, connections: Iterable[Watched], now: float) -> None:
        """See what every connection waits for at the time ``now``, and end those whose time is over."""
        seen: dict[Watched, _Seen] = {}
        over: list[tuple[Watched, Wait]] = []
        for connection in connections:
            wait, progress = connection.standing()
            if wait is Wait.US:
                continue
            before = self._seen.get(connection)
            if before is None or before.wait is not wait or before.progress != progress:
                before = _Seen(wait, progress, now)
            seen[connection] = before
            if now - before.since >= self._limits[wait]:
                over.append((connection, wait))
        self._seen = seen
        for connection, wait in over:
            self._seen.pop(connection)
            connection.expire(wait)
            self._ended(wait.value)

    def make_room(self, count: int, connections: Container[Watched]) -> int:
        """End at most ``count`` of these connections that wait for their clients, the longest first. Returns how many.

        Those that have got on since the last look come last. What is gone since then makes no room.
        """
        waiting: list[tuple[bool, float, Watched]] = []
        for connection, before in self._seen.items():
            if connection not in connections:
                continue
            wait, progress = connection.standing()
            if wait in IDLE:
                has_got_on = (wait, progress) != (before.wait, before.progress)
                waiting.append((has_got_on, before.since, connection))
        waiting.sort(key=lambda entry: entry[:2])
        for _, _, connection in waiting[:count]:
            del self._seen[connection]
            connection.leave()
            self._ended("no_room")
        return min(count, len(waiting))

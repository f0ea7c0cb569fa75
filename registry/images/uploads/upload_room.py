"""*Room for uploads*: how many sessions may be open, and which of them end where there are more.

A session costs a row, perhaps a file or some bytes in its row, and stays until it expires: a client that begins them
and goes on with none would fill the disk with them. Beginning one is never refused, since the client at hand is the one
that is sure to be there: the oldest that nothing is written to ends instead, of the same account or address where that
is at its bound. Bytes are not bounded: those of a session
are no more than those of a blob, which are not bounded either.

They are counted where replicas share them, in the database and in the store: a bound of each process would be as many
times larger as there are processes, and forgotten at each start. A count follows only each so many starts, so that a
push pays nothing for it; there may be so many sessions more, of each process.
"""

from __future__ import annotations

import contextlib
import heapq
import threading
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

import structlog

from registry.database import upload_sessions
from registry.database.errors import DatabaseError
from registry.images.uploads.session_ids import ACCOUNT, Origin, origin_of
from registry.storage.errors import PathRefused, StorageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from registry.images.backends import Backends

SHARE = 100
"""A count follows as many starts as are this part of a bound."""
MOST_AT_ONCE = 500
"""Sessions that one request ends at most for the one that it begins."""
SPARE = 100
"""Sessions that are being written to, at most, which are passed over before the next one ends."""

log = structlog.get_logger(__name__)


class Bounds(NamedTuple):
    """Sessions that may be open."""

    total: int
    per_address: int
    """The bound of each account, and of each address without one."""


class UploadRoom:
    """Keeps the sessions of all replicas within their bounds. Any thread."""

    def __init__(self, backends: Backends, end: Callable[[str], bool]) -> None:
        """``end`` ends a session; False if it is being written to, or has ended already."""
        policy = backends.policy
        self._backends = backends
        self._end = end
        self._bounds = Bounds(policy.uploads, policy.uploads_per_address)
        self._stride = max(1, min(self._bounds) // SHARE)
        self._lock = threading.Lock()
        self._begun = self._stride - 1

    def note_begun(self) -> None:
        """One more session was begun; older ones may end now. Does not raise: that one is there in any case."""
        with self._lock:
            self._begun += 1
            is_due = self._begun >= self._stride
            if is_due:
                self._begun = 0
        if not is_due:
            return
        try:
            self._make()
        except (StorageError, DatabaseError) as error:
            log.warning("upload sessions could not be ended to make room", reason=str(error))

    def counts(self) -> dict[str, int]:
        """Open sessions by address or account."""
        with self._backends.database.autocommit() as connection:
            counts = Counter(upload_sessions.count_by_address(connection).get())
        counts.update(origin.address for _, origin in self._unnoted())
        return counts

    def _unnoted(self) -> Iterator[tuple[str, Origin]]:
        """The sessions that began without a row; some have one by now."""
        if self._backends.driver.capabilities.exclusive_uploads:
            for entry in self._backends.driver.uploads():
                origin = origin_of(entry.upload_id)
                if origin is not None:
                    yield entry.upload_id, origin

    def _make(self) -> None:
        for address, count in surplus(self.counts(), self._bounds, MOST_AT_ONCE).items():
            ended = 0
            for upload_id in self._oldest(address, count + SPARE):
                if ended == count:
                    break
                with contextlib.suppress(PathRefused):  # the next one ends in its place; expiry reports it
                    ended += self._end(upload_id)
            log.warning("upload sessions were ended to make room", client=address or None, uploads=ended)

    def _oldest(self, address: str, count: int) -> list[str]:
        """The sessions of an address that nothing was added to for the longest time."""
        its = ((origin.began, upload_id) for upload_id, origin in self._unnoted() if origin.address == address)
        began = heapq.nsmallest(count, its)
        with self._backends.database.autocommit() as connection:
            noted = upload_sessions.oldest(connection, address, count=count).get()
            alone = [(since, text) for since, text in began if upload_sessions.find(connection, text).get() is None]
        return [upload_id for _, upload_id in sorted([*noted, *alone])]


def surplus(counts: Mapping[str, int], bounds: Bounds, most: int) -> dict[str, int]:
    """How many sessions each address or account loses, ``most`` in all.

    What it has beyond its bound, and the most have first. An account keeps its last one, whatever strangers have.
    """
    lost: dict[str, int] = {}
    excess = sum(counts.values()) - bounds.total
    most_first = [(-count, address) for address, count in counts.items()]
    heapq.heapify(most_first)
    while most_first and most:
        count, address = most_first[0]
        if excess <= 0 and -count <= bounds.per_address:
            break
        if -count <= (1 if address.startswith(ACCOUNT) else 0):
            heapq.heappop(most_first)
            continue
        heapq.heapreplace(most_first, (count + 1, address))
        lost[address] = lost.get(address, 0) + 1
        excess, most = excess - 1, most - 1
    return lost

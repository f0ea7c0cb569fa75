"""*Pulls*: when manifests were last pulled, for rules of retention; GET and HEAD both count (lifecycle.md, section 3).

No request waits for a write: a pull is noted in memory, once in ``pull_interval`` for each manifest of a repository,
and written down by a job. The latest pull that any process has counts. A process that is killed loses what it has not
written yet, which is FLUSH_SECONDS at most while the database answers.
"""

from __future__ import annotations

import threading
from time import perf_counter
from typing import TYPE_CHECKING, Final, NamedTuple

import structlog
from cachetools import LRUCache

from registry.database import manifests, stores
from registry.database.statement import batches

if TYPE_CHECKING:
    from collections.abc import Sequence

    from registry.database.transaction import Later
    from registry.images.backends import Backends

FLUSH_SECONDS = 30.0
"""Seconds for which a pull is kept in memory before it is written down."""
MOST: Final = 20_000
"""Manifests that a process remembers, and pulls that wait: of a kilobyte each at most."""
AT_ONCE: Final = 25
"""Rows of one transaction: it ends within milliseconds."""

log = structlog.get_logger(__name__)


class Pull:
    """A manifest of a repository, as it is pulled."""

    __slots__ = ("digest", "due", "repository")

    def __init__(self, repository: str, digest: str) -> None:
        self.repository = repository
        self.digest = digest
        self.due = 0.0
        """When a pull is to be noted again (``perf_counter``)."""


class _Waiting(NamedTuple):
    """A pull that is not written down."""

    at: float
    """Seconds since the epoch."""
    is_tried: bool = False


class Pulls:
    """Noted by the event loop's thread alone, and written by any other."""

    def __init__(self, backends: Backends) -> None:
        self._database = backends.database
        self._clock = backends.clock
        self._interval = backends.policy.pull_interval
        self._known: LRUCache[tuple[str, str], Pull] = LRUCache(MOST)
        self._lock = threading.Lock()
        self._waiting: dict[tuple[str, str], _Waiting] = {}
        self._has_missed = False
        """Whether a pull found no room: since when they are complete is moved to the next flush then."""
        self._is_begun = False
        self.wake = threading.Event()
        """Set when half of the room is used."""

    def pulled(self, repository: str, digest: str) -> Pull:
        """A manifest is pulled. Returns it, for ``note`` by a caller that answers from memory."""
        key = repository, digest
        pull = self._known.get(key)
        if pull is None:
            pull = self._known[key] = Pull(repository, digest)
        if pull.due <= perf_counter():
            self.note(pull)
        return pull

    def note(self, pull: Pull) -> None:
        """A manifest is pulled whose time is due."""
        pull.due = perf_counter() + self._interval
        with self._lock:
            self._keep((pull.repository, pull.digest), _Waiting(self._clock()))
            is_filling = len(self._waiting) > MOST // 2
        if is_filling:
            self.wake.set()

    def flush(self) -> int:
        """Write down the pulls that wait. Returns how many were.

        Raises DatabaseError; what was not written then waits for the next time.
        """
        self.wake.clear()
        with self._lock:
            waiting, self._waiting = self._waiting, {}
        left = dict(waiting)
        try:
            self._note_since()
            for page in batches(sorted(waiting.items())):
                for start in range(0, len(page), AT_ONCE):
                    part = page[start : start + AT_ONCE]
                    passed_over = self._write(part)
                    for key, _ in part:
                        del left[key]
                    left.update(passed_over)
        finally:
            with self._lock:
                for key, each in left.items():
                    self._keep(key, each)
        return len(waiting) - len(left)

    def _write(self, part: Sequence[tuple[tuple[str, str], _Waiting]]) -> dict[tuple[str, str], _Waiting]:
        """Returns those that are to be tried once more: a push may have held their rows."""
        noted: list[Later[bool]] = []
        with self._database.transaction(durable=False) as connection:
            for (repository, digest), each in part:
                noted.append(manifests.set_pulled(connection, repository, digest, at=each.at))
        return {
            key: each._replace(is_tried=True)
            for (key, each), is_noted in zip(part, noted, strict=True)
            if not (is_noted.get() or each.is_tried)
        }

    def _note_since(self) -> None:
        """Note since when no pull was missed, where that is not noted, or is not true any more."""
        if self._is_begun and not self._has_missed:
            return
        has_missed, self._has_missed = self._has_missed, False
        try:
            with self._database.transaction() as connection:
                note = stores.move if has_missed else stores.reach
                note(connection, stores.PULLS_SINCE, now=self._clock())
        except BaseException:
            self._has_missed = has_missed
            raise
        if has_missed:
            log.warning("more manifests were pulled at a time than are remembered", most=MOST)
        self._is_begun = True

    def _keep(self, key: tuple[str, str], each: _Waiting) -> None:
        """The lock is held. The later of two pulls stays."""
        before = self._waiting.get(key)
        if before is None and len(self._waiting) >= MOST:
            self._has_missed = True
        elif before is None or before.at < each.at:
            self._waiting[key] = each

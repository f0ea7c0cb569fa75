"""*Quarantine usage*: the bytes that a scrub, or a read, has taken out of service and that still take room.

Where each repository has its own blobs they are files below the quarantine. In a bucket such an object stays where it
is, and its row says that it is read no more: storage is asked for the size that it has.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

from registry.database.usage import lost
from registry.images.layout import QUARANTINE
from registry.storage.errors import PathNotFound, PathRefused

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from registry.database.usage.holders import Range
    from registry.images.backends import Backends

WINDOW: Final = 20_000
"""Ids of locations that one statement looks through."""


class QuarantineUsage:
    """Any thread. Raises DatabaseError, StorageError."""

    def __init__(self, backends: Backends) -> None:
        self._backends = backends
        self._store = backends.driver.name

    def of_repository(self, repository_id: int, name: str) -> int:
        """The bytes of what one repository has."""
        if self._backends.layout.per_repository:
            return self._listed(f"{QUARANTINE}/{name}/blobs", None)
        return self._asked(self._lost_members(repository_id))

    def within(self, wanted: Range | None) -> int:
        """The bytes of what the repositories of a range have, each once; of all there are without a range."""
        if self._backends.layout.per_repository:
            return self._listed(QUARANTINE, wanted)
        return self._asked(self._lost(wanted))

    def _listed(self, prefix: str, wanted: Range | None) -> int:
        sizes: dict[str, int] = {}
        for key, stat in self._backends.driver.list(prefix):
            name = key.removeprefix(f"{QUARANTINE}/").rpartition("/blobs/")[0]
            if wanted is None or wanted.low <= name < wanted.high:
                sizes[stat.etag] = stat.size
        return sum(sizes.values())

    def _asked(self, keys: Iterable[str]) -> int:
        total = 0
        for key in keys:
            with contextlib.suppress(PathNotFound, PathRefused):
                total += self._backends.driver.stat(key).size
        return total

    def _lost_members(self, repository_id: int) -> Iterator[str]:
        after: int | None = -1
        while after is not None:
            with self._backends.database.autocommit() as connection:
                keys, after = lost.of_repository(connection, repository_id, store=self._store, after=after).get()
            yield from keys

    def _lost(self, wanted: Range | None) -> Iterator[str]:
        with self._backends.database.autocommit() as connection:
            last = lost.last(connection).get()
        for after in range(0, last, WINDOW):
            with self._backends.database.autocommit() as connection:
                found = lost.within(connection, wanted, store=self._store, after=after, until=after + WINDOW)
            yield from found.get()

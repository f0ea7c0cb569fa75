"""*Range usage*: the figures of several repositories together: what they share is counted once."""

from __future__ import annotations

import contextlib
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING, Final

from registry.database import repositories
from registry.database.usage import blobs, holders
from registry.database.usage.holders import Range
from registry.maintenance.usage.figures import Figures
from registry.maintenance.usage.places import Inodes, Taken
from registry.maintenance.usage.quarantine_usage import QuarantineUsage
from registry.maintenance.usage.repository_usage import RepositoryUsage
from registry.oci.digest import Digest
from registry.storage.errors import PathNotFound, PathRefused

if TYPE_CHECKING:
    from collections.abc import Iterator

    from registry.database.usage.blobs import BlobUse
    from registry.database.usage.holders import LocationUse
    from registry.images.backends import Backends

ALL: Final = Range("", "~")
"""Every repository: a name has no character that comes after this one."""
NAMES: Final = 1000
"""Names of repositories that are read at a time."""


def below(prefix: str) -> Range:
    """The repositories whose names begin with the segments ``prefix`` and have more."""
    return Range(f"{prefix}/", f"{prefix}0")  # "0" is the character after "/"


class RangeUsage:
    """Any thread. Looks at every blob of the database, however few repositories there are in the range."""

    def __init__(self, backends: Backends, *, counts_freed: bool = True) -> None:
        """Without ``counts_freed`` nothing is asked of a disk but for what is in the trash, and ``frees`` is 0."""
        self._backends = backends
        self._counts_freed = counts_freed

    def names(self, within: Range, last: str = "") -> Iterator[str]:
        """The repositories of the range after ``last``, in byte order, without hidden ones. Raises DatabaseError."""
        last = max(within.low, last)
        while True:
            with self._backends.database.autocommit() as connection:
                page = repositories.listed(connection, last=last, count=NAMES).get()
            for name in page:
                if name >= within.high:
                    return
                yield name
            if len(page) < NAMES:
                return
            last = page[-1]

    def measure(self, within: Range) -> Figures:
        """The figures of the range; those of ALL also have what no repository has and is not removed yet.

        Raises DatabaseError, StorageError.
        """
        figures = self.stored(within)
        figures.quarantine = QuarantineUsage(self._backends).within(None if within == ALL else within)
        usage = RepositoryUsage(self._backends)
        for name in self.names(within):
            with self._backends.database.autocommit() as connection:
                row = repositories.find(connection, name).get()
            if row is not None:
                figures.logical += usage.logical(row.id)
        return figures

    def stored(self, within: Range) -> Figures:
        """As ``measure``, without what is logical and what is in quarantine."""
        figures, after = Figures(), -1
        while True:
            with self._backends.database.autocommit() as connection:
                page = holders.page(connection, within, store=self._backends.driver.name, after=after).get()
            used = [use for use in page if _is_within(use, within)]
            for use, taken in self._taken(within, used, after):
                figures.add(use, taken)
            if len(page) < blobs.PAGE:
                return figures
            after = page[-1].id

    def _taken(self, within: Range, used: list[BlobUse], after: int) -> Iterator[tuple[BlobUse, Taken]]:
        if not self._backends.layout.per_repository:
            for use in used:
                is_freed = self._counts_freed and not (use.elsewhere or use.in_trash_elsewhere)
                yield use, Taken(use.bytes, use.removable if is_freed else 0)
            return
        found = groupby(self._locations(after, used[-1].id) if used else (), attrgetter("blob_id"))
        current = next(found, None)
        for use in used:
            inodes = Inodes()
            while current is not None and current[0] <= use.id:
                if current[0] == use.id:
                    for location in current[1]:
                        if within.low <= location.key.rpartition("/blobs/")[0] < within.high:
                            inodes.add(location.key, location.size, location.etag)
                current = next(found, None)
            if use.in_trash:
                self._add_trash(within, use, inodes)
            yield use, inodes.taken(self._backends, counts_freed=self._counts_freed)

    def _locations(self, after: int, last: int) -> Iterator[LocationUse]:
        position = (after, 1 << 62)
        while True:
            with self._backends.database.autocommit() as connection:
                page = holders.locations(connection, store=self._backends.driver.name, after=position, last=last).get()
            yield from page
            if len(page) < blobs.PAGE:
                return
            position = page[-1].blob_id, page[-1].id

    def _add_trash(self, within: Range, use: BlobUse, inodes: Inodes) -> None:
        after = 0
        while True:
            with self._backends.database.autocommit() as connection:
                page = holders.trash(connection, within, use, after=after).get()
            for _, name in page:
                key = self._backends.layout.trash(name, Digest(use.digest))
                with contextlib.suppress(PathNotFound, PathRefused):
                    stat = self._backends.driver.stat(key)
                    inodes.add(key, stat.size, stat.etag)
            if len(page) < blobs.PAGE:
                return
            after = page[-1][0]


def _is_within(use: BlobUse, within: Range) -> bool:
    """Whether a blob counts for the range; what no repository has counts for all of them."""
    is_of_none = not (use.is_member or use.in_trash or use.elsewhere or use.in_trash_elsewhere)
    return use.is_member or use.in_trash or (is_of_none and within == ALL)

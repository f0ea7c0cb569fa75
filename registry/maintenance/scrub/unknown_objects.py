"""*Unknown objects*: what lies where blobs lie, and no row knows. A scrub counts them, and leaves them alone.

Tests: ``tests/maintenance/scrub/test_comparison.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from registry.database import blob_locations, repositories
from registry.database.collection import scrub

if TYPE_CHECKING:
    from collections.abc import Iterator

    from registry.images.backends import Backends
    from registry.maintenance.scrub.rate import Rate
    from registry.storage.driver import ObjectStat

PAGE: Final = 1000
"""Keys of rows, and names of repositories, that are read at a time."""
SETTLED_SECONDS: Final = 3600.0
"""Age from which an object without a row counts: a publisher writes the row after the bytes."""


class UnknownObjects:
    """For one thread. Listing and rows are gone through side by side, so that neither is held in memory."""

    def __init__(self, backends: Backends, rate: Rate) -> None:
        self._backends = backends
        self._rate = rate

    def prefixes(self) -> Iterator[str]:
        """The directories that have blobs and nothing else. Raises DatabaseError."""
        layout = self._backends.layout
        if not layout.per_repository:
            yield "storage/blobs"
            return
        page = [""]
        while page:
            with self._backends.database.autocommit() as connection:
                page = repositories.page(connection, last=page[-1], count=PAGE).get()
            yield from (f"{name}/blobs" for name in page)

    def below(self, prefix: str) -> Iterator[tuple[str, ObjectStat]]:
        """The objects below ``prefix`` that no row knows. Raises StorageError, DatabaseError, Interrupted."""
        noted = self._noted(prefix)
        row = next(noted, None)
        before = self._backends.clock() - SETTLED_SECONDS
        for number, (key, stat) in enumerate(self._backends.driver.list(prefix)):
            if number % PAGE == 0:
                self._rate.request()
            while row is not None and row < key:
                row = next(noted, None)
            if row != key and stat.modified <= before and not self._has_row(key):
                yield key, stat

    def _noted(self, prefix: str) -> Iterator[str]:
        after, end = f"{prefix}/", f"{prefix}0"  # "0" is the character after "/"
        while True:
            with self._backends.database.autocommit() as connection:
                page = scrub.keys(connection, store=self._backends.driver.name, after=after, end=end, count=PAGE).get()
            yield from page
            if len(page) < PAGE:
                return
            after = page[-1]

    def _has_row(self, key: str) -> bool:
        """Whether a row has come since the page was read."""
        with self._backends.database.autocommit() as connection:
            return blob_locations.find(connection, self._backends.driver.name, key).get() is not None

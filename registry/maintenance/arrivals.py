"""Arrivals: blobs that came although a row withholds them, as a release that knows no such rows lets them come (I12).

Until it is written down that they came, a database that is lost loses them.

Tests: ``tests/images/records/test_withholding.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import structlog

from registry.database import withheld
from registry.oci.digest import Digest

if TYPE_CHECKING:
    from registry.database.withheld import SeenRow
    from registry.images.registry import Registry

PAGE = 1000
"""Rows that one step looks at."""
_START: Final = (-1, "")

log = structlog.get_logger(__name__)


class Arrivals:
    """For one thread; goes on where it was, and begins again at the end. Several processes at once are harmless."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._after = _START

    def step(self) -> bool:
        """Look at the next page and write down what came. Whether there may be more of this round.

        Raises StorageError, DatabaseError, and Unavailable where no change may commit; the next round does it again.
        """
        with self._registry.backends.database.autocommit() as connection:
            page = withheld.page(connection, after=self._after, count=PAGE).get()
        for row in page:
            if row.has_come:
                self._write_down(row)
        is_last = len(page) < PAGE
        self._after = _START if is_last else (page[-1].repository_id, page[-1].digest)
        return not is_last

    def run(self) -> None:
        """One whole round. Raises as ``step`` does."""
        while self.step():
            pass

    def _write_down(self, seen: SeenRow) -> None:
        change = self._registry.blob_publication.write_down(seen.repository_id, Digest(seen.digest))
        if change is not None:
            log.info("what a release before this one took in is written down", repository=change.repository.name)

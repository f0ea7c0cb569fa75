"""*Names*: files go when their last name goes, so a run counts the names that it removes of each (proposal 0013).

Tests: ``tests/maintenance/collection/test_run.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry.storage.errors import PathNotFound

if TYPE_CHECKING:
    from registry.storage.driver import LinkedStat, StorageDriver


class Names:
    """The names of files that a run removes; only of files with several does it remember anything."""

    def __init__(self, driver: StorageDriver) -> None:
        self._driver = driver
        self._left: dict[str, int] = {}

    def look(self, key: str) -> LinkedStat | None:
        """The file behind a key, before its name goes; None if there is none."""
        try:
            return self._driver.stat_links(key)
        except PathNotFound:
            return None

    def free(self, file: LinkedStat) -> int:
        """Count a name that goes; the bytes that are free then."""
        if file.links <= 1:
            return file.stat.size
        left = self._left.get(file.stat.etag, file.links) - 1
        self._left[file.stat.etag] = left
        return 0 if left > 0 else file.stat.size

"""*Tier*: puts the directories of the settings in front of a driver.

Tests: ``tests/storage/test_factory.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry.storage.middleware.tiered.directory import CacheDirectory
from registry.storage.middleware.tiered.driver import TieredDriver
from registry.storage.middleware.tiered.observer import CacheObserver

if TYPE_CHECKING:
    from pathlib import Path

    from registry.config.cache_sections import CacheSettings
    from registry.storage.driver import StorageDriver
    from registry.storage.middleware.tiered.observer import CacheCounter, Tier


def with_tier(driver: StorageDriver, cache: CacheSettings, counter: CacheCounter | None) -> TieredDriver:
    """The driver behind the directories.

    Without ``counter`` it is that of a command, which serves no client: it makes no files, and removes what it deletes.
    """

    def directory(tier: Tier, path: Path | None) -> CacheDirectory | None:
        if path is None:
            return None
        observer = CacheObserver(tier, counter, log_requests=cache.log_requests)
        return CacheDirectory(path, cache.max_bytes, observer, fills=counter is not None)

    return TieredDriver(
        driver,
        blobs=directory("blob", cache.blob_directory),
        metadata=directory("metadata", cache.metadata_directory),
    )

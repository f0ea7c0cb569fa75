"""Factory: the drivers by the name that ``storage.driver`` has in the configuration.

A new driver is a folder beside this module and a row in DRIVERS. In ``registry/config/sections.py`` its name joins
those that ``storage.driver`` may have, and what has to be configured is a section ``storage.{name}``. Over an object
store, the driver builds on ``storage/object_store/``. Its row in ``tests/storage/drivers.py`` runs the contract suite
over it; nothing else names drivers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry.storage.driver import BlobLayout
from registry.storage.errors import StoreMisconfigured
from registry.storage.local.driver import LocalDriver
from registry.storage.middleware.metrics import MeasuredDriver

if TYPE_CHECKING:
    from collections.abc import Callable

    from registry.config.settings import Settings
    from registry.storage.driver import StorageDriver
    from registry.storage.middleware.metrics import Observe
    from registry.storage.middleware.tiered.observer import CacheCounter

    Open = Callable[[Settings, Observe | None], StorageDriver]


def _open_local(settings: Settings, observe: Observe | None) -> StorageDriver:
    storage = settings.storage
    driver = LocalDriver(storage.root_directory, fsync=storage.fsync, dedupe=storage.dedupe)
    return driver if observe is None else MeasuredDriver(driver, observe)


def _open_s3(settings: Settings, observe: Observe | None) -> StorageDriver:
    from registry.storage.s3.driver import S3Driver  # noqa: PLC0415 - a second to load, which other drivers need not wait for

    return _open_bucket(S3Driver, settings, observe)


def _open_gcs(settings: Settings, observe: Observe | None) -> StorageDriver:
    from registry.storage.gcs.driver import GcsDriver  # noqa: PLC0415 - likewise

    return _open_bucket(GcsDriver, settings, observe)


def _open_bucket(driver: Callable[..., StorageDriver], settings: Settings, observe: Observe | None) -> StorageDriver:
    """A driver that is made from its section, what its keys begin with, and the memory that there is for parts."""
    storage = settings.storage
    if storage.bucket is None:
        raise StoreMisconfigured("", f"storage.{storage.driver} is missing: it names the bucket")
    path = storage.root_directory.as_posix()
    root = "" if path == "." else path.strip("/")  # "." and "/" are the bucket itself
    spare = settings.limits.upload_buffers // storage.bucket.part_size // 4
    return driver(storage.bucket, root, spare_parts=spare, observe=observe)


DRIVERS: dict[str, Open] = {"local": _open_local, "s3": _open_s3, "gcs": _open_gcs}
"""How each driver is made from the settings."""


def open_driver(
    settings: Settings, observe: Observe | None = None, cache_counter: CacheCounter | None = None
) -> StorageDriver:
    """The driver that ``storage.driver`` names; ``observe`` hears of each request to its store.

    With ``cache_counter`` it serves clients, and keeps what they read where the settings say so.
    Raises StorageError when the store cannot be used at all.
    """
    driver = DRIVERS[settings.storage.driver](settings, observe)
    if not settings.cache.is_on or driver.capabilities.blob_layout is not BlobLayout.SHARED:
        return driver
    from registry.storage.middleware.tiered.tier import with_tier  # noqa: PLC0415 - what few installations need

    return with_tier(driver, settings.cache, cache_counter)

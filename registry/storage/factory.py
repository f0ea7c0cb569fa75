"""Factory: the drivers by the name that ``storage.driver`` has in the configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry.storage.errors import StoreMisconfigured
from registry.storage.local.driver import LocalDriver
from registry.storage.middleware.metrics import MeasuredDriver

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from registry.config import Settings
    from registry.storage.driver import StorageDriver
    from registry.storage.middleware.metrics import Observe

    Open = Callable[[Settings, Observe | None], StorageDriver]


def _open_local(settings: Settings, observe: Observe | None) -> StorageDriver:
    storage = settings.storage
    driver = LocalDriver(storage.root_directory, fsync=storage.fsync, dedupe=storage.dedupe)
    return driver if observe is None else MeasuredDriver(driver, observe)


def _open_s3(settings: Settings, observe: Observe | None) -> StorageDriver:
    from registry.storage.s3.driver import S3Driver  # noqa: PLC0415 - a second to load, which other drivers need not wait for

    s3 = settings.storage.s3
    if s3 is None:
        raise StoreMisconfigured("", "storage.s3 is missing: it names the bucket")
    spare = settings.limits.upload_buffers // s3.part_size // 4
    return S3Driver(s3, _prefix(settings), spare_parts=spare, observe=observe)


def _open_gcs(settings: Settings, observe: Observe | None) -> StorageDriver:
    from registry.storage.gcs.driver import GcsDriver  # noqa: PLC0415 - likewise

    gcs = settings.storage.gcs
    if gcs is None:
        raise StoreMisconfigured("", "storage.gcs is missing: it names the bucket")
    spare = settings.limits.upload_buffers // gcs.part_size // 4
    return GcsDriver(gcs, _prefix(settings), spare_parts=spare, observe=observe)


def _prefix(settings: Settings) -> str:
    """What keys begin with; "." and "/" are the bucket itself."""
    path = settings.storage.root_directory.as_posix()
    return "" if path == "." else path.strip("/")


DRIVERS: Mapping[str, Open] = {"local": _open_local, "s3": _open_s3, "gcs": _open_gcs}
"""How each driver is made from the settings; a new driver is a new row."""


def open_driver(settings: Settings, observe: Observe | None = None) -> StorageDriver:
    """The driver that ``storage.driver`` names; ``observe`` hears of each request to its store.

    Raises StorageError when the store cannot be used at all.
    """
    return DRIVERS[settings.storage.driver](settings, observe)

"""The drivers by the name that ``storage.driver`` has in the configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry.storage.local import LocalDriver

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from registry.config import StorageSettings
    from registry.storage.driver import StorageDriver


def _open_local(settings: StorageSettings) -> StorageDriver:
    return LocalDriver(settings.root_directory, fsync=settings.fsync, dedupe=settings.dedupe)


DRIVERS: Mapping[str, Callable[[StorageSettings], StorageDriver]] = {"local": _open_local}
"""How each driver is made from its settings; a new driver is a new row."""


def open_driver(settings: StorageSettings) -> StorageDriver:
    """The driver that ``settings.driver`` names. Raises StorageError when its store cannot be used at all."""
    return DRIVERS[settings.driver](settings)

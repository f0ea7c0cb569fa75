"""Bucket: the one that the settings name.

Tests: ``tests/migration/review/test_review.py``.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from registry.config.file import ConfigError, ConfigProblem
from registry.storage.errors import StoreMisconfigured
from registry.storage.factory import open_driver

if TYPE_CHECKING:
    from collections.abc import Iterator

    from registry.config.settings import Settings
    from registry.storage.driver import StorageDriver
    from registry.storage.middleware.metrics import Observe


@contextmanager
def opened(settings: Settings, observe: Observe) -> Iterator[StorageDriver]:
    """Its driver, for the block. Raises ConfigError for a driver that has no bucket, or one that cannot be used."""
    name = settings.storage.driver
    if name == "local":
        message = "a local directory already has the layout that Stowage serves: registry serve takes it as it is"
        raise ConfigError([ConfigProblem("storage.driver", message, "")])
    try:
        driver = open_driver(settings, observe)
        try:
            yield driver
        finally:
            driver.close()
    except StoreMisconfigured as error:
        raise ConfigError([ConfigProblem(f"storage.{name}", error.reason, "")]) from error


def bucket_of(settings: Settings) -> str:
    """Its name; empty for a driver that has none."""
    found = getattr(settings.storage, settings.storage.driver, None)
    return str(found.bucket) if found else ""


def root_of(settings: Settings) -> str:
    """What our keys begin with in the store; empty if nothing stands before them."""
    root = settings.storage.root_directory.as_posix()
    return "" if root == "." else root.strip("/")

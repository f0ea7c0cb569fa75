"""Trying a store before anything depends on it: can it be used as configured, and does it honour conditions?

Tests: ``tests/replicas/test_conditions.py``.
"""

from __future__ import annotations

import uuid
from contextlib import suppress
from typing import TYPE_CHECKING

from registry.storage.errors import AlreadyExists, PreconditionFailed, StorageError
from registry.storage.factory import open_driver

if TYPE_CHECKING:
    from registry.config.settings import Settings
    from registry.storage.driver import StorageDriver

ATTEMPTS = 2
"""Requests to a store that does not answer."""
CONNECT_SECONDS = 5.0
READ_SECONDS = 10.0


def probe(settings: Settings) -> bool:
    """Write and delete something small. Returns whether the store honours conditional writes.

    Raises StorageError when the store cannot be used; says so sooner than requests of clients would hear it.
    """
    driver = open_driver(_impatient(settings))
    try:
        driver.check()
        return honours_conditions(driver)
    finally:
        driver.close()


def honours_conditions(driver: StorageDriver) -> bool:
    """Whether ``if_absent`` and ``if_etag`` hold; some stores ignore them in silence. Raises StorageError."""
    key = f".probe/{uuid.uuid4().hex}"
    try:
        honoured = _are_honoured(driver, key)
    except BaseException:
        with suppress(StorageError):
            driver.delete([key])
        raise
    driver.delete([key])  # which the registry has to be allowed, too
    return honoured


def _are_honoured(driver: StorageDriver, key: str) -> bool:
    first = driver.write(key, b"1", if_absent=True)
    try:
        driver.write(key, b"22", if_absent=True)
    except AlreadyExists:
        pass
    else:
        return False
    second = driver.write(key, b"333", if_etag=first.etag)
    try:
        driver.write(key, b"4444", if_etag=first.etag)
    except PreconditionFailed:
        return driver.stat(key).is_same(second)
    return False


def _impatient(settings: Settings) -> Settings:
    storage = settings.storage
    section = storage.bucket
    if section is None:
        return settings
    hurried = section.model_copy(
        update={
            "attempts": min(section.attempts, ATTEMPTS),
            "connect_timeout": min(section.connect_timeout, CONNECT_SECONDS),
            "read_timeout": min(section.read_timeout, READ_SECONDS),
        }
    )
    return settings.model_copy(update={"storage": storage.model_copy(update={storage.driver: hurried})})

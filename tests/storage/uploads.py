"""What tests do with uploads of local drivers, which need no state."""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry.storage.driver import UploadState

if TYPE_CHECKING:
    from registry.storage.driver import ObjectStat, StorageDriver

NO_STATE = UploadState()


def publish(driver: StorageDriver, upload_id: str, key: str) -> ObjectStat:
    """Make the bytes of an upload an object, as its last request does."""
    with driver.open_upload(upload_id) as writer:
        return writer.publish(key)

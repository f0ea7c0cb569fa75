"""*Expiry* of fetches that no process goes on with: their rows, then the bytes that were kept.

Tests: ``tests/images/fetching/test_hub.py``.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from registry.database.mirrors import fetches
from registry.storage.driver import UploadState
from registry.storage.errors import StorageError

if TYPE_CHECKING:
    from registry.images.backends import Backends


def expire(backends: Backends, *, seconds: float) -> int:
    """Forget what no process has touched for so long, or since the machine was started. Returns how many.

    The row goes first: from then on no process can rely on the bytes. Those that are left by a kill in between are an
    upload that no row knows, which expires as any.
    """
    count = 0
    with backends.database.autocommit() as connection:
        rows = fetches.expired(connection, seconds=seconds).get()
    for row in rows:
        with backends.database.transaction() as connection:
            is_gone = fetches.remove(connection, row.id, epoch=row.epoch)
        if is_gone and row.upload_id:
            with contextlib.suppress(StorageError):
                backends.driver.discard_upload(row.upload_id, UploadState(row.note, row.tail or b""))
        count += is_gone
    return count

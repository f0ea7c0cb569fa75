"""A session *ends* without a blob: its client cancels it, a newer one needs its room, or no client goes on with it.

Tests: ``tests/images/uploads/test_uploads.py``, ``tests/images/test_omissions.py``.
"""

from __future__ import annotations

import contextlib
from functools import partial
from typing import TYPE_CHECKING

import structlog

from registry.database import upload_sessions
from registry.images.omissions import Kind, Omission, Source
from registry.images.uploads.blob_writer import upload_state
from registry.images.uploads.session_ids import origin_of
from registry.oci.errors import BlobUploadBusy, BlobUploadUnknown
from registry.storage.errors import PathNotFound, PathRefused, UploadBusy

if TYPE_CHECKING:
    from collections.abc import Callable

    from registry.database.upload_sessions import SessionRow
    from registry.images.backends import Backends
    from registry.images.uploads.blob_writer import HashCache
    from registry.storage.driver import StorageDriver, UploadEntry, UploadWriter

log = structlog.get_logger(__name__)


class UploadEndings:
    """Any thread, any process."""

    def __init__(self, backends: Backends, hashes: HashCache) -> None:
        self._backends = backends
        self._hashes = hashes

    def end(self, row: SessionRow) -> None:
        """End a session to which the caller has the right, and free its bytes."""
        if row.is_noted:
            with self._backends.database.transaction() as connection:
                upload_sessions.remove(connection, row.id)
        self._hashes.forget(row.id)
        self._backends.driver.discard_upload(row.id, upload_state(row))

    def end_idle(self, upload_id: str) -> bool:
        """End a session of any repository. False if it is being written to, or has ended already."""
        with self._backends.database.autocommit() as connection:
            seen = upload_sessions.find(connection, upload_id).get()
        return self._end_unless_moved(upload_id, seen)

    def expire(self) -> int:
        """End the sessions that no client continued, and free what storage holds of sessions that no row knows.

        Returns how many. An upload that is being written to is not touched, and one that storage refuses to free stops
        the work on no other.
        """
        before, freed = self._backends.clock() - self._backends.policy.upload_expiry, 0
        with self._backends.database.autocommit() as connection:
            expired = upload_sessions.expired(connection, before=before).get()
        refused: list[Omission] = []
        for row in expired:
            freed += _unless_refused(refused, row.id, partial(self._end_unless_moved, row.id, row))
        for entry in self._backends.driver.uploads():
            if _since(entry) < before:
                freed += _unless_refused(refused, entry.upload_id, partial(self._free_unknown, entry.upload_id))
        self._backends.omissions.note(Source.UPLOADS, "uploads", refused)
        if freed:
            log.info("abandoned uploads removed", uploads=freed)
        return freed

    def _end_unless_moved(self, upload_id: str, seen: SessionRow | None) -> bool:
        """As ``end_idle``; False as well if bytes came since its row was ``seen``, or was seen to be missing."""
        try:
            writer = take_upload(self._backends.driver, upload_id)
        except BlobUploadBusy:
            return False
        except BlobUploadUnknown:
            writer = None
        with contextlib.closing(writer) if writer is not None else contextlib.nullcontext():
            with self._backends.database.autocommit() as connection:
                row = upload_sessions.find(connection, upload_id).get() or seen
            if row != seen:
                return False
            if row is not None:
                self.end(row)
            elif writer is not None:
                self._backends.driver.discard_upload(upload_id)
            return row is not None or writer is not None

    def _free_unknown(self, upload_id: str) -> bool:
        """Free what storage holds of an upload, unless there is a row of it."""
        with self._backends.database.autocommit() as connection:
            if upload_sessions.find(connection, upload_id).get() is not None:
                return False
        if origin_of(upload_id) is not None:
            return self._end_unless_moved(upload_id, None)
        self._backends.driver.discard_upload(upload_id)
        return True


def take_upload(driver: StorageDriver, upload_id: str) -> UploadWriter:
    """Take the right to add bytes to an upload. Raises BlobUploadUnknown, BlobUploadBusy."""
    try:
        return driver.open_upload(upload_id)
    except PathNotFound as error:
        raise BlobUploadUnknown from error
    except UploadBusy as error:
        raise BlobUploadBusy(headers={"Retry-After": "1"}) from error


def _unless_refused(refused: list[Omission], upload_id: str, free: Callable[[], bool]) -> bool:
    """Whether an upload was freed; one that storage refuses to free is noted."""
    try:
        return free()
    except PathRefused as error:
        refused.append(Omission(Kind.UPLOAD, "uploads", upload_id, error.reason))
        return False


def _since(entry: UploadEntry) -> float:
    """When an upload that no row knows was last written to, or began, as far as storage says."""
    origin = origin_of(entry.upload_id)
    return origin.began if origin is not None else entry.modified

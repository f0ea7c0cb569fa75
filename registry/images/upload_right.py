"""The right of one writer at a time to an upload, where the store does not give it: a lease in the database."""

from __future__ import annotations

import uuid
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Self

from registry.database import leases as lease_rows
from registry.database.errors import DatabaseError
from registry.storage.errors import UploadBusy

if TYPE_CHECKING:
    from registry.images.stores import Stores
    from registry.storage.driver import ObjectReader, ObjectStat, UploadState, UploadWriter

SECONDS = 30.0
"""How long a killed writer keeps others out."""


class LeasedWriter:
    """See UploadWriter. Whoever lost his lease, being silent for too long, loses what he has not committed."""

    def __init__(self, stores: Stores, upload_id: str) -> None:
        """Take the right. Raises UploadBusy, at once."""
        self._stores = stores
        self._name = f"upload/{upload_id}"
        self._holder = f"{stores.holder}:{uuid.uuid4().hex}"
        self._renewed = monotonic()
        if not self._take():
            raise UploadBusy(upload_id)
        try:
            self._inner: UploadWriter = stores.driver.open_upload(upload_id)
        except BaseException:
            self._free()
            raise

    def resume(self, state: UploadState, *, offset: int, key: str | None = None) -> None:
        """See UploadWriter."""
        self._inner.resume(state, offset=offset, key=key)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """See UploadWriter."""
        now = monotonic()
        if now - self._renewed > SECONDS / 3:
            self._renewed = now
            with suppress(DatabaseError):  # the commit of what is added says so
                self._take()
        self._inner.write(data)

    def flush(self) -> UploadState:
        """See UploadWriter."""
        return self._inner.flush()

    def read(self) -> ObjectReader:
        """See UploadWriter."""
        return self._inner.read()

    def publish(self, key: str, *, replace: bool = False) -> ObjectStat:
        """See UploadWriter."""
        return self._inner.publish(key, replace=replace)

    def close(self) -> None:
        """See UploadWriter."""
        self._inner.close()
        self._free()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _take(self) -> bool:
        now = self._stores.clock()
        with self._stores.database.write() as connection:
            return lease_rows.take(connection, self._name, self._holder, now=now, deadline=now + SECONDS)

    def _free(self) -> None:
        with suppress(DatabaseError), self._stores.database.write() as connection:
            lease_rows.free(connection, self._name, self._holder)

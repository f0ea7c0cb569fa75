"""The right of one writer at a time to an upload, where the store does not give it: a lease in the database."""

from __future__ import annotations

import uuid
from contextlib import suppress
from time import monotonic, sleep
from typing import TYPE_CHECKING, Self

from registry.database import leases as lease_rows
from registry.database import sessions as session_rows
from registry.database.errors import DatabaseError
from registry.storage.errors import UploadBusy, UploadNotKept

if TYPE_CHECKING:
    from registry.images.stores import Stores
    from registry.storage.driver import ObjectReader, ObjectStat, UploadState, UploadWriter

SECONDS = 5.0
"""How long a killed writer keeps others out. One that is only silent for so long keeps the right until another asks."""
RENEWAL = 1.0
"""Seconds between two renewals of the right, while bytes come."""
POLL = 0.1
"""Seconds between two looks of who waits for the right."""


class LeasedWriter:
    """See UploadWriter. Whoever lost his lease, being silent for too long, loses what he has not committed.

    He is told so, by UploadBusy, before he sends the store anything that could be taken for the other's.
    """

    def __init__(self, stores: Stores, upload_id: str) -> None:
        """Take the right; waits for who is about to end, or was killed. Raises UploadBusy where bytes come."""
        self._stores = stores
        self._upload_id = upload_id
        self._name = f"upload/{upload_id}"
        self._holder = f"{stores.holder}:{uuid.uuid4().hex}"
        self._renewed = monotonic()
        self._lost = False
        self._wait_and_take()
        try:
            self._inner: UploadWriter = stores.driver.open_upload(upload_id)
        except BaseException:
            self._free()
            raise

    def resume(self, state: UploadState, *, offset: int, key: str | None = None) -> None:
        """See UploadWriter."""
        self._inner.resume(state, offset=offset, key=key)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """See UploadWriter. Raises UploadBusy when the right is another's now."""
        self._renew()
        self._inner.write(data)

    def flush(self) -> UploadState:
        """See UploadWriter."""
        if self._lost:
            raise UploadNotKept(self._name, "another request has taken the upload over")
        return self._inner.flush()

    def read(self) -> ObjectReader:
        """See UploadWriter."""
        return self._inner.read()

    def publish(self, key: str, *, replace: bool = False) -> ObjectStat:
        """See UploadWriter. Raises UploadBusy when the right is another's now."""
        self._renew()
        return self._inner.publish(key, replace=replace)

    def close(self) -> None:
        """See UploadWriter."""
        self._inner.close()
        self._free()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _wait_and_take(self) -> None:
        """Take the right when it is given back or has run out; who renews it meanwhile keeps it.

        So a request that a proxy sends again, because a replica was killed, is answered as if nothing had been.
        """
        first, until = None, monotonic() + SECONDS + RENEWAL
        while not self._take():
            with self._stores.database.look() as connection:
                deadline = lease_rows.deadline_of(connection, self._name)
            first = first or deadline
            if (deadline is not None and deadline != first) or monotonic() > until:
                raise UploadBusy(self._name)
            sleep(POLL)
        self._renewed = monotonic()

    def _renew(self) -> None:
        now = monotonic()
        if now - self._renewed > RENEWAL:
            self._renewed = now
            with suppress(DatabaseError):  # the commit of what is added says so
                wall = self._stores.clock()
                with self._stores.database.write() as connection:
                    self._lost = not lease_rows.renew(connection, self._name, self._holder, deadline=wall + SECONDS)
                    session_rows.touch(connection, self._upload_id, now=wall)  # else a long one would expire
        if self._lost:
            raise UploadBusy(self._name, "another request has taken the upload over")

    def _take(self) -> bool:
        now = self._stores.clock()
        with self._stores.database.write() as connection:
            return lease_rows.take(connection, self._name, self._holder, now=now, deadline=now + SECONDS)

    def _free(self) -> None:
        with suppress(DatabaseError), self._stores.database.write() as connection:
            lease_rows.free(connection, self._name, self._holder)

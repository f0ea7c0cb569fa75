"""Upload sessions: begun on one worker, continued and closed on any (spec, "Pushing a blob").

Bytes are hashed once, as they arrive. Each writer commits (offset, digest of all bytes so far) to the session's row,
so that the closing request compares and reads nothing; only what a process continued without having seen the beginning,
or a closing digest of another algorithm, is read once more.
"""

from __future__ import annotations

import uuid
from functools import partial
from typing import TYPE_CHECKING

import structlog

from registry.database import repositories as repository_rows
from registry.database import upload_sessions as session_rows
from registry.images.blob_publication import NewBlob
from registry.images.blob_writer import BlobWriter, HashCache, Prefetched, out_of_order, upload_state
from registry.images.omissions import Kind, Omission, Source
from registry.images.upload_room import UploadRoom, crowd_of
from registry.oci.digest import Digest
from registry.oci.errors import (
    BlobUploadBusy,
    BlobUploadUnknown,
    DigestInvalid,
    RegistryError,
    Unavailable,
)
from registry.storage.errors import (
    PathNotFound,
    PathRefused,
    StorageError,
    UploadBusy,
    UploadOffsetMismatch,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from registry.database.transaction import Transaction
    from registry.database.upload_sessions import SessionRow
    from registry.images.backends import Backends
    from registry.images.blob_publication import BlobPublication, Keep, Write
    from registry.images.repositories import Repositories

DEFAULT_ALGORITHM = "sha256"
"""Hashed while receiving when the client has not said what it will close with."""

log = structlog.get_logger(__name__)


class Uploads:
    """Any thread, any process."""

    def __init__(self, backends: Backends, repositories: Repositories, publication: BlobPublication) -> None:
        self._backends = backends
        self._repositories = repositories
        self._publication = publication
        self._hashes = HashCache()
        self._room = UploadRoom(backends, self._expire)

    def start(self, name: str, algorithm: str = DEFAULT_ALGORITHM, *, address: str | None = None) -> str:
        """Begin a session in a repository, which need not exist. Returns its id.

        Where ``address``, that of the client, or all have more than their bound, one that nothing is written to ends.
        Raises DigestInvalid (algorithm), and Unavailable where no change may commit: it would be received in vain.
        """
        upload_id = str(uuid.uuid4())
        empty = Digest.of(b"", algorithm)
        self._repositories.look_for_migrations()
        state = self._backends.driver.start_upload(upload_id)
        with self._backends.database.transaction(durable=False) as connection:
            is_open = self._repositories.require_open(connection)
            session_rows.add(
                connection,
                upload_id,
                name,
                algorithm=algorithm,
                digest=empty,
                note=state.note,
                now=self._backends.clock(),
                address=crowd_of(address),
            )
        try:
            is_open.get()  # after the commit, for which it would be waited otherwise
        except Unavailable:
            with self._backends.database.transaction() as connection:
                session_rows.remove(connection, upload_id)
            self._backends.driver.discard_upload(upload_id, state)
            raise
        self._room.note_begun()
        return upload_id

    def find(self, name: str, upload_id: str) -> SessionRow:
        """The session. Raises BlobUploadUnknown, also for a session of another repository."""
        with self._backends.database.autocommit() as connection:
            return _of_repository(session_rows.find(connection, upload_id).get(), name)

    def open(
        self, name: str, upload_id: str, start: int | None, digest: Digest | None = None, *, at_once: bool = False
    ) -> BlobWriter:
        """Take the right to add bytes, at ``start`` when the client says where it is.

        ``digest`` of the whole, where the client has said it already: a store may then gather the bytes in their place.
        ``at_once``: all bytes are here, and ``finish`` follows.
        Raises BlobUploadUnknown, BlobUploadBusy, RangeInvalid (out of order: the session lives on).
        """
        try:
            writer = self._backends.driver.open_upload(upload_id)
        except PathNotFound as error:
            raise BlobUploadUnknown from error
        except UploadBusy as error:
            raise BlobUploadBusy(headers={"Retry-After": "1"}) from error
        try:
            row, ahead = self._look(name, upload_id, digest if at_once else None)  # under the right: it is the last
            if start == 0 and row.offset == 1:
                row = self._begin_again(row)
            _check_start(row, start)
            return BlobWriter(self._backends, self._hashes, row, writer, digest, ahead)
        except (UploadOffsetMismatch, PathNotFound) as error:
            writer.close()
            raise BlobUploadUnknown("bytes of this upload were lost; start a new one") from error
        except BaseException:
            writer.close()
            raise

    def _look(self, name: str, upload_id: str, digest: Digest | None) -> tuple[SessionRow, Prefetched | None]:
        """As ``find``; with ``digest`` also what is looked at when it is published."""
        if digest is None:
            return self.find(name, upload_id), None
        with self._backends.database.autocommit() as connection:
            session = session_rows.find(connection, upload_id)
            repository = repository_rows.find(connection, name)
            blob = self._publication.look(connection, name, digest)
            row = _of_repository(session.get(), name)
        return row, Prefetched(repository.get(), blob.get())

    def _begin_again(self, row: SessionRow) -> SessionRow:
        """``Range: 0-0`` says one byte as well as none (spec): a client that took it for none starts anew."""
        empty = Digest.of(b"", row.algorithm)
        with self._backends.database.transaction() as connection:
            session_rows.advance(
                connection,
                row.id,
                before=row.offset,
                offset=0,
                digest=empty,
                note=row.note,
                tail=row.tail or b"",
                now=self._backends.clock(),
            )
        return row._replace(offset=0, digest=empty)

    def finish(self, writer: BlobWriter, digest: Digest) -> None:
        """Publish what was uploaded under ``digest`` (I1) and end the session.

        Raises DigestInvalid when the digest is another; the session is then gone, since nothing can mend it.
        """
        row = writer.row
        known = writer.digest(digest.algorithm)
        if known != digest:
            writer.forget()
            self._end(row)
            raise DigestInvalid(f"the bytes have the digest {known}, not {digest}", detail={"received": str(known)})
        ahead = writer.ahead
        repository = self._repositories.ensure(row.repository, ahead.repository if ahead is not None else None)

        def end_session(connection: Transaction, _keep: Keep) -> Write:
            return lambda _blob_id: session_rows.remove(connection, row.id)

        blob = NewBlob(repository, digest, writer.offset, writer.publish, end_session)
        try:
            change = self._publication.publish(blob, found=ahead.blob if ahead is not None else None)
        except BaseException:
            writer.commit()  # the client may close again, without sending them once more
            raise
        writer.forget()
        try:
            self._backends.driver.discard_upload(row.id, upload_state(writer.row))
        except StorageError as error:  # the blob is there, and expiry frees what is left
            log.warning("a finished upload could not be freed yet", upload=row.id, reason=str(error))
        self._publication.record(change)

    def cancel(self, name: str, upload_id: str) -> None:
        """End a session without a blob (spec, end-14). Raises BlobUploadUnknown, BlobUploadBusy."""
        with self.open(name, upload_id, None) as writer:
            writer.forget()
            self._end(writer.row)

    def expire(self) -> int:
        """End the sessions that no client continued, and free what storage holds of sessions that no row knows.

        Returns how many. An upload that is being written to is not touched, and one that storage refuses to free stops
        the work on no other.
        """
        before, freed = self._backends.clock() - self._backends.policy.upload_expiry, 0
        with self._backends.database.autocommit() as connection:
            expired = session_rows.expired(connection, before=before).get()
        refused: list[Omission] = []
        for row in expired:
            freed += _unless_refused(refused, row.id, partial(self._expire, row))
        for entry in self._backends.driver.uploads():
            if entry.modified < before:
                freed += _unless_refused(refused, entry.upload_id, partial(self._free_unknown, entry.upload_id))
        self._backends.omissions.note(Source.UPLOADS, "uploads", refused)
        if freed:
            log.info("abandoned uploads removed", uploads=freed)
        return freed

    @property
    def running_hashes(self) -> int:
        """Running hashes that this process keeps: those of sessions that go on."""
        return self._hashes.count()

    def count(self) -> int:
        """Open sessions."""
        with self._backends.database.autocommit() as connection:
            return session_rows.count(connection).get()

    def _expire(self, row: SessionRow) -> bool:
        try:
            self.cancel(row.repository, row.id)
        except BlobUploadUnknown:
            self._end(row)
        except RegistryError:
            return False
        return True

    def _free_unknown(self, upload_id: str) -> bool:
        """Free what storage holds of an upload, unless there is a row of it."""
        with self._backends.database.autocommit() as connection:
            if session_rows.find(connection, upload_id).get() is not None:
                return False
        self._backends.driver.discard_upload(upload_id)
        return True

    def _end(self, row: SessionRow) -> None:
        with self._backends.database.transaction() as connection:
            session_rows.remove(connection, row.id)
        self._hashes.forget(row.id)
        self._backends.driver.discard_upload(row.id, upload_state(row))


def _unless_refused(refused: list[Omission], upload_id: str, free: Callable[[], bool]) -> bool:
    """Whether an upload was freed; one that storage refuses to free is noted."""
    try:
        return free()
    except PathRefused as error:
        refused.append(Omission(Kind.UPLOAD, "uploads", upload_id, error.reason))
        return False


def _of_repository(row: SessionRow | None, name: str) -> SessionRow:
    """Raises BlobUploadUnknown."""
    if row is None or row.repository != name:
        raise BlobUploadUnknown
    return row


def _check_start(row: SessionRow, start: int | None) -> None:
    """Raises RangeInvalid when a chunk does not begin where its upload ends (spec, "Pushing a blob in chunks")."""
    if start is not None and start != row.offset:
        raise out_of_order(start, row.offset)

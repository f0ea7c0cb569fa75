"""Upload sessions: begun on one worker, continued and closed on any (spec, "Pushing a blob").

Bytes are hashed once, as they arrive. Each writer commits (offset, digest of all bytes so far) to the session's row,
so that the closing request compares and reads nothing; only what a process continued without having seen the beginning,
or a closing digest of another algorithm, is read once more.
"""

from __future__ import annotations

import contextlib
import uuid
from functools import partial
from typing import TYPE_CHECKING

import structlog

from registry.database import repositories, upload_sessions
from registry.database.upload_sessions import SessionRow
from registry.images.blob_publication import NewBlob
from registry.images.blob_writer import BlobWriter, HashCache, Prefetched, out_of_order, upload_state
from registry.images.omissions import Kind, Omission, Source
from registry.images.session_ids import RESOLUTION, SessionId, crowd_of, noted, origin_of
from registry.images.upload_room import UploadRoom
from registry.oci.digest import Digest
from registry.oci.errors import (
    BlobUploadBusy,
    BlobUploadUnknown,
    DigestInvalid,
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
    from registry.images.backends import Backends
    from registry.images.blob_publication import BlobPublication, Keep, Write
    from registry.images.repositories import Repositories
    from registry.storage.driver import UploadEntry, UploadWriter

DEFAULT_ALGORITHM = "sha256"
"""Hashed while receiving when the client has not said what it will close with."""

log = structlog.get_logger(__name__)


class PerhapsClosed(DigestInvalid):
    """The bytes are not those of the digest, whose blob has come since the session began: it may be closed already."""


class Uploads:
    """Any thread, any process."""

    def __init__(self, backends: Backends, repositories: Repositories, publication: BlobPublication) -> None:
        self._backends = backends
        self._repositories = repositories
        self._publication = publication
        self._hashes = HashCache()
        self._room = UploadRoom(backends, self._end_idle)

    def start(self, name: str, algorithm: str = DEFAULT_ALGORITHM, *, address: str | None = None) -> str:
        """Begin a session in a repository, which need not exist. Returns its id.

        Where ``address``, that of the client, or all have more than their bound, one that nothing is written to ends.
        Raises DigestInvalid (algorithm), and Unavailable where no change may commit: it would be received in vain.
        """
        self._repositories.look_for_migrations()
        if self._backends.driver.capabilities.exclusive_uploads:
            upload_id = self._start_alone(name, algorithm, address)
        else:
            upload_id = self._start_noted(name, algorithm, address)
        self._room.note_begun()
        return upload_id

    def _start_alone(self, name: str, algorithm: str, address: str | None) -> str:
        """A session that the store alone knows of: a row follows when bytes are kept between two requests."""
        session = SessionId.make(name, algorithm, address, self._backends.clock())
        if not self._backends.layout.per_repository:
            with self._backends.database.autocommit() as connection:
                self._repositories.require_open(connection).get()
        self._backends.driver.start_upload(session.unique)
        return session.text

    def _start_noted(self, name: str, algorithm: str, address: str | None) -> str:
        upload_id = str(uuid.uuid4())
        empty = Digest.of(b"", algorithm)
        state = self._backends.driver.start_upload(upload_id)
        with self._backends.database.transaction(durable=False) as connection:
            is_open = self._repositories.require_open(connection)
            upload_sessions.add(
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
                upload_sessions.remove(connection, upload_id)
            self._backends.driver.discard_upload(upload_id, state)
            raise
        return upload_id

    def find(self, name: str, upload_id: str) -> SessionRow:
        """The session. Raises BlobUploadUnknown, also for a session of another repository."""
        alone = _alone(name, upload_id)
        with self._backends.database.autocommit() as connection:
            row = _of_repository(upload_sessions.find(connection, noted(upload_id)).get() or alone, name)
        if not row.is_noted and not self._backends.driver.has_upload(row.id):
            raise BlobUploadUnknown
        return row

    def open(
        self, name: str, upload_id: str, start: int | None, digest: Digest | None = None, *, at_once: bool = False
    ) -> BlobWriter:
        """Take the right to add bytes, at ``start`` when the client says where it is.

        ``digest`` of the whole, where the client has said it already: a store may then gather the bytes in their place.
        ``at_once``: all bytes are here, and ``finish`` follows.
        Raises BlobUploadUnknown, BlobUploadBusy, RangeInvalid (out of order: the session lives on).
        """
        alone = _alone(name, upload_id)
        writer = self._open(noted(upload_id))
        try:
            # Under the right: the row is the last.
            row, ahead = self._look(name, noted(upload_id), alone, digest if at_once else None)
            if start == 0 and row.offset == 1:
                row = self._begin_again(row)
            self._check_start(row, start, digest)
            return BlobWriter(self._backends, self._hashes, row, writer, digest, ahead)
        except (UploadOffsetMismatch, PathNotFound) as error:
            writer.close()
            raise BlobUploadUnknown("bytes of this upload were lost; start a new one") from error
        except BaseException:
            writer.close()
            raise

    def _has_ended(self, row: SessionRow, digest: Digest) -> bool:
        """Whether a session without a row has one no more: it was closed, and a crash left its file.

        What it would be closed with has come since the millisecond in which it began. Asked about bytes that are not
        what was promised: a client that sends the last of them once more, because it heard no answer.
        """
        origin = None if row.is_noted else origin_of(row.id)
        if origin is None:
            return False
        with self._backends.database.autocommit() as connection:
            _, there = self._publication.look(connection, row.repository, digest).get()
        return there is not None and there.verified_at is not None and there.verified_at > origin.began + RESOLUTION

    def _check_start(self, row: SessionRow, start: int | None, digest: Digest | None) -> None:
        """Raises RangeInvalid when a chunk does not begin where its upload ends (spec, "Pushing a blob in chunks").

        Raises BlobUploadUnknown where that is because it has ended.
        """
        if start is None or start == row.offset:
            return
        if digest is not None and self._has_ended(row, digest):
            raise BlobUploadUnknown
        raise out_of_order(start, row.offset)

    def _open(self, upload_id: str) -> UploadWriter:
        """Raises BlobUploadUnknown, BlobUploadBusy."""
        try:
            return self._backends.driver.open_upload(upload_id)
        except PathNotFound as error:
            raise BlobUploadUnknown from error
        except UploadBusy as error:
            raise BlobUploadBusy(headers={"Retry-After": "1"}) from error

    def _look(
        self, name: str, upload_id: str, alone: SessionRow | None, digest: Digest | None
    ) -> tuple[SessionRow, Prefetched | None]:
        """The session, else ``alone``; with ``digest`` also what is looked at when it is published."""
        with self._backends.database.autocommit() as connection:
            session = upload_sessions.find(connection, upload_id)
            if digest is None:
                return _of_repository(session.get() or alone, name), None
            repository = repositories.find(connection, name)
            blob = self._publication.look(connection, name, digest)
            row = _of_repository(session.get() or alone, name)
        return row, Prefetched(repository.get(), blob.get())

    def _begin_again(self, row: SessionRow) -> SessionRow:
        """``Range: 0-0`` says one byte as well as none (spec): a client that took it for none starts anew."""
        empty = Digest.of(b"", row.algorithm)
        with self._backends.database.transaction() as connection:
            upload_sessions.advance(
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

        Raises DigestInvalid when the digest is another; the session is then gone, since nothing can mend it. Raises
        PerhapsClosed where that may be because it was gone before.
        """
        row = writer.row
        known = writer.digest(digest.algorithm)
        if known != digest:
            writer.forget()
            self._end(row)
            kind = PerhapsClosed if self._has_ended(row, digest) else DigestInvalid
            raise kind(f"the bytes have the digest {known}, not {digest}", detail={"received": str(known)})
        ahead = writer.ahead
        repository = self._repositories.ensure(row.repository, ahead.repository if ahead is not None else None)

        def end_session(connection: Transaction, _keep: Keep) -> Write:
            return lambda _blob_id: upload_sessions.remove(connection, row.id) if row.is_noted else None

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

    @property
    def running_hashes(self) -> int:
        """Running hashes that this process keeps: those of sessions that go on."""
        return self._hashes.count()

    def count(self) -> int:
        """Open sessions."""
        return sum(self._room.counts().values())

    def _end_idle(self, upload_id: str) -> bool:
        """End a session of any repository. False if it is being written to, or has ended already."""
        with self._backends.database.autocommit() as connection:
            seen = upload_sessions.find(connection, upload_id).get()
        return self._end_unless_moved(upload_id, seen)

    def _end_unless_moved(self, upload_id: str, seen: SessionRow | None) -> bool:
        """As ``_end_idle``; False as well if bytes came since its row was ``seen``, or was seen to be missing."""
        try:
            writer = self._open(upload_id)
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
                self._end(row)
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

    def _end(self, row: SessionRow) -> None:
        if row.is_noted:
            with self._backends.database.transaction() as connection:
                upload_sessions.remove(connection, row.id)
        self._hashes.forget(row.id)
        self._backends.driver.discard_upload(row.id, upload_state(row))


def _unless_refused(refused: list[Omission], upload_id: str, free: Callable[[], bool]) -> bool:
    """Whether an upload was freed; one that storage refuses to free is noted."""
    try:
        return free()
    except PathRefused as error:
        refused.append(Omission(Kind.UPLOAD, "uploads", upload_id, error.reason))
        return False


def _alone(name: str, upload_id: str) -> SessionRow | None:
    """What the id of a session says that may have no row; None where only a row can tell.

    Raises BlobUploadUnknown for one of another repository.
    """
    session = SessionId.parse(upload_id)
    if session is None:
        return None
    algorithm = session.algorithm_in(name)
    if algorithm is None:
        raise BlobUploadUnknown
    return SessionRow(session.unique, name, 0, algorithm, Digest.of(b"", algorithm), "", None, is_noted=False)


def _since(entry: UploadEntry) -> float:
    """When an upload that no row knows was last written to, or began, as far as storage says."""
    origin = origin_of(entry.upload_id)
    return origin.began if origin is not None else entry.modified


def _of_repository(row: SessionRow | None, name: str) -> SessionRow:
    """Raises BlobUploadUnknown."""
    if row is None or row.repository != name:
        raise BlobUploadUnknown
    return row

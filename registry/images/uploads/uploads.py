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

from registry.database import publications, repositories, upload_sessions
from registry.database.upload_sessions import SessionRow
from registry.images.publication.new_blob import Look, NewBlob
from registry.images.quotas.allowance import Allowance
from registry.images.uploads.blob_writer import BlobWriter, HashCache, Prefetched, out_of_order, upload_state
from registry.images.uploads.session_ids import RESOLUTION, SessionId, crowd_of, noted, origin_of
from registry.images.uploads.upload_endings import UploadEndings, take_upload
from registry.images.uploads.upload_room import UploadRoom
from registry.oci.digest import digest_of_nothing
from registry.oci.errors import (
    BlobUploadUnknown,
    DigestInvalid,
    QuotaExceeded,
    Unavailable,
)
from registry.storage.errors import (
    PathNotFound,
    StorageError,
    UploadOffsetMismatch,
)

if TYPE_CHECKING:
    from registry.database.transaction import Transaction
    from registry.images.backends import Backends
    from registry.images.publication.blob_publication import BlobPublication
    from registry.images.publication.new_blob import Keep, Write
    from registry.images.records.journal import PendingChange
    from registry.images.repositories import Repositories
    from registry.oci.digest import Digest

LONG = 0.25
"""The part of a lease that an upload may take before its repository is protected at its end for another lease.

HEAD leaves a half of the lease at least, so that what it said holds for as long again after a shorter one.
"""
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
        self._endings = UploadEndings(backends, self._hashes)
        self._room = UploadRoom(backends, self._endings.end_idle)

    def start(
        self,
        name: str,
        algorithm: str = DEFAULT_ALGORITHM,
        *,
        address: str | None = None,
        account: str | None = None,
        digest: Digest | None = None,
        is_blob: bool = True,
    ) -> str:
        """Begin a session in a repository, which need not exist. Returns its id.

        It counts as one of ``account``, where the client has one, else of the client's ``address``. Where that or all
        have more than their bound, one that nothing is written to ends.
        ``digest`` of the whole, where the client has said it already: what the repositories of a quota have passes it.
        No quota is asked unless ``is_blob``: the bytes of a manifest, which has no bound but its own, come so too.
        Raises DigestInvalid (algorithm), and where it would be received in vain: Unavailable if no change may commit,
        QuotaExceeded if a quota is full.
        """
        self._repositories.look_for_migrations()
        if is_blob:
            self._publication.quota_usage.require(name, digest, None)
        crowd = crowd_of(address, account)
        if self._backends.driver.capabilities.exclusive_uploads:
            upload_id = self._start_alone(name, algorithm, crowd)
        else:
            upload_id = self._start_noted(name, algorithm, crowd)
        self._room.note_begun()
        return upload_id

    def _start_alone(self, name: str, algorithm: str, crowd: str) -> str:
        """A session that the store alone knows of: a row follows when bytes are kept between two requests."""
        session = SessionId.make(name, algorithm, crowd, self._backends.clock())
        if not self._backends.layout.per_repository:
            with self._backends.database.autocommit() as connection:
                self._repositories.require_open(connection).get()
        self._backends.driver.start_upload(session.unique)
        return session.text

    def _start_noted(self, name: str, algorithm: str, crowd: str) -> str:
        upload_id = str(uuid.uuid4())
        state, now = self._backends.driver.start_upload(upload_id), self._backends.clock()
        row = SessionRow(upload_id, name, 0, algorithm, digest_of_nothing(algorithm), state.note, None, now)
        with self._backends.database.transaction(durable=False) as connection:
            is_open = self._repositories.require_open(connection)
            upload_sessions.add(connection, row, now=now, address=crowd)
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
        self,
        name: str,
        upload_id: str,
        start: int | None,
        digest: Digest | None = None,
        *,
        at_once: bool = False,
        is_blob: bool = True,
    ) -> BlobWriter:
        """Take the right to add bytes, at ``start`` when the client says where it is.

        ``digest`` of the whole, where the client has said it already: a store may then gather the bytes in their place.
        ``at_once``: all bytes are here, and ``finish`` follows. ``is_blob``: see ``start``.
        Raises BlobUploadUnknown, BlobUploadBusy, RangeInvalid (out of order: the session lives on).
        """
        alone = _alone(name, upload_id)
        writer = take_upload(self._backends.driver, noted(upload_id))
        try:
            # Under the right: the row is the last. One of a session without a byte says no more than its id.
            if alone is not None and digest is None and writer.is_new:
                row, ahead = alone, None
            else:
                row, ahead = self._look(name, noted(upload_id), alone, digest if at_once else None)
            if start == 0 and row.offset == 1:
                row = self._begin_again(row)
            self._check_start(row, start, digest)
            # Also where the client says what it will be: that a repository has those is no proof that these come.
            asks = is_blob and not at_once
            allowance = Allowance.of(self._publication.quota_usage, name, row.id) if asks else None
            return BlobWriter(self._backends, self._hashes, row, writer, digest, ahead, allowance)
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
            there = self._publication.look(connection, row.repository, digest).get().location
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

    def _look(
        self, name: str, upload_id: str, alone: SessionRow | None, digest: Digest | None
    ) -> tuple[SessionRow, Prefetched | None]:
        """The session, else ``alone``; with ``digest`` also what is looked at when it is published."""
        with self._backends.database.autocommit() as connection:
            if digest is None:
                return _of_repository(upload_sessions.find(connection, upload_id).get() or alone, name), None
            at = self._backends.database.clocks.boot()
            known = publications.closing(connection, upload_id, name, digest).get()
            found = self._publication.look(connection, name, digest).get() if known.is_known else Look(None, None, at)
        return _of_repository(known.session or alone, name), Prefetched(known.repository, found)

    def _begin_again(self, row: SessionRow) -> SessionRow:
        """``Range: 0-0`` says one byte as well as none (spec): a client that took it for none starts anew."""
        empty = digest_of_nothing(row.algorithm)
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
        PerhapsClosed where that may be because it was gone before. Raises QuotaExceeded; the session is gone then, too.
        """
        row = writer.row
        known = writer.digest(digest.algorithm)
        if known != digest:
            writer.forget()
            self._endings.end(row)
            kind = PerhapsClosed if self._has_ended(row, digest) else DigestInvalid
            raise kind(f"the bytes have the digest {known}, not {digest}", detail={"received": str(known)})
        try:
            change = self._repositories.again(partial(self._publish, writer, digest))
        except QuotaExceeded:
            writer.forget()
            self._endings.end(row)
            raise
        except BaseException:
            writer.commit()  # the client may close again, without sending them once more
            raise
        writer.forget()
        try:
            self._backends.driver.discard_upload(row.id, upload_state(writer.row))
        except StorageError as error:  # the blob is there, and expiry frees what is left
            log.warning("a finished upload could not be freed yet", upload=row.id, reason=str(error))
        self._publication.record(change)

    def require_room(self, name: str, upload_id: str, digest: Digest, more: int) -> None:
        """Return if a quota has room for what a session has and ``more`` bytes, which end it, before they are received.

        Raises QuotaExceeded, BlobUploadUnknown. A session that has bytes has ended then; one without any lives on, and
        says the same to a client that tries in another way.
        """
        if not self._publication.quota_usage.applies(name):
            return
        row = self.find(name, upload_id)
        try:
            self._publication.quota_usage.require(name, digest, row.offset + more, session=row.id)
        except QuotaExceeded:
            if row.offset:
                self.cancel(name, upload_id)
            raise

    def _publish(self, writer: BlobWriter, digest: Digest) -> PendingChange | None:
        row, ahead = writer.row, writer.ahead
        writer.ahead = None  # it says nothing of a second attempt
        self._publication.quota_usage.require(row.repository, digest, writer.offset, session=row.id)
        repository = self._repositories.ensure(row.repository, ahead.repository if ahead is not None else None)
        self._note_long(row, repository.id)

        def end_session(connection: Transaction, _keep: Keep) -> Write:
            return lambda _blob_id: upload_sessions.remove(connection, row.id) if row.is_noted else None

        blob = NewBlob(repository, digest, writer.offset, writer.publish, end_session, under_quota=True, session=row.id)
        return self._publication.publish(blob, found=ahead.blob if ahead is not None else None)

    def _note_long(self, row: SessionRow, repository_id: int) -> None:
        """Protect what a push was told is there after an upload that took long, too: a lease of it may be over (I7).

        Before the session ends, and apart from its end, since a repository is locked before blobs.
        """
        now = self._backends.clock()
        if now - row.started_at > self._backends.policy.lease * LONG:
            with self._backends.database.transaction() as connection:
                repositories.set_uploaded(connection, repository_id, now=now)

    def cancel(self, name: str, upload_id: str) -> None:
        """End a session without a blob (spec, end-14). Raises BlobUploadUnknown, BlobUploadBusy."""
        with self.open(name, upload_id, None) as writer:
            writer.forget()
            row, _ = self._look(name, noted(upload_id), writer.row, None)  # ``open`` may have done without
            self._endings.end(row)

    def expire(self) -> int:
        """End the sessions that no client continued. Returns how many; see ``UploadEndings``."""
        return self._endings.expire()

    @property
    def running_hashes(self) -> int:
        """Running hashes that this process keeps: those of sessions that go on."""
        return self._hashes.count()

    def count(self) -> int:
        """Open sessions."""
        return sum(self._room.counts().values())


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
    origin = origin_of(session.unique)
    began = origin.began if origin is not None else 0.0
    return SessionRow(session.unique, name, 0, algorithm, digest_of_nothing(algorithm), "", None, began, is_noted=False)


def _of_repository(row: SessionRow | None, name: str) -> SessionRow:
    """Raises BlobUploadUnknown."""
    if row is None or row.repository != name:
        raise BlobUploadUnknown
    return row

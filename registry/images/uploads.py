"""Upload sessions: begun on one worker, continued and closed on any (spec, "Pushing a blob").

Bytes are hashed once, as they arrive. Each addition commits (offset, digest of all bytes so far) to the session's row,
so that the closing request compares and reads nothing; only what a process continued without having seen the beginning,
or a closing digest of another algorithm, is read once more.
"""

from __future__ import annotations

import uuid
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple, Self

import structlog

from registry.database import repositories as repository_rows
from registry.database import sessions as session_rows
from registry.images.running_hashes import RunningHashes
from registry.images.verification import hash_reader
from registry.oci.digest import Digest, new_hasher
from registry.oci.errors import (
    BlobUploadBusy,
    BlobUploadUnknown,
    DigestInvalid,
    RangeInvalid,
    RegistryError,
    SizeInvalid,
    Unavailable,
)
from registry.storage.driver import UploadState
from registry.storage.errors import (
    ObjectTooLarge,
    PathNotFound,
    StorageError,
    UploadBusy,
    UploadNotKept,
    UploadOffsetMismatch,
)

if TYPE_CHECKING:
    from hashlib import _Hash

    from registry.database.blobs import Found
    from registry.database.repositories import RepositoryRow
    from registry.database.sessions import SessionRow
    from registry.database.transaction import Transaction
    from registry.images.originals import Originals
    from registry.images.publication import Publication, Write
    from registry.images.repositories import Repositories
    from registry.images.stores import Stores
    from registry.storage.driver import ObjectStat, UploadWriter

DEFAULT_ALGORITHM = "sha256"
"""Hashed while receiving when the client has not said what it will close with."""

LOOK_SECONDS = 1.0
"""How long a writer may go on without a look at whether another has taken the upload over."""

log = structlog.get_logger(__name__)


class _Ahead(NamedTuple):
    """What ``finish`` looks at first, where it was looked at with the session."""

    repository: RepositoryRow | None
    blob: Found


class Addition:
    """The exclusive right to add bytes to one session. For one thread at a time; close it, it is a context manager.

    ``hash`` and ``store`` of the same bytes may run side by side in two threads.
    """

    def __init__(
        self,
        stores: Stores,
        hashes: RunningHashes,
        row: SessionRow,
        writer: UploadWriter,
        digest: Digest | None,
        ahead: _Ahead | None = None,
    ) -> None:
        """Goes on where ``row`` ends; ``digest`` of the whole, where it is known. Raises UploadOffsetMismatch."""
        self._stores = stores
        self._hashes = hashes
        self._row = row
        self._writer = writer
        self._algorithm = digest.algorithm if digest is not None and not row.offset else row.algorithm
        self._hasher = self._running_hash()
        self._added = 0
        self.ahead = ahead
        """None unless the upload is finished at once."""
        self._looked = monotonic()
        # Where the store gathers bytes at their key, nobody can read them again to hash them.
        gathered = digest is not None and self._hasher is not None and digest.algorithm == self._algorithm
        key = stores.layout.blob(row.repository, digest) if digest is not None and gathered else None
        writer.resume(_state(row), offset=row.offset, key=key)

    @property
    def offset(self) -> int:
        """Bytes received and kept, in all."""
        return self._row.offset + self._added

    def hash(self, data: bytes | memoryview) -> None:
        """Let the running hash see ``data``."""
        hasher = self._hasher  # ``store`` may give it up meanwhile
        if hasher is not None:
            hasher.update(data)

    def store(self, data: bytes | memoryview) -> None:
        """Write ``data``, which may be used again afterwards, at the end.

        Raises StorageFull, StorageError; and as ``commit`` where another has been faster.
        """
        self._go_on()
        try:
            self._writer.write(data)
        except ObjectTooLarge as error:
            raise SizeInvalid(f"the blob is larger than this store takes: {error.reason}") from error
        except BaseException:
            self._hasher = None  # it may have seen these bytes; what is kept is hashed again
            raise
        self._added += len(data)

    def add(self, data: bytes | memoryview) -> None:
        """``hash`` and ``store``."""
        self.hash(data)
        self.store(data)

    def digest(self, algorithm: str) -> Digest:
        """Of all bytes. They are read once more where nobody has seen them all, or not with this algorithm."""
        if algorithm == self._algorithm and self._hasher is not None:
            return Digest.from_hasher(self._hasher)
        if algorithm == self._row.algorithm and not self._added and self._row.digest is not None:
            return Digest(self._row.digest)
        with self._writer.read() as reader:
            return hash_reader(reader, algorithm)

    def publish(self, key: str, *, replace: bool) -> ObjectStat:
        """Make all bytes the object ``key``. Raises StorageError, BlobUploadUnknown."""
        try:
            return self._writer.publish(key, replace=replace)
        except PathNotFound as error:
            raise BlobUploadUnknown("bytes of this upload were lost; start a new one") from error

    def commit(self) -> None:
        """Make what was added part of the session, for every worker.

        Raises BlobUploadUnknown when it has ended, RangeInvalid when another has added bytes meanwhile (where the store
        gives no right to one writer, the first to commit wins).
        Where the store cannot keep it the session stays as it was, and the client sends it again.
        """
        if not self._added:
            return
        try:
            state = self._writer.flush()
        except UploadNotKept as error:
            log.info("what was received of an upload is dropped", upload=self._row.id, reason=str(error))
            return
        known = self._hasher is not None and self._algorithm == self._row.algorithm
        digest = Digest.from_hasher(self._hasher) if self._hasher is not None and known else None
        offset = self.offset
        with self._stores.database.write(durable=False) as connection:
            advanced = session_rows.advance(
                connection,
                self._row.id,
                before=self._row.offset,
                offset=offset,
                digest=digest,
                note=state.note,
                tail=state.tail,
                now=self._stores.clock(),
            )
        if not advanced.get():
            raise self._overtaken()
        self._row = self._row._replace(offset=offset, digest=digest, note=state.note, tail=state.tail)
        self._added = 0

    def _go_on(self) -> None:
        """Keep the session from expiring, and see that nobody else has gone on with it: his parts would be ours."""
        if self._stores.driver.capabilities.upload_rights or monotonic() - self._looked < LOOK_SECONDS:
            return
        self._looked = monotonic()
        with self._stores.database.write(durable=False) as connection:
            ours = session_rows.touch(connection, self._row.id, offset=self._row.offset, now=self._stores.clock())
        if not ours:
            self._hasher = None
            raise self._overtaken()

    def _overtaken(self) -> RegistryError:
        with self._stores.database.look() as connection:
            row = session_rows.find(connection, self._row.id)
        return BlobUploadUnknown() if row is None else _out_of_order(self._row.offset, row.offset)

    @property
    def row(self) -> SessionRow:
        """The session as it was last committed."""
        return self._row

    def forget(self) -> None:
        """The session has ended: there is no next addition to keep the running hash for."""
        self._hasher = None

    def close(self) -> None:
        """Give the right back, keeping the running hash for the next addition."""
        if self._hasher is not None and not self._added and self._algorithm == self._row.algorithm:
            self._hashes.keep(self._row.id, self._row.offset, self._hasher)
        self._writer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def _running_hash(self) -> _Hash | None:
        if self._row.offset == 0:
            return new_hasher(self._algorithm)
        return self._hashes.take(self._row.id, self._row.offset)


class Uploads:
    """Any thread, any process."""

    def __init__(
        self, stores: Stores, originals: Originals, repositories: Repositories, publication: Publication
    ) -> None:
        self._stores = stores
        self._originals = originals
        self._repositories = repositories
        self._publication = publication
        self._hashes = RunningHashes()

    def start(self, name: str, algorithm: str = DEFAULT_ALGORITHM) -> str:
        """Begin a session in a repository, which need not exist. Returns its id.

        Raises DigestInvalid (algorithm), and Unavailable where no change may commit: it would be received in vain.
        """
        upload_id = str(uuid.uuid4())
        empty = Digest.of(b"", algorithm)
        self._originals.ensure()
        state = self._stores.driver.start_upload(upload_id)
        with self._stores.database.write(durable=False) as connection:
            is_open = self._originals.require_open_later(connection, looked=False)
            session_rows.add(
                connection,
                upload_id,
                name,
                algorithm=algorithm,
                digest=empty,
                note=state.note,
                now=self._stores.clock(),
            )
        try:
            is_open.get()  # after the commit, for which it would be waited otherwise
        except Unavailable:
            with self._stores.database.write() as connection:
                session_rows.remove(connection, upload_id)
            self._stores.driver.discard_upload(upload_id, state)
            raise
        return upload_id

    def find(self, name: str, upload_id: str) -> SessionRow:
        """The session. Raises BlobUploadUnknown, also for a session of another repository."""
        with self._stores.database.look() as connection:
            return _of_repository(session_rows.find(connection, upload_id), name)

    def add(
        self, name: str, upload_id: str, start: int | None, digest: Digest | None = None, *, at_once: bool = False
    ) -> Addition:
        """Take the right to add bytes, at ``start`` when the client says where it is.

        ``digest`` of the whole, where the client has said it already: a store may then gather the bytes in their place.
        ``at_once``: all bytes are here, and ``finish`` follows.
        Raises BlobUploadUnknown, BlobUploadBusy, RangeInvalid (out of order: the session lives on).
        """
        try:
            writer = self._stores.driver.open_upload(upload_id)
        except PathNotFound as error:
            raise BlobUploadUnknown from error
        except UploadBusy as error:
            raise BlobUploadBusy(headers={"Retry-After": "1"}) from error
        try:
            row, ahead = self._look(name, upload_id, digest if at_once else None)  # under the right: it is the last
            if start == 0 and row.offset == 1:
                row = self._begin_again(row)
            _check_start(row, start)
            return Addition(self._stores, self._hashes, row, writer, digest, ahead)
        except (UploadOffsetMismatch, PathNotFound) as error:
            writer.close()
            raise BlobUploadUnknown("bytes of this upload were lost; start a new one") from error
        except BaseException:
            writer.close()
            raise

    def _look(self, name: str, upload_id: str, digest: Digest | None) -> tuple[SessionRow, _Ahead | None]:
        """As ``find``; with ``digest`` also what is looked at when it is published."""
        if digest is None:
            return self.find(name, upload_id), None
        with self._stores.database.look() as connection:
            session = session_rows.find_later(connection, upload_id)
            repository = repository_rows.find_later(connection, name)
            blob = self._publication.look_later(connection, name, digest)
            row = _of_repository(session.get(), name)
        return row, _Ahead(repository.get(), blob.get())

    def _begin_again(self, row: SessionRow) -> SessionRow:
        """``Range: 0-0`` says one byte as well as none (spec): a client that took it for none starts anew."""
        empty = Digest.of(b"", row.algorithm)
        with self._stores.database.write() as connection:
            session_rows.advance(
                connection,
                row.id,
                before=row.offset,
                offset=0,
                digest=empty,
                note=row.note,
                tail=row.tail or b"",
                now=self._stores.clock(),
            )
        return row._replace(offset=0, digest=empty)

    def finish(self, addition: Addition, digest: Digest) -> None:
        """Publish what was uploaded under ``digest`` (I1) and end the session.

        Raises DigestInvalid when the bytes are others; the session is then gone, since nothing can mend it.
        """
        row = addition.row
        known = addition.digest(digest.algorithm)
        if known != digest:
            addition.forget()
            self._end(row)
            raise DigestInvalid(f"the bytes have the digest {known}, not {digest}", detail={"received": str(known)})
        ahead = addition.ahead
        repository = self._repositories.ensure(row.repository, ahead.repository if ahead is not None else None)

        def end_session(connection: Transaction) -> Write:
            return lambda _blob_id: session_rows.remove(connection, row.id)

        try:
            self._publication.publish(
                repository,
                digest,
                addition.offset,
                addition.publish,
                end_session,
                found=ahead.blob if ahead is not None else None,
            )
        except BaseException:
            addition.commit()  # the client may close again, without sending them once more
            raise
        addition.forget()
        try:
            self._stores.driver.discard_upload(row.id, _state(addition.row))
        except StorageError as error:  # the blob is there, and expiry frees what is left
            log.warning("a finished upload could not be freed yet", upload=row.id, reason=str(error))

    def cancel(self, name: str, upload_id: str) -> None:
        """End a session without a blob (spec, end-14). Raises BlobUploadUnknown, BlobUploadBusy."""
        with self.add(name, upload_id, None) as addition:
            addition.forget()
            self._end(addition.row)

    def expire(self) -> int:
        """End the sessions that nobody continued, and free what storage holds of sessions that no row knows.

        Returns how many. An upload that is being written to is not touched.
        """
        before, freed = self._stores.clock() - self._stores.rules.upload_expiry, 0
        with self._stores.database.look() as connection:
            expired = session_rows.expired(connection, before=before)
        for row in expired:
            freed += self._expire(row)
        for entry in self._stores.driver.uploads():
            if entry.modified >= before:
                continue
            with self._stores.database.look() as connection:
                known = session_rows.find(connection, entry.upload_id)
            if known is None:
                self._stores.driver.discard_upload(entry.upload_id)
                freed += 1
        if freed:
            log.info("abandoned uploads removed", uploads=freed)
        return freed

    @property
    def running_hashes(self) -> int:
        """Running hashes that this process keeps: of sessions that go on, and of no others."""
        return self._hashes.count()

    def count(self) -> int:
        """Open sessions."""
        with self._stores.database.look() as connection:
            return session_rows.count(connection)

    def _expire(self, row: SessionRow) -> bool:
        try:
            self.cancel(row.repository, row.id)
        except BlobUploadUnknown:
            self._end(row)
        except RegistryError:
            return False
        return True

    def _end(self, row: SessionRow) -> None:
        with self._stores.database.write() as connection:
            session_rows.remove(connection, row.id)
        self._hashes.forget(row.id)
        self._stores.driver.discard_upload(row.id, _state(row))


def _state(row: SessionRow) -> UploadState:
    return UploadState(row.note, row.tail or b"")


def _of_repository(row: SessionRow | None, name: str) -> SessionRow:
    """Raises BlobUploadUnknown."""
    if row is None or row.repository != name:
        raise BlobUploadUnknown
    return row


def _check_start(row: SessionRow, start: int | None) -> None:
    """Raises RangeInvalid when a chunk does not begin where its upload ends (spec, "Pushing a blob in chunks")."""
    if start is not None and start != row.offset:
        raise _out_of_order(start, row.offset)


def _out_of_order(start: int, offset: int) -> RangeInvalid:
    return RangeInvalid(
        f"the chunk starts at {start}, the upload is at {offset}; continue there", detail={"offset": offset}
    )

"""Blob writer: bytes of an upload session on their way to storage, hashed as they come.

Tests: ``tests/images/uploads/test_uploads.py``.
"""

from __future__ import annotations

import contextlib
import threading
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple, Self

import structlog

from registry.database import upload_sessions
from registry.database.errors import DatabaseError
from registry.images.uploads.session_ids import origin_of
from registry.images.verification import hash_reader
from registry.oci.digest import Digest, new_hasher
from registry.oci.errors import BlobUploadUnknown, RangeInvalid, RegistryError, SizeInvalid
from registry.storage.driver import CHUNK_SIZE, UploadState
from registry.storage.errors import ObjectTooLarge, PathNotFound, UploadNotResumable

if TYPE_CHECKING:
    from hashlib import _Hash

    from registry.database.repositories import RepositoryRow
    from registry.database.transaction import Later, Transaction
    from registry.database.upload_sessions import SessionRow
    from registry.images.backends import Backends
    from registry.images.publication.new_blob import Look
    from registry.images.quotas.allowance import Allowance
    from registry.storage.driver import ObjectStat, UploadWriter

LOOK_SECONDS = 1.0
"""How long a writer may go on without a look at whether another has taken the upload over."""
KEEP_SECONDS = 60.0
"""How long a writer that no other can take over may go on before its session is kept alive."""

log = structlog.get_logger(__name__)


class Prefetched(NamedTuple):
    """What ``finish`` looks at first, where it was looked at with the session."""

    repository: RepositoryRow | None
    blob: Look


class BlobWriter:
    """The exclusive right to add bytes to one session. For one thread at a time; close it, it is a context manager.

    ``update_hash`` and ``write_only`` of the same bytes may run side by side in two threads.
    """

    def __init__(
        self,
        backends: Backends,
        hashes: HashCache,
        row: SessionRow,
        writer: UploadWriter,
        digest: Digest | None,
        ahead: Prefetched | None = None,
        allowance: Allowance | None = None,
    ) -> None:
        """Goes on where ``row`` ends; ``digest`` of the whole, where it is known. Raises UploadOffsetMismatch.

        ``allowance`` is how far it may go before it is known what the bytes are; None for any number.
        """
        self._backends = backends
        self._hashes = hashes
        self._row = row
        self._writer = writer
        self._algorithm = digest.algorithm if digest is not None and not row.offset else row.algorithm
        self._hasher = self._running_hash()
        self._added = 0
        self._allowance = allowance
        self.ahead = ahead
        """None unless the upload is finished at once."""
        self._looked = monotonic()
        self._is_alone = backends.driver.capabilities.exclusive_uploads
        # A store that gathers bytes at their key cannot give them back to be hashed.
        gathered = digest is not None and self._hasher is not None and digest.algorithm == self._algorithm
        key = backends.layout.blob(row.repository, digest) if digest is not None and gathered else None
        writer.resume(upload_state(row), offset=row.offset, key=key)

    @property
    def offset(self) -> int:
        """Bytes received and kept, in all."""
        return self._row.offset + self._added

    def update_hash(self, data: bytes | memoryview) -> None:
        """Let the running hash see ``data``."""
        hasher = self._hasher  # ``write_only`` may give it up meanwhile
        if hasher is not None:
            hasher.update(data)

    def write_only(self, data: bytes | memoryview) -> None:
        """Write ``data``, which may be used again afterwards, at the end.

        Raises StorageFull, StorageError, QuotaExceeded; and as ``commit`` where another has been faster.
        """
        self._go_on()
        try:
            if self._allowance is not None:
                self._allowance.require(self.offset + len(data))
            self._writer.write(data)
        except ObjectTooLarge as error:
            raise SizeInvalid(f"the blob is larger than this store takes: {error.reason}") from error
        except BaseException:
            self._hasher = None  # it may have seen these bytes; what is kept is hashed again
            raise
        self._added += len(data)

    def write(self, data: bytes | memoryview) -> None:
        """``update_hash`` and ``write_only``."""
        self.update_hash(data)
        self.write_only(data)

    @property
    def held(self) -> int:
        """Bytes of memory with what was stored, which ``spill`` frees."""
        return self._writer.held

    def spill(self) -> None:
        """Free that memory: its client is slow. Raises StorageError; then what is kept is hashed again."""
        try:
            self._writer.spill()
        except BaseException:
            self._hasher = None
            raise

    def content(self) -> bytes:
        """All bytes. Nothing is stored any more after this. Raises StorageError."""
        with self._writer.read() as reader:
            chunks = []
            while chunk := reader.read(CHUNK_SIZE):
                chunks.append(chunk)
            return b"".join(chunks)

    def digest(self, algorithm: str) -> Digest:
        """The digest of all bytes, which are read once more if they were not all hashed here with this algorithm."""
        if algorithm == self._row.algorithm and not self._added and self._row.digest is not None:
            return Digest(self._row.digest)
        if algorithm == self._algorithm and self._hasher is not None:
            return Digest.from_hasher(self._hasher)
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
        except UploadNotResumable as error:
            log.info("what was received of an upload is dropped", upload=self._row.id, reason=str(error))
            return
        known = self._hasher is not None and self._algorithm == self._row.algorithm
        digest = Digest.from_hasher(self._hasher) if self._hasher is not None and known else None
        before = self._row
        row = before._replace(
            offset=self.offset, digest=digest, note=state.note, tail=state.tail or None, is_noted=True
        )
        if not self._keep(row):
            raise self._overtaken()
        self._row, self._added = row, 0

    def _keep(self, row: SessionRow) -> bool:
        """Make this the row of the session. False if it has ended, or another has added bytes."""
        if not self._row.is_noted:
            with self._backends.database.statement() as connection:
                added = self._note(connection, row)
            if added.get():
                return True
            # It has one that was not looked for, without a byte: its client has begun it again.
        with self._backends.database.statement() as connection:
            kept = self._advance(connection, row)
        return kept.get()

    def _advance(self, connection: Transaction, row: SessionRow) -> Later[bool]:
        return upload_sessions.advance(
            connection,
            row.id,
            before=self._row.offset,
            offset=row.offset,
            digest=row.digest,
            note=row.note,
            tail=row.tail or b"",
            now=self._backends.clock(),
        )

    def _note(self, connection: Transaction, row: SessionRow) -> Later[bool]:
        """Give the session its row: from now on there is more to know than its id says."""
        origin = origin_of(row.id)
        address = origin.address if origin is not None else ""
        return upload_sessions.add(connection, row, now=self._backends.clock(), address=address)

    def _go_on(self) -> None:
        """Now and then keep the session alive, and stop if another writer has advanced it.

        Our parts would overwrite those of that writer.
        """
        seconds = monotonic() - self._looked
        if seconds < LOOK_SECONDS or (self._is_alone and seconds < min(KEEP_SECONDS, self._backends.policy.lease / 4)):
            return
        self._looked = monotonic()
        if self._is_alone:
            with contextlib.suppress(DatabaseError):  # nothing depends on it but what a collection may take
                self._keep_alive()
        elif not self._keep_alive():
            self._hasher = None
            raise self._overtaken()

    def _keep_alive(self) -> bool:
        """Say that a client goes on with the session: collections leave its repository alone. False if it is gone.

        A session without a row gets one.
        """
        row = self._row._replace(is_noted=True)
        if self._row.is_noted:
            with self._backends.database.transaction(durable=False) as connection:
                return upload_sessions.touch(connection, row.id, offset=row.offset, now=self._backends.clock())
        if not self._keep(row):
            return False
        self._row = row
        return True

    def _overtaken(self) -> RegistryError:
        with self._backends.database.autocommit() as connection:
            row = upload_sessions.find(connection, self._row.id).get()
        return BlobUploadUnknown() if row is None else out_of_order(self._row.offset, row.offset)

    @property
    def row(self) -> SessionRow:
        """The session as it was last committed."""
        return self._row

    def forget(self) -> None:
        """The session has ended: no next writer needs the running hash."""
        self._hasher = None

    def close(self) -> None:
        """Give the right back, keeping the running hash for the next writer."""
        if self._hasher is not None and not self._added and self._algorithm == self._row.algorithm:
            self._hashes.keep(self._row, self._hasher)
        self._writer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def _running_hash(self) -> _Hash | None:
        if self._row.offset == 0:
            return new_hasher(self._algorithm)
        return self._hashes.take(self._row)


def upload_state(row: SessionRow) -> UploadState:
    """What the store has to know of the upload."""
    return UploadState(row.note, row.tail or b"")


def out_of_order(start: int, offset: int) -> RangeInvalid:
    """For bytes that begin elsewhere than where their upload ends."""
    return RangeInvalid(
        f"the chunk starts at {start}, the upload is at {offset}; continue there", detail={"offset": offset}
    )


REMEMBERED = 10_000
"""Uploads whose hash a process keeps; the bytes of one that it forgot are read once more."""


class HashCache:
    """Hash objects by upload and digest. Any thread; the caller that takes one owns it until it is kept again.

    An offset does not say which bytes they are: another process may have begun the session again.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[str, tuple[str | None, _Hash]] = {}
        """The first one comes first; a taker removes it."""

    def take(self, row: SessionRow) -> _Hash | None:
        """The hash of all bytes that a session has kept, if this process has it."""
        with self._lock:
            digest, hasher = self._kept.pop(row.id, (None, None))
        return hasher if digest is not None and digest == row.digest else None

    def keep(self, row: SessionRow, hasher: _Hash) -> None:
        """Keep the hash of all bytes that a session has kept."""
        with self._lock:
            self._kept.pop(row.id, None)
            self._kept[row.id] = (row.digest, hasher)
            if len(self._kept) > REMEMBERED:
                del self._kept[next(iter(self._kept))]

    def forget(self, upload_id: str) -> None:
        """The upload has ended."""
        with self._lock:
            self._kept.pop(upload_id, None)

    def count(self) -> int:
        """How many are kept."""
        with self._lock:
            return len(self._kept)

"""*Leader*: reads an upstream at line rate, hashes, keeps, and publishes, for as long as its epoch is the row's.

Tests: ``tests/images/fetching/test_hub.py``.
"""

from __future__ import annotations

import contextlib
import uuid
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple, NoReturn

import structlog

from registry.database.errors import DatabaseError
from registry.database.mirrors import fetches
from registry.database.mirrors.fetches import Kept
from registry.images.fetching.content import ContentReplaced, FetchFailed, Reason
from registry.images.publication.new_blob import NewBlob
from registry.interruption import Interrupted, Interruption
from registry.oci.digest import Digest, new_hasher
from registry.oci.errors import RegistryError
from registry.storage.driver import CHUNK_SIZE, UploadState
from registry.storage.errors import PathNotFound, StorageError, UploadBusy, UploadOffsetMismatch

if TYPE_CHECKING:
    import threading
    from hashlib import _Hash

    from registry.database.mirrors.fetches import FetchRow
    from registry.database.transaction import Transaction
    from registry.images.backends import Backends
    from registry.images.fetching.content import Content, Source
    from registry.images.fetching.fetch import Fetch
    from registry.images.fetching.policy import FetchPolicy
    from registry.images.publication.blob_publication import BlobPublication
    from registry.images.publication.new_blob import Keep, Write
    from registry.images.records.journal import PendingChange
    from registry.images.repositories import Repositories
    from registry.storage.driver import UploadWriter

STORAGE_PAUSE = 2.0
"""Seconds after which a process may lead again where the store or database did not take the bytes."""

log = structlog.get_logger(__name__)


class Fenced(Exception):
    """The row has another epoch, or may have: what this leader writes has no effect."""


class Left(Exception):
    """No client waits any more, and none is to be served: the bytes stay for the next leader."""


class Rooms(NamedTuple):
    """What a leader works with."""

    backends: Backends
    repositories: Repositories
    publication: BlobPublication
    policy: FetchPolicy
    stopping: threading.Event


class Leader:
    """One turn of this process to lead a fetch. ``run`` in a thread of its own; the other methods in any."""

    def __init__(self, rooms: Rooms, fetch: Fetch, row: FetchRow, source: Source) -> None:
        self.row = row
        self._rooms = rooms
        self._fetch = fetch
        self._source = source
        self._driver = rooms.backends.driver
        self._keeps = self._driver.capabilities.readable_uploads
        self._clock = rooms.backends.database.clocks.boot
        self._until = self._clock() + rooms.policy.lease
        """When another process may lead, by this machine's clock; no later than the database has it."""
        self._interruption = Interruption()
        self._is_fenced = False
        self._is_unsure = False
        """A step of the row may have been made though its answer was an error."""
        self._kept = Kept(0, "", "", b"", None, None, None)
        self._before = row.offset
        self._noted_size: int | None = None
        """What the row says by now."""
        self._has_earlier_bytes = False
        self._has_begun_anew = False
        self._brought = False
        self._received = 0
        """Bytes of the whole that are written."""

    def renewed(self, until: float) -> None:
        """It leads until then, at least."""
        self._until = max(self._until, until)

    def fence(self) -> None:
        """It leads no more."""
        self._is_fenced = True
        self.interrupt()

    def interrupt(self) -> None:
        """Nothing wants further bytes: it keeps those that have come and leaves, also where the upstream is silent."""
        self._interruption.interrupt()

    @property
    def is_late(self) -> bool:
        """Whether another process may lead by now."""
        return self._clock() >= self._until

    def run(self) -> FetchFailed | None:
        """Bring the blob and publish it; the fetch knows it then. Returns why not, where that is final.

        Raises Fenced: another process leads, or may; Left.
        """
        try:
            self._lead()
        except FetchFailed as failure:
            return self._give_up(failure)
        except (StorageError, RegistryError) as error:
            return self._give_up(FetchFailed(Reason.STORAGE, str(error), STORAGE_PAUSE))
        except DatabaseError as error:
            raise Fenced from error
        except (Fenced, Left):
            raise
        except Exception:
            self._give_up(FetchFailed(Reason.STORAGE, "an error of ours", STORAGE_PAUSE))
            raise
        return None

    # ---- the way of the bytes

    def _lead(self) -> None:
        with self._rooms.backends.database.autocommit() as connection:
            self._rooms.repositories.require_open(connection).get()  # else it would come in vain
        while True:
            try:
                self._bring()
            except ContentReplaced as error:
                if self._has_begun_anew:
                    raise FetchFailed(Reason.INVALID, str(error), self._rooms.policy.negative) from error
                self._begin_anew(error)
            except PathNotFound as error:  # what was kept has gone
                if self._has_begun_anew:
                    raise
                self._begin_anew(error)
            else:
                return

    def _begin_anew(self, error: Exception) -> None:
        self._has_begun_anew = True
        log.info("a fetch begins anew", mirror=self.row.mirror, digest=self.row.key, reason=str(error))

    def _bring(self) -> None:
        writer, hasher = self._open()
        with writer:
            kept = self._kept
            with self._source.content(hasher, offset=kept.offset, size=kept.size, etag=kept.etag) as content:
                self._received = kept.offset
                try:
                    self._copy(content, writer)
                except FetchFailed as failure:
                    if failure.reason.is_kept:
                        self._keep_rest(writer)
                    raise
                except Interrupted:
                    self._require_lead()
                    self._keep_rest(writer)
                    self._leave()
                offset = self._received
            digest = Digest.from_hasher(hasher)
            if digest != self._fetch.digest:
                self._refuse(digest)
            if self._keeps and (self._before, self._noted_size) != (offset, offset):
                self._keep(writer, offset)
            self._publish(writer, offset)
        with contextlib.suppress(StorageError):  # else expiry frees it
            self._driver.discard_upload(self._kept.upload_id, self._state())

    def _copy(self, content: Content, writer: UploadWriter) -> None:
        """Read the content to its end."""
        fetch, policy = self._fetch, self._rooms.policy
        with self._interruption:
            content.open()
        fetch.prove(self.row.repository)  # also where nothing was asked: see FetchHub
        self._take_head(content)
        due, flushed = monotonic(), self._received  # clients elsewhere wait for the first bytes
        part = self._driver.capabilities.part_bytes or policy.flush_bytes
        while data := self._read(content):
            self._require_lead()
            writer.write(data)
            self._received += len(data)
            self._brought = True
            fetch.append(data)
            is_left = self._rooms.stopping.is_set() or not (policy.fills or fetch.is_wanted)
            if is_left or self._received - flushed >= part or monotonic() >= due:
                self._take_head(content)
                if self._keeps:
                    self._keep(writer, self._received)
                due, flushed = monotonic() + policy.flush, self._received
            if is_left:
                self._leave()
        self._take_head(content)
        if self._kept.size != self._received:
            fetch.tell(self._received, content.media_type)
            self._kept = self._kept._replace(size=self._received)
        self._require_size(self._received)

    def _read(self, content: Content) -> bytes:
        with self._interruption:
            return content.read(CHUNK_SIZE)

    def _take_head(self, content: Content) -> None:
        """Note what the upstream has told of the whole by now."""
        if content.size is not None:
            self._require_size(content.size)
        told = (content.size, content.etag, content.media_type)
        if told != (self._kept.size, self._kept.etag, self._kept.media_type) or self._fetch.size is None:
            self._kept = self._kept._replace(size=content.size, etag=content.etag, media_type=content.media_type)
            self._fetch.tell(content.size, content.media_type)

    def _require_size(self, size: int) -> None:
        if self._fetch.refuses(size):
            message = f"the upstream has {size} bytes, the manifest says something else"
            raise FetchFailed(Reason.INVALID, message, self._rooms.policy.negative)

    def _refuse(self, digest: Digest) -> None:
        """Raises ContentReplaced where bytes that an earlier leader has kept may be the wrong ones."""
        if self._has_earlier_bytes and not self._has_begun_anew:
            raise ContentReplaced(f"the bytes have the digest {digest}")
        log.error("an upstream has other bytes than their digest says", mirror=self.row.mirror, digest=self.row.key)
        raise FetchFailed(Reason.WRONG, f"the bytes have the digest {digest}", self._rooms.policy.negative)

    # ---- the upload

    def _open(self) -> tuple[UploadWriter, _Hash]:
        """The upload, and the hash of what is in it. Raises PathNotFound where it has gone."""
        row = self.row
        if not self._has_begun_anew and self._keeps and row.offset and row.upload_id:
            note, tail = row.note, row.tail or b""
            self._kept = Kept(row.offset, row.upload_id, note, tail, row.size, row.etag, row.media_type)
            self._has_earlier_bytes = True
            opened = self._go_on()
        else:
            opened = self._begin()
        edition = row.edition + self._has_begun_anew
        self._fetch.lead(edition=edition, begin=self._kept.offset, origin=row.repository)
        self._fetch.keep(self._kept)
        return opened

    def _begin(self) -> tuple[UploadWriter, _Hash]:
        """An empty upload, which the row has before a byte comes."""
        former = self._kept if self._kept.upload_id else None
        if former is None and self.row.upload_id:
            former = Kept(0, self.row.upload_id, self.row.note, self.row.tail or b"", None, None, None)
        self._has_earlier_bytes = False
        upload_id = _new_upload_id()
        state = self._driver.start_upload(upload_id, readable=self._keeps)
        self._kept = Kept(0, upload_id, state.note, state.tail, None, None, None)
        self._advance(self._kept, anew=self._has_begun_anew)
        if former is not None:
            with contextlib.suppress(StorageError):  # else expiry frees it
                self._driver.discard_upload(former.upload_id, UploadState(former.note, former.tail))
        writer = self._driver.open_upload(upload_id)
        try:
            writer.resume(state, offset=0, key=self._key())
        except BaseException:
            writer.close()
            raise
        return writer, new_hasher(self._fetch.digest.algorithm)

    def _go_on(self) -> tuple[UploadWriter, _Hash]:
        """The upload of an earlier leader, hashed; or a copy of it, where that one has it still."""
        hasher, kept = new_hasher(self._fetch.digest.algorithm), self._kept
        try:
            writer = self._driver.open_upload(kept.upload_id)
        except UploadBusy:
            return self._copy_upload(hasher), hasher
        try:
            self._hash(hasher)
            writer.resume(self._state(), offset=kept.offset, key=self._key())
        except UploadOffsetMismatch as error:
            writer.close()
            raise PathNotFound(kept.upload_id, "bytes of it were lost") from error
        except BaseException:
            writer.close()
            raise
        return writer, hasher

    def _copy_upload(self, hasher: _Hash) -> UploadWriter:
        former, upload_id = self._kept, _new_upload_id()
        state = self._driver.start_upload(upload_id, readable=True)
        writer = self._driver.open_upload(upload_id)
        try:
            writer.resume(state, offset=0, key=self._key())
            self._hash(hasher, writer)
            state = writer.flush()
            self._advance(former._replace(upload_id=upload_id, note=state.note, tail=state.tail))
        except BaseException:
            writer.close()
            raise
        with contextlib.suppress(StorageError):  # its writer goes on without a name
            self._driver.discard_upload(former.upload_id, UploadState(former.note, former.tail))
        return writer

    def _hash(self, hasher: _Hash, writer: UploadWriter | None = None) -> None:
        """Hash what is kept. Raises PathNotFound where it is not there."""
        kept = self._kept
        try:
            with self._driver.read_upload(kept.upload_id, self._state(), size=kept.offset) as reader:
                while data := reader.read(CHUNK_SIZE):
                    self._require_lead()
                    hasher.update(data)
                    if writer is not None:
                        writer.write(data)
        except UploadOffsetMismatch as error:
            raise PathNotFound(kept.upload_id, "bytes of it were lost") from error

    def _keep(self, writer: UploadWriter, offset: int) -> None:
        """Let every process read what has come. Without an answer of the database it goes on until its lease ends."""
        state = writer.flush()
        kept = self._kept._replace(offset=offset, note=state.note, tail=state.tail)
        try:
            self._advance(kept)
        except DatabaseError as error:
            self._is_unsure = True
            log.warning("a fetch could not be noted", digest=self.row.key, reason=str(error))
            self._require_lead()
        else:
            self._fetch.keep(self._kept)

    def _keep_rest(self, writer: UploadWriter) -> None:
        """Keep what has come since the row was last moved."""
        if self._keeps and self._before != self._received:
            self._keep(writer, self._received)

    def _state(self) -> UploadState:
        return UploadState(self._kept.note, self._kept.tail)

    def _key(self) -> str:
        return self._rooms.backends.layout.blob(self.row.repository, self._fetch.digest)

    # ---- the row

    def _require_lead(self) -> None:
        """Raises Fenced."""
        if self._is_fenced or self.is_late:
            raise Fenced

    def _advance(self, kept: Kept, *, anew: bool = False) -> None:
        """Move the row to what is kept. Raises Fenced, DatabaseError."""
        self._require_lead()
        lease, now = self._rooms.policy.lease, self._clock()
        database, row = self._rooms.backends.database, self.row
        if self._is_unsure:
            with database.autocommit() as connection:
                found = fetches.find(connection, row.mirror, row.key).get()
            if found is None or found.epoch != row.epoch:
                raise Fenced
            self._before, self._is_unsure = found.offset, False
        with database.transaction(durable=False) as connection:
            is_done = fetches.advance(
                connection, row.id, kept, epoch=row.epoch, before=self._before, seconds=lease, anew=anew
            )
        if not is_done:
            raise Fenced
        self._kept, self._before, self._noted_size = kept, kept.offset, kept.size
        self.renewed(now + lease)

    def _publish(self, writer: UploadWriter, size: int) -> None:
        """Make the blob a member, and end the row in the same transaction. Raises Fenced, where nothing is committed.

        No quota refuses it: the client has most of it by now.
        """
        rooms, row, digest = self._rooms, self.row, self._fetch.digest

        def end_row(connection: Transaction, _keep: Keep) -> Write:
            def write(_blob_id: int) -> None:
                if not fetches.finish(connection, row.id, epoch=row.epoch, size=size).get():
                    raise Fenced

            return write

        def publish() -> PendingChange | None:
            repository = rooms.repositories.ensure(row.repository)
            return rooms.publication.publish(NewBlob(repository, digest, size, writer.publish, end_row))

        self._require_lead()
        rooms.publication.record(rooms.repositories.again(publish))
        self._fetch.publish(size)
        self._fetch.join(row.repository)

    def _leave(self) -> NoReturn:
        """Raises Left."""
        with contextlib.suppress(DatabaseError), self._rooms.backends.database.transaction() as connection:
            fetches.release(connection, self.row.id, epoch=self.row.epoch)
        raise Left

    def _give_up(self, failure: FetchFailed) -> FetchFailed:
        """End the turn with an error: the next leader begins after a pause. Raises Fenced."""
        row, reason, pause = self.row, failure.reason, failure.seconds
        fails = 1 if self._brought else row.fails + 1
        if pause is None:
            pause = self._pause(reason, fails)
        if reason is Reason.DENIED:
            pause = 0.0  # never kept: other credentials may come at any time
        log.warning("a fetch was given up", mirror=row.mirror, digest=row.key, cause=reason, reason=str(failure))
        try:
            with self._rooms.backends.database.transaction() as connection:
                if reason.is_kept:
                    ours = fetches.release(connection, row.id, epoch=row.epoch, error=reason, pause=pause, fails=fails)
                else:
                    ours = fetches.fail(connection, row.id, epoch=row.epoch, error=reason, pause=pause)
        except DatabaseError as error:
            raise Fenced from error
        if not ours:
            raise Fenced
        if reason in {Reason.ABSENT, Reason.WRONG}:
            with contextlib.suppress(DatabaseError):
                self._source.miss()
        if not reason.is_kept and self._kept.upload_id:
            with contextlib.suppress(StorageError):  # else expiry frees it
                self._driver.discard_upload(self._kept.upload_id, self._state())
        failure.seconds = pause or failure.seconds
        return failure

    def _pause(self, reason: Reason, fails: int) -> float:
        policy = self._rooms.policy
        if not reason.is_kept:
            return policy.negative
        is_throttled = reason is Reason.THROTTLED
        first, longest = (
            (policy.throttled, policy.longest_throttled) if is_throttled else (policy.pause, policy.longest_pause)
        )
        return min(first * 2.0 ** min(fails - 1, 10), longest)


def _new_upload_id() -> str:
    return f"fetch-{uuid.uuid4().hex}"

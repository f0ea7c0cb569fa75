"""Uploads to S3: parts of a multipart upload, and before there is a whole part, bytes in the session or small objects.

Nothing is written for an upload that is finished within one part: its bytes go to their key in one request. Otherwise
parts of equal size are sent while the next one arrives, to the final key where that is known, else to
``.uploads/{id}/data``, from where the store copies it. What a writer leaves behind is in its state: the multipart
upload, the tags of its parts, and the bytes after them: up to TAIL_BYTES in the state itself, more as *pieces*, objects
``.uploads/{id}/{offset}-{random}`` that become part of the next part. Pieces are also where the bytes of a slow client
wait for the rest of their part, when their memory is needed.

An upload that was started as readable has no multipart upload before it is published: its parts are objects too,
*segments*, and the store copies them into the object that is published.

Tests: ``tests/storage/s3/test_driver.py``, ``tests/storage/test_driver_contract_readable.py``.
"""

from __future__ import annotations

from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING

from registry.storage.driver import CHUNK_SIZE, TAIL_BYTES, UploadState
from registry.storage.errors import ObjectTooLarge, PathNotFound, StorageError, UploadNotResumable, UploadOffsetMismatch
from registry.storage.keys import check_key
from registry.storage.object_store.driver import UPLOADS
from registry.storage.object_store.reader import ConcatenatedReader
from registry.storage.object_store.upload import PartedUpload
from registry.storage.s3.multipart import MOST_PARTS
from registry.storage.s3.upload_state import S3UploadState

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable

    from registry.storage.driver import ObjectReader, ObjectStat
    from registry.storage.object_store.objects import BucketObjects
    from registry.storage.object_store.parts import PartBuffers
    from registry.storage.s3.multipart import S3Multiparts


class S3UploadWriter(PartedUpload[S3UploadState]):
    """See PartedUpload."""

    senders = 2

    def __init__(self, objects: BucketObjects, multiparts: S3Multiparts, upload_id: str, buffers: PartBuffers) -> None:
        super().__init__(objects, upload_id, buffers)
        self._multiparts = multiparts
        self._final: str | None = None
        self._sealed: ObjectStat | None = None

    def resume(self, state: UploadState, *, offset: int, key: str | None = None) -> None:
        """See UploadWriter. Cannot rewind into a part that was already sent; offset 0 starts the upload over."""
        plan = S3UploadState.parse(state.note)
        filler = self._load(plan, state.tail, offset)
        if offset == 0 and (plan.target or plan.segments):
            abort(self._objects, self._multiparts, self._upload_id, plan)
            plan = S3UploadState(readable=plan.readable)
            filler.clear()
        if offset < plan.in_parts:
            raise UploadOffsetMismatch(self._upload_id, "the store cannot go back into a part that it has")
        while offset < plan.size:
            piece, size = plan.pieces.pop()
            plan.spent = True
            filler.clear()
            if offset > plan.size:
                filler.add(self._read_piece(piece, size))
        filler.cut(offset - plan.size)
        self._plan, self._filler, self._final = plan, filler, None if plan.readable else key
        self._sealed, self._lost = None, False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """See UploadWriter."""
        self._resumed()
        if self._sealed is not None and len(data):
            raise UploadOffsetMismatch(self._upload_id, "its parts have been put together")
        super().write(data)

    def spill(self) -> None:
        """See UploadWriter: a piece, which is read back when there is enough for a part. The second buffer goes too."""
        plan = self._resumed()
        self._wait()
        self._end_sender()
        if self._filler.size:
            self._put_piece(plan)

    def flush(self) -> UploadState:
        """See UploadWriter."""
        plan = self._resumed()
        self._check_kept(plan)
        if (plan.target or plan.readable) and self._room(plan) == 0:
            self._send(plan)  # whatever comes after it
        self._wait()
        if self._filler.size > TAIL_BYTES:
            self._put_piece(plan)
        self._own.difference_update(self._kept(plan))
        return UploadState(plan.note(), bytes(self._filler.view()))

    def read(self) -> ObjectReader:
        """See UploadWriter."""
        plan = self._resumed()
        self._check_kept(plan)
        if plan.target:
            self._seal(plan, replace=True)
            return self._objects.open(plan.target)
        readers = [self._objects.open(key) for key, _ in objects_of(self._upload_id, plan)]
        return ConcatenatedReader([*readers], bytes(self._filler.view()))

    def publish(self, key: str, *, replace: bool = False) -> ObjectStat:
        """See UploadWriter."""
        check_key(key)
        plan = self._resumed()
        if plan.segments:
            self._wait()
            with self._gathered(plan):
                segments = objects_of(self._upload_id, plan)
                return self._multiparts.join(segments, self._filler.whole(), key, replace=replace)
        if not plan.target:
            if len(plan.pieces) == 1 and not self._filler.size:
                return self._multiparts.copy(plan.pieces[0][0], key, plan.size)
            with self._gathered(plan):
                return self._objects.put_blob(key, self._filler.whole(), replace=replace)
        if not self._is_direct(plan):
            staged = self._seal(plan, replace=True)
            return self._multiparts.copy(plan.target, key, staged.size)
        if key != plan.target:
            raise UploadNotResumable(self._upload_id, "its bytes are gathered at another key")
        return self._seal(plan, replace=replace)

    def _abandon(self) -> None:
        """See PartedUpload. What was gathered at its key and not published goes too."""
        plan = self._plan
        if plan is not None and self._sealed is None and self._is_direct(plan):
            with suppress(StorageError):  # else expiry finds it
                abort(self._objects, self._multiparts, self._upload_id, plan)
        super()._abandon()

    def _kept(self, plan: S3UploadState) -> Iterable[str]:
        """See PartedUpload."""
        return (key for key, _ in objects_of(self._upload_id, plan))

    def _room(self, plan: S3UploadState) -> int:
        """See PartedUpload. Parts are of one size; pieces become part of the next."""
        return (plan.part_size or self._buffers.size) - plan.in_pieces - self._filler.size

    def _is_direct(self, plan: S3UploadState) -> bool:
        """Whether parts were sent to the final key: they must not be assembled before their hash is known."""
        return bool(plan.target) and plan.target == self._final

    def _check_kept(self, plan: S3UploadState) -> None:
        if self._is_direct(plan):
            raise UploadNotResumable(self._upload_id, "its bytes are gathered where they will be published")

    @contextmanager
    def _gathered(self, plan: S3UploadState) -> Generator[None]:
        """For a block that sends what is in memory: with the pieces read back in front of it."""
        if not plan.pieces:
            yield
            return
        with self._buffers.gathering():
            try:
                self._read_back(self._filler.put_before(plan.in_pieces), plan)
            except BaseException:
                self._filler.drop_before(plan.in_pieces)
                raise
            plan.pieces.clear()
            plan.spent = True
            yield

    def _read_back(self, room: memoryview, plan: S3UploadState) -> None:
        begin = 0
        with room:
            for piece, size in plan.pieces:
                with room[begin : begin + size] as view:
                    self._read_piece_into(view, piece)
                begin += size

    def _read_piece_into(self, room: memoryview, key: str) -> None:
        with self._objects.open(key) as reader:
            if reader.stat.size != len(room):
                raise PathNotFound(key, "it has another size than was noted")
            filled = 0
            while filled < len(room):
                with room[filled : filled + CHUNK_SIZE] as view:
                    filled += reader.read_into(view)

    def _read_piece(self, key: str, size: int) -> bytes:
        data, stat = self._objects.read(key, max_bytes=size)
        if stat.size != size:
            raise PathNotFound(key, "it has another size than was noted")
        return data

    def _put_piece(self, plan: S3UploadState) -> None:
        """Write what is in memory, all of it, to an object."""
        piece = self._new_key(plan.size)
        buffer = self._filler.detach()
        size = len(buffer)
        self._lost = True
        self._objects.put(piece, buffer)
        self._lost = False
        self._give(buffer)
        plan.pieces.append((piece, size))

    def _send(self, plan: S3UploadState) -> None:
        """See PartedUpload. Not beside the caller where pieces are read back: they take the memory of a second part."""
        if plan.readable:
            self._send_segment(plan)
            return
        if len(plan.tags) >= MOST_PARTS:
            most = MOST_PARTS * plan.part_size
            raise ObjectTooLarge(self._upload_id, f"more than {most} bytes; storage.s3.part_size decides how many")
        if not plan.target:
            plan.part_size = self._buffers.size
            target = self._final or f"{UPLOADS}{self._upload_id}/data"
            plan.multipart, plan.checked = self._multiparts.create(target)
            plan.target = target
        beside = not plan.pieces
        with self._gathered(plan):
            self._dispatch(partial(self._send_part, plan, plan.begin_part(), self._filler.detach()), beside=beside)

    def _send_segment(self, plan: S3UploadState) -> None:
        """Write a part to an object of its own, beside the caller as any part."""
        self._wait()  # they are noted in the order of their bytes
        plan.part_size = plan.part_size or self._buffers.size
        if len(plan.segments) >= MOST_PARTS - 1:
            most = (MOST_PARTS - 1) * plan.part_size
            raise ObjectTooLarge(self._upload_id, f"more than {most} bytes; storage.s3.part_size decides how many")
        beside = not plan.pieces
        with self._gathered(plan):
            self._dispatch(partial(self._put_segment, plan, self._filler.detach()), beside=beside)

    def _put_segment(self, plan: S3UploadState, segment: bytearray) -> None:
        key, size = self._new_key(plan.in_parts), len(segment)
        try:
            self._objects.put(key, segment)
        finally:
            self._give(segment)
        plan.segments.append((key.rpartition("/")[2], size))

    def _send_part(self, plan: S3UploadState, number: int, part: bytearray) -> None:
        try:
            sent = self._multiparts.send(plan.target, plan.multipart, number, part, checked=plan.checked)
        finally:
            self._give(part)
        plan.end_part(number, sent)

    def _seal(self, plan: S3UploadState, *, replace: bool) -> ObjectStat:
        """Put the parts together, once. Raises PathNotFound when the store has them no more."""
        if self._sealed is not None:
            return self._sealed
        size = plan.size + self._filler.size
        try:
            if self._filler.size or plan.pieces:
                self._send(plan)
            self._wait()
            self._sealed = self._multiparts.complete(plan.target, plan.multipart, plan.parts, size, replace=replace)
        except PathNotFound:
            # They were put together before, and the answer to that, or the note of it, was lost.
            stat = self._objects.stat(plan.target)
            if stat.size != size:
                raise
            self._sealed = stat
        return self._sealed


def objects_of(upload_id: str, plan: S3UploadState) -> list[tuple[str, int]]:
    """Keys and sizes of the objects with bytes of an upload, in order; parts of a multipart upload are no objects."""
    segments = [(f"{UPLOADS}{upload_id}/{name}", size) for name, size in plan.segments]
    return segments + plan.pieces


def abort(objects: BucketObjects, multiparts: S3Multiparts, upload_id: str, plan: S3UploadState) -> None:
    """Free what an upload has in the store. What was published stays."""
    if plan.target:
        multiparts.abort(plan.target, plan.multipart)
    staged = [plan.target] if plan.target.startswith(UPLOADS) else []
    if plan.spent:
        objects.delete([key for key, _ in objects.keys(f"{UPLOADS}{upload_id}/")])
    else:
        objects.delete([*staged, *(key for key, _ in objects_of(upload_id, plan))])

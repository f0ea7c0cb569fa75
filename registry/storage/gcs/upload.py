"""Uploads to Google Cloud Storage: parts are objects, and the store composes them into the one that is published.

Nothing is written for an upload that is finished within one part: its bytes go to their key in one request. Otherwise
parts are sent to ``.uploads/{id}/{offset}-{random}`` while the next one arrives. What a writer leaves behind is in its
state: the names and sizes of the parts, and up to TAIL_BYTES after them. 32 parts in a row are composed into one as
soon as they are there, so that a state names few of them and a publication takes two or three requests.

The store also has resumable upload sessions: one request for each part and none to compose or delete, no bytes that
are stored twice for a while. They were not chosen, because a session cannot go back: what a killed replica has sent
beyond the offset that was committed stays, and the client would have to send all of its upload again. Orphaned parts do
no harm. An upload also need not know its key before its first byte; the publishing request states its condition (the
key is free, or anything is there), and a second one may state another; and parts have any size.
The price: for ``n`` parts about ``n / 31 + 1`` compositions, one deletion for 100 objects, and on a bucket that keeps
deleted objects (soft delete, versions, classes with a least time) their bytes for that long.
"""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Self

from registry.storage.driver import CHUNK_SIZE, TAIL_BYTES, UploadState
from registry.storage.errors import ObjectTooLarge, StorageError, UploadNotResumable, UploadOffsetMismatch
from registry.storage.gcs.upload_state import MOST_SOURCES, GCSUploadState, Part
from registry.storage.keys import check_key
from registry.storage.object_store.parts import PartFiller
from registry.storage.object_store.reader import JoinedReader

if TYPE_CHECKING:
    from concurrent.futures import Future

    from registry.storage.driver import ObjectReader, ObjectStat
    from registry.storage.gcs.objects import GcsObjects
    from registry.storage.object_store.parts import PartBuffers

MOST_BYTES = 5 << 40
"""Bytes of one object, at most."""


class GcsUploadWriter:
    """See UploadWriter. Holds at most two parts in memory: one that is sent, and the next."""

    def __init__(self, objects: GcsObjects, upload_id: str, buffers: PartBuffers) -> None:
        self._objects = objects
        self._upload_id = upload_id
        self._buffers = buffers
        self._plan: GCSUploadState | None = None
        self._filler = PartFiller(buffers)
        self._own: set[str] = set()
        self._sender: ThreadPoolExecutor | None = None
        self._sending: Future[None] | None = None
        self._lost = False
        self._closed = False

    def resume(self, state: UploadState, *, offset: int, key: str | None = None) -> None:  # noqa: ARG002 - not needed
        """See UploadWriter. Where ``offset`` lies inside a part, the bytes before it are read back."""
        self._check_open()
        self._settle()
        plan, filler = GCSUploadState.parse(state.note), PartFiller(self._buffers)
        filler.add(state.tail)
        if offset > plan.size + filler.size:
            raise UploadOffsetMismatch(self._upload_id, f"{plan.size + filler.size} bytes are there, {offset} expected")
        within = None
        if offset < plan.size:
            filler.clear()
            within = plan.cut(offset)
        else:
            filler.cut(offset - plan.size)
        self._filler.clear()
        self._plan, self._filler, self._lost = plan, filler, False
        if within is not None:
            self._copy_back(*within)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """See UploadWriter."""
        plan = self._resumed()
        view = memoryview(data).cast("B")
        while view.nbytes:
            room = self._buffers.size - self._filler.size
            if room <= 0:
                self._send(plan)
                continue
            self._filler.add(view[:room])
            view = view[room:]

    @property
    def held(self) -> int:
        """See UploadWriter."""
        return self._filler.memory

    def spill(self) -> None:
        """See UploadWriter: a part, of whatever size. The second buffer goes too."""
        plan = self._resumed()
        if self._filler.size:
            self._send(plan)
        self._wait()
        self._end_sender()

    def flush(self) -> UploadState:
        """See UploadWriter."""
        plan = self._resumed()
        if self._filler.size > TAIL_BYTES:
            self._send(plan)
        self._wait()
        self._own.difference_update(part.name for part in plan.parts)
        return UploadState(plan.note(), bytes(self._filler.view()))

    def read(self) -> ObjectReader:
        """See UploadWriter."""
        plan = self._resumed()
        self._gather(plan, 1)
        if plan.parts:
            return self._objects.open(self._key(plan.parts[0].name))
        return JoinedReader([], bytes(self._filler.view()))

    def publish(self, key: str, *, replace: bool = False) -> ObjectStat:
        """See UploadWriter."""
        check_key(key)
        plan = self._resumed()
        self._gather(plan, MOST_SOURCES)
        if plan.parts:
            sources = [self._key(part.name) for part in plan.parts]
            return self._objects.compose_blob(sources, key, plan.size, replace=replace)
        return self._objects.put_blob(key, self._filler.whole(), replace=replace)

    def close(self) -> None:
        """See UploadWriter. Objects that no state names go."""
        if self._closed:
            return
        self._closed = True
        self._settle()
        self._end_sender()
        self._filler.clear()
        with suppress(StorageError):  # else expiry finds them
            self._objects.delete([self._key(name) for name in self._own])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # ----

    def _check_open(self) -> None:
        if self._closed:
            raise ValueError("the upload writer is closed")

    def _resumed(self) -> GCSUploadState:
        self._check_open()
        if self._plan is None:
            raise ValueError("an upload is resumed before it is written to")
        if self._lost:
            raise UploadNotResumable(
                self._upload_id, "a part could not be sent, and the bytes since the last flush are lost"
            )
        return self._plan

    def _key(self, name: str) -> str:
        return f".uploads/{self._upload_id}/{name}"

    def _new_name(self, offset: int) -> str:
        name = f"{offset}-{uuid.uuid4().hex[:12]}"
        self._own.add(name)
        return name

    def _copy_back(self, name: str, size: int) -> None:
        """Take the first bytes of a part that was dropped as if they came from the client."""
        with self._objects.open(self._key(name), length=size) as reader:
            while data := reader.read(CHUNK_SIZE):
                self.write(data)

    def _gather(self, plan: GCSUploadState, most: int) -> None:
        """Have all bytes in at most so many parts; in memory, where there is no part yet."""
        self._wait()
        if plan.parts and self._filler.size:
            self._send(plan)
            self._wait()
        while len(plan.parts) > most:
            self._merge(plan, min(MOST_SOURCES, len(plan.parts) - most + 1))

    def _send(self, plan: GCSUploadState) -> None:
        """Send what is in memory as the next part: in the background where there is a second buffer to fill."""
        self._wait()
        if plan.size + self._filler.size > MOST_BYTES:
            raise ObjectTooLarge(self._upload_id, f"more than {MOST_BYTES} bytes")
        part = self._filler.detach()
        if self._sender is None and self._buffers.take_spare():
            self._sender = ThreadPoolExecutor(1, thread_name_prefix="part")
        if self._sender is not None:
            self._sending = self._sender.submit(self._send_part, plan, part)
            return
        self._lost = True
        self._send_part(plan, part)
        self._lost = False

    def _send_part(self, plan: GCSUploadState, data: bytearray) -> None:
        size = len(data)
        name = self._new_name(plan.size)
        try:
            self._objects.put(self._key(name), data)
        finally:
            if size == self._buffers.size:
                self._buffers.give(data)
        plan.parts.append(Part(name, size, 0))
        while count := plan.due():
            self._merge(plan, count)

    def _merge(self, plan: GCSUploadState, count: int) -> None:
        """Have the store make one part of the last ones."""
        merged = plan.parts[-count:]
        size = sum(part.size for part in merged)
        name = self._new_name(plan.size - size)
        self._objects.compose([self._key(part.name) for part in merged], self._key(name), size)
        plan.merge(count, name)

    def _end_sender(self) -> None:
        """Give the right to a second buffer back."""
        sender, self._sender = self._sender, None
        if sender is not None:
            sender.shutdown(wait=True)
            self._buffers.give_spare()

    def _wait(self) -> None:
        """Wait for the part that is on its way. One that failed is lost with everything after it."""
        sending, self._sending = self._sending, None
        if sending is not None:
            self._lost = True
            sending.result()
            self._lost = False

    def _settle(self) -> None:
        """Wait for the part that is on its way, whatever became of it."""
        with suppress(StorageError):
            self._wait()

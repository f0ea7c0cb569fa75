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

from functools import partial
from typing import TYPE_CHECKING

from registry.storage.driver import CHUNK_SIZE
from registry.storage.errors import ObjectTooLarge
from registry.storage.gcs.upload_state import MOST_SOURCES, GCSUploadState, Part
from registry.storage.keys import check_key
from registry.storage.object_store.driver import UPLOADS
from registry.storage.object_store.reader import ConcatenatedReader
from registry.storage.object_store.upload import PartedUpload

if TYPE_CHECKING:
    from collections.abc import Iterable

    from registry.storage.driver import ObjectReader, ObjectStat, UploadState
    from registry.storage.gcs.objects import GcsObjects

MOST_BYTES = 5 << 40
"""Bytes of one object, at most."""


class GcsUploadWriter(PartedUpload[GCSUploadState]):
    """See PartedUpload."""

    _objects: GcsObjects

    def resume(self, state: UploadState, *, offset: int, key: str | None = None) -> None:  # noqa: ARG002 - not needed
        """See UploadWriter. Where ``offset`` lies inside a part, the bytes before it are read back."""
        plan = GCSUploadState.parse(state.note)
        filler = self._load(plan, state.tail, offset)
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

    def read(self) -> ObjectReader:
        """See UploadWriter."""
        plan = self._resumed()
        self._gather(plan, 1)
        if plan.parts:
            return self._objects.open(self._key(plan.parts[0]))
        return ConcatenatedReader([], bytes(self._filler.view()))

    def publish(self, key: str, *, replace: bool = False) -> ObjectStat:
        """See UploadWriter."""
        check_key(key)
        plan = self._resumed()
        self._gather(plan, MOST_SOURCES)
        if plan.parts:
            return self._objects.compose_blob(list(map(self._key, plan.parts)), key, plan.size, replace=replace)
        return self._objects.put_blob(key, self._filler.whole(), replace=replace)

    def _kept(self, plan: GCSUploadState) -> Iterable[str]:
        """See PartedUpload."""
        return map(self._key, plan.parts)

    def _key(self, part: Part) -> str:
        return f"{UPLOADS}{self._upload_id}/{part.name}"

    def _copy_back(self, part: Part, size: int) -> None:
        """Take the first bytes of a part that was dropped as if they came from the client."""
        with self._objects.open(self._key(part), length=size) as reader:
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
        """See PartedUpload. The part before is there, so that what becomes one is known."""
        self._wait()
        if plan.size + self._filler.size > MOST_BYTES:
            raise ObjectTooLarge(self._upload_id, f"more than {MOST_BYTES} bytes")
        self._dispatch(partial(self._send_part, plan, self._filler.detach()))

    def _send_part(self, plan: GCSUploadState, data: bytearray) -> None:
        size = len(data)
        key = self._new_key(plan.size)
        try:
            self._objects.put(key, data)
        finally:
            self._give(data)
        plan.parts.append(Part(_name_of(key), size, 0))
        while count := plan.due():
            self._merge(plan, count)

    def _merge(self, plan: GCSUploadState, count: int) -> None:
        """Have the store make one part of the last ones."""
        merged = plan.parts[-count:]
        size = sum(part.size for part in merged)
        key = self._new_key(plan.size - size)
        self._objects.compose(list(map(self._key, merged)), key, size)
        plan.merge(count, _name_of(key))


def _name_of(key: str) -> str:
    """As a state names the object of a part."""
    return key.rpartition("/")[2]

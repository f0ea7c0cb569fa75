"""*Reader*: the bytes of a fetch for one client, from memory, from what is kept, or from the blob.

Tests: ``tests/images/fetching/test_hub.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from registry.storage.driver import UploadState
from registry.storage.errors import PathNotFound, StorageUnavailable, UploadOffsetMismatch

if TYPE_CHECKING:
    from collections.abc import Callable

    from registry.database.mirrors.fetches import Kept
    from registry.images.blobs import Blobs
    from registry.images.fetching.fetch import Claimant, Fetch
    from registry.images.fetching.watch import Watch
    from registry.storage.driver import ObjectReader, StorageDriver


class FetchReader:
    """A client of a fetch. A context manager; for one thread at a time. ``watch`` may be called beside ``read``."""

    def __init__(
        self,
        fetch: Fetch,
        client: Claimant,
        driver: StorageDriver,
        blobs: Blobs,
        proved: Callable[[], object] = bool,
        is_ahead: Callable[[Claimant], object] = bool,
    ) -> None:
        """It is one of the clients of ``fetch`` once that has added ``client``; ``proved`` hears of a proof.

        ``is_ahead`` hears of a range that is far from what has come.
        """
        self.fetch = fetch
        self.client = client
        self._proved = proved
        self._is_ahead = is_ahead
        self._driver = driver
        self._blobs = blobs
        self._reader: ObjectReader | None = None
        self._begin = self._readable = 0
        """From where and up to where ``_reader`` reads."""
        self._upload_id: str | None = None
        """That of what is open; None for the blob."""

    def want(self, begin: int = 0, stop: int | None = None) -> None:
        """Say which bytes are wanted, before any is read: up to ``stop``, or to the end of the blob."""
        with self.fetch.lock:
            self.client.want(begin, stop)
            passing = self.client.passing
        if passing is not None:
            passing.want(begin, stop)
        else:
            self._is_ahead(self.client)

    @property
    def is_done(self) -> bool:
        """Whether all that is wanted was read."""
        passing = self.client.passing
        return passing.is_done if passing is not None else self.fetch.is_done(self.client)

    @property
    def needs_proof(self) -> bool:
        """Whether bytes come for another repository, and nothing has shown yet that this one's upstream has them.

        It is known when ``watch_head`` calls, and may come again later. Then show it and ``prove``, or close.
        """
        with self.fetch.lock:
            return self.client.passing is None and self.fetch.needs_proof(self.client)

    def prove(self) -> None:
        """The upstream has the blob in the client's own repository: its clients may have the bytes."""
        self.fetch.prove(self.client.repository)
        self._proved()

    def watch_head(self, wake: Callable[[], object]) -> Watch | None:
        """Have ``wake`` called, in any thread, when ``head`` gives an answer; None where it does already."""
        return self.fetch.watch(lambda: self.fetch.has_head(self.client), wake)

    def watch(self, wake: Callable[[], object]) -> Watch | None:
        """Have ``wake`` called, in any thread, when there may be bytes, the end or an error; None where there are."""
        passing = self.client.passing
        if passing is not None:
            return passing.watch(wake)
        return self.fetch.watch(lambda: self.fetch.is_ready(self.client), wake)

    def head(self) -> tuple[int, str | None]:
        """Bytes of the blob, and the media type that the upstream has told. Raises FetchFailed, ProofNeeded.

        Raises BlockingIOError while that is not known.
        """
        with self.fetch.lock:
            passing = self.client.passing
            if passing is not None and passing.size is not None:
                self.client.size = passing.size
                return passing.size, passing.media_type
            self.fetch.check(self.client)
            if self.fetch.size is None or not self.fetch.has_head(self.client):
                raise BlockingIOError
            self.client.size = self.fetch.size
            return self.fetch.size, self.fetch.media_type

    def read(self, size: int) -> bytes:
        """What there is, at most ``size`` bytes; empty at the end, or where there is nothing yet: watch it then.

        It may wait for the store, for no upstream. Raises FetchFailed, ProofNeeded, StorageError, BlobUnknown.
        """
        fetch, client = self.fetch, self.client
        with fetch.lock:
            if client.passing is not None:
                return client.passing.read(size)
            fetch.check(client)
            if client.repository not in fetch.proven:
                return b""
            edition, limit, position = fetch.edition, fetch.limit(client), client.position
            size = min(size, limit - position)
            if size <= 0:
                return b""
            client.has_begun = True
            if fetch.ring is not None and fetch.has_in_ring(client):
                data = fetch.ring.read(position, size)
                fetch.advance(client, len(data), edition)  # under this lock: a leader that is fenced looks at it
                return data
            kept = fetch.kept if fetch.has_kept(client) else None
            is_member = client.repository in fetch.members
        data = self._read_stored(position, size, limit if is_member else None, kept)
        fetch.advance(client, len(data), edition)
        return data

    def close(self) -> None:
        """Leave."""
        self.fetch.leave(self.client)
        if self.client.passing is not None:
            self.client.passing.close()
        self._close_reader()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _read_stored(self, position: int, size: int, blob_stop: int | None, kept: Kept | None) -> bytes:
        """Bytes of the blob up to ``blob_stop``, where the repository has it, else of what is kept."""
        if self._reader is None or not self._begin == position < self._readable:
            self._close_reader()
            if blob_stop is not None:
                self._open_blob(position, blob_stop)
            elif kept is None or not self._open_kept(kept, position):
                return b""
            self._begin = position
        data = self._read_on(min(size, self._readable - position))
        self._begin += len(data)
        return data

    def _open_blob(self, position: int, limit: int) -> None:
        blob = self._blobs.open(self.client.repository, self.fetch.digest)
        self._reader, self._readable = self._blobs.read(blob, offset=position, length=limit - position), limit
        self._upload_id = None

    def _open_kept(self, kept: Kept, position: int) -> bool:
        """False where the upload is gone."""
        state = UploadState(kept.note, kept.tail)
        try:
            self._reader = self._driver.read_upload(kept.upload_id, state, size=kept.offset, offset=position)
        except (PathNotFound, UploadOffsetMismatch):
            self.client.lost_upload = kept.upload_id
            return False
        self._upload_id, self._readable = kept.upload_id, kept.offset
        return True

    def _read_on(self, size: int) -> bytes:
        """Bytes of what is open already. An upload that is gone is one that was published, as a rule."""
        assert self._reader is not None  # noqa: S101 - see the caller
        try:
            return self._reader.read(size)
        except StorageUnavailable:
            if self._upload_id is None:
                raise
            self.client.lost_upload = self._upload_id
            self._close_reader()
            return b""

    def _close_reader(self) -> None:
        reader, self._reader, self._readable = self._reader, None, 0
        if reader is not None:
            reader.close()

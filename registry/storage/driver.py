"""The contract of a storage driver: one interface, one contract suite, what differs between stores is data (I10).

Keys are relative POSIX paths below the root directory (``team/app/index.json``): never absolute, without empty
segments, ``.``, ``..`` or NUL, else ValueError. What a driver keeps for itself (uploads, locks, temporary names) has no
key and is in no listing: ``.uploads`` and ``.locks`` at the root, and segments that begin with ``.tmp-``.
Every method is synchronous and may be called from any thread. Unless its docstring says otherwise a method is
idempotent, and a call that raises or is killed leaves either the old or the new state, never a part of one (I1, I8).

Tests: ``tests/storage/test_driver_contract.py``, ``tests/storage/test_driver_contract_uploads.py``.
"""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol, Self, runtime_checkable

from registry.storage.errors import StorageError, UnsupportedOperation

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

CHUNK_SIZE = 1 << 20
"""Bytes that one read or write of a blob moves at most, on every path (I9)."""


TAIL_BYTES = 256 << 10
"""Bytes of an upload that may be kept with its session and not in the store."""


class BlobLayout(enum.Enum):
    """Where a store keeps the bytes of a blob."""

    PER_REPOSITORY = "per-repository"
    """``{repository}/blobs/{algorithm}/{encoded}``: each repository is a whole OCI image layout; links share bytes."""
    SHARED = "shared"
    """``storage/blobs/{algorithm}/{encoded}``: one object for all repositories."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a store can do, as data. Code above the driver branches on these and on nothing else."""

    blob_layout: BlobLayout
    stat_is_local: bool
    """A stat takes microseconds and costs nothing, so every HEAD makes one (I6)."""
    appends: bool
    """``append`` works; where it does not, each record is an object of its own."""
    links: bool
    """``link`` shares the bytes of an object under a second key."""
    exclusive_uploads: bool
    """The store knows its uploads, and gives each to one writer at a time, in whatever process."""
    conditional_writes: bool
    """``write`` honours ``if_etag`` and ``if_absent`` against every other writer."""
    external_writers: bool
    """Other tools may write into the layout while the registry runs; etags are compared to notice it."""
    copies: bool = False
    """``copy`` works: the store copies an object by itself."""
    presigned: bool = False
    """``presign`` makes addresses at which clients read without the registry."""
    part_bytes: int = 0
    """Memory that an open upload holds at most until it spills: that of a part, where a store takes parts."""
    copy_bytes: int = 0
    """Bytes of the largest object that is copied by one request to the store; 0: of any."""
    copy_part_bytes: int = 1
    """Bytes of each part of a larger one: a request each, and two more."""
    readable_uploads: bool = False
    """``read_upload`` works: every process reads what a writer has flushed while the upload grows."""
    delete_batch: int = 1
    """Objects that the store deletes with one request."""
    late_deletes: bool = False
    """A ``delete_once`` whose answer was not seen may be carried out minutes later, whatever the object is by then."""


FILE_SYSTEM = Capabilities(
    blob_layout=BlobLayout.PER_REPOSITORY,
    stat_is_local=True,
    appends=True,
    links=True,
    exclusive_uploads=True,
    conditional_writes=True,
    external_writers=True,
    readable_uploads=True,
)
"""What a directory can do; a driver that differs says how by ``replace``."""
OBJECT_STORE = Capabilities(
    blob_layout=BlobLayout.SHARED,
    stat_is_local=False,
    appends=False,
    links=False,
    exclusive_uploads=False,
    conditional_writes=True,
    external_writers=False,
    late_deletes=True,
)
"""What the least of object stores can do; likewise."""


class ObjectStat(NamedTuple):
    """What is known of an object without reading it."""

    size: int
    """Bytes."""
    etag: str
    """Changes whenever the object has other bytes: inode, mtime and size; an ETag; a generation."""
    modified: float
    """Seconds since the epoch; of an object that was just written, by this machine's clock."""

    def is_same(self, other: ObjectStat) -> bool:
        """Whether both are of one version of an object."""
        return self.size == other.size and self.etag == other.etag


class LinkedStat(NamedTuple):
    """What is known of an object, and of the names that share its bytes."""

    stat: ObjectStat
    links: int
    """Names that the bytes have, also such as no key leads to; 1 where each object has bytes of its own."""


@dataclass(frozen=True, slots=True)
class Child:
    """One name directly below a prefix."""

    name: str
    is_prefix: bool
    """More keys lie below it."""
    is_link: bool = False
    """It is a symbolic link: no object and no prefix, because it is not followed."""


class UploadState(NamedTuple):
    """What a driver has to know of an upload to go on with it, in any process: kept with its session."""

    note: str = ""
    """Text of at most 512 KiB."""
    tail: bytes = b""
    """The last bytes, at most TAIL_BYTES: where a store cannot keep so few, or not for so little."""


@dataclass(frozen=True, slots=True)
class UploadEntry:
    """An upload (or another temporary object) that storage holds."""

    upload_id: str
    modified: float
    """Seconds since the epoch of the last write."""


@runtime_checkable
class ObjectReader(Protocol):
    """An open object. Not shared between threads. Close it; it is a context manager.

    The bytes are those of one version of the object, also when it is replaced or deleted meanwhile.
    """

    stat: ObjectStat

    def read(self, size: int) -> bytes:
        """At most ``size`` more bytes of the requested range; ``b""`` at its end. Raises StorageError, also midway.

        A range that ends early (the object shrank or cannot be read) raises: a reader never ends short in silence.
        """
        ...

    def fileno(self) -> int | None:
        """A file descriptor of the whole object, to be read by position, or None where the bytes are not in a file."""
        ...

    def close(self) -> None:
        """Free what the reader holds. May be called twice."""
        ...

    def __enter__(self) -> Self: ...
    def __exit__(self, *exc: object) -> None: ...


@runtime_checkable
class FillingReader(Protocol):
    """What an ObjectReader may do as well."""

    def read_into(self, buffer: memoryview) -> int:
        """As ``read``, into a buffer, which is filled unless the range or a connection ends; 0 at its end."""
        ...


class UploadWriter(Protocol):
    """The exclusive right to one upload. Not shared between threads. Close it; it is a context manager.

    The right ends with ``close``, and with the process that holds it: a killed writer blocks no other. Order for a
    caller: open, read the session's row, ``resume`` at its offset, write, ``flush``, commit the new offset and state,
    close. So a second writer can never drop bytes that the first has committed. Without
    ``capabilities.exclusive_uploads`` there may be several writers: each has what it wrote for itself, and the state
    that is committed first counts.
    """

    @property
    def is_new(self) -> bool:
        """Whether the store had no byte of it when this was opened, so that nothing can have been kept.

        False where it does not say.
        """
        ...

    def resume(self, state: UploadState, *, offset: int, key: str | None = None) -> None:
        """Go on at ``offset`` of an upload with this state; bytes beyond it (of a writer that died) are dropped.

        ``key``, where it is known already, is where the upload will be published: a store may gather it there, and can
        then neither keep nor ``read`` it. Raises UploadOffsetMismatch when fewer bytes are there, or when the store
        cannot go back to ``offset``; PathNotFound when the upload was discarded meanwhile.
        """
        ...

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Add bytes at the end; only after ``resume``. ``data`` may be reused by the caller once this returns.

        Raises StorageFull, StorageError; then a part of ``data`` may have been added, which the next ``resume`` drops.
        """
        ...

    @property
    def held(self) -> int:
        """Bytes of memory with what was written, which ``spill`` frees."""
        ...

    def spill(self) -> None:
        """Bring what is in memory to the store: its client is slow, and other uploads need the memory.

        Nothing is kept by this alone: ``flush`` still says what counts. Raises as ``write`` does.
        """
        ...

    def flush(self) -> UploadState:
        """Keep what was written, for every process that has the returned state.

        Raises UploadNotResumable where the bytes are gathered at the ``key`` that ``resume`` was given.
        """
        ...

    def read(self) -> ObjectReader:
        """A reader of all bytes so far, to hash them. Nothing is written any more after this.

        Raises UploadNotResumable as ``flush`` does.
        """
        ...

    def publish(self, key: str, *, replace: bool = False) -> ObjectStat:
        """Make all bytes so far the object ``key``, atomically and durably (I1), replacing what is there.

        An object of the same size may be left in place, because keys of blobs are named after their bytes; never with
        ``replace``. The caller has hashed the bytes. The upload itself stays until ``discard_upload``, so that this can
        be repeated, by another writer with the flushed state too. Going on with it never touches what was published.
        Raises PathNotFound when the upload was discarded, UploadNotResumable for another key than ``resume`` was given.
        """
        ...

    def close(self) -> None:
        """Give the right back. May be called twice."""
        ...

    def __enter__(self) -> Self: ...
    def __exit__(self, *exc: object) -> None: ...


class StorageDriver(ABC):
    """Objects by key, and uploads that become objects."""

    name: str
    """Short, for logs and metric labels: ``local``, ``memory``, ``s3``, ``gcs``."""
    capabilities: Capabilities

    @property
    def serving(self) -> StorageDriver:
        """This store as clients are served from it: bytes of a digest may come from a copy that is as good.

        What is to prove something of the store itself reads without it.
        """
        return self

    # ---- objects

    @abstractmethod
    def stat(self, key: str) -> ObjectStat:
        """Raises PathNotFound."""

    def stat_links(self, key: str) -> LinkedStat:
        """As ``stat``, with the number of names that share its bytes. Objects that share them have one etag."""
        return LinkedStat(self.stat(key), 1)

    @abstractmethod
    def read(self, key: str, *, max_bytes: int) -> tuple[bytes, ObjectStat]:
        """The whole of a small object (manifest, index). Raises PathNotFound, ObjectTooLarge."""

    @abstractmethod
    def open(self, key: str, *, offset: int = 0, length: int | None = None) -> ObjectReader:
        """A reader of at most ``length`` bytes from ``offset`` (to the end when None). Raises PathNotFound.

        The range ends where the object ends; from an offset beyond that it is empty.
        """

    @abstractmethod
    def write(self, key: str, data: bytes, *, if_etag: str | None = None, if_absent: bool = False) -> ObjectStat:
        """Replace or create a small object, atomically and durably, creating what prefixes it needs.

        With ``if_etag`` only over that version (PreconditionFailed when it is another or gone); with ``if_absent``
        only where nothing is (AlreadyExists). Both hold against all processes that use this driver.
        """

    def append(self, key: str, data: bytes) -> None:
        """Add ``data`` (whole lines) to the end of an object, durably, creating it where it is missing.

        Concurrent appends, from any process, are never mixed; their order is not promised. After a kill the last append
        may be cut short: readers skip a line that does not parse, and the next append begins a line of its own. Not
        idempotent. Raises UnsupportedOperation unless ``capabilities.appends``.
        """
        raise UnsupportedOperation(key, f"{self.name} cannot append {len(data)} bytes")

    @abstractmethod
    def list(self, prefix: str, *, after: str = "") -> Iterator[tuple[str, ObjectStat]]:
        """Every object whose key starts with the directory ``prefix`` (``""``: all), recursively, sorted by key.

        Only keys that sort after ``after``. A missing prefix is empty. What is added or deleted meanwhile may or may
        not be seen; any error raises (I7).
        """

    @abstractmethod
    def children(self, prefix: str) -> Iterator[Child]:
        """The names directly below the directory ``prefix`` (``""``: the root), sorted, dot names included."""

    @abstractmethod
    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects, durably; a missing one is no error. Directories left empty may stay."""

    @abstractmethod
    def delete_once(self, key: str, *, etag: str, deadline: float) -> None:
        """Delete one object, durably, with one attempt that begins before ``deadline`` (``clocks.boot_seconds``).

        ``etag`` is of the version that is meant. A store that can tell them apart by more than their bytes deletes no
        other one: PreconditionFailed. A missing object is no error. Raises NotSent where nothing was asked of the
        store, also when the deadline has passed. StorageUnavailable (but PathRefused) and Throttled leave open whether
        the object was deleted, and with ``capabilities.late_deletes`` whether it will be; it was not after any other
        error.
        """

    def delete_several(self, objects: Sequence[tuple[str, str]], *, deadline: float) -> Sequence[StorageError | None]:
        """As ``delete_once`` of each key with its etag; what that raised for each, None where it did not.

        Where a directory is made durable for many names at once this is cheaper. Raises nothing by itself.
        """
        return [self._error_of(key, etag, deadline) for key, etag in objects]

    def _error_of(self, key: str, etag: str, deadline: float) -> StorageError | None:
        try:
            self.delete_once(key, etag=etag, deadline=deadline)
        except StorageError as error:
            return error
        return None

    def link(self, source: str, target: str) -> ObjectStat:
        """Make ``target`` an object with the bytes of ``source``, replacing atomically and durably, sharing the bytes.

        Where the store cannot share these two (another file system, too many links) the bytes are cloned or copied, and
        that is logged once. Raises PathNotFound when ``source`` is gone, UnsupportedOperation unless
        ``capabilities.links``.
        """
        raise UnsupportedOperation(target, f"{self.name} cannot link it to {source}")

    def copy(self, source: str, target: str, *, size: int, if_etag: str) -> ObjectStat:
        """Make ``target``, another key, an object with the bytes of ``source``, replacing atomically and durably.

        The store copies: no byte passes through this process. It copies that version of the source alone, with ``size``
        bytes of any number: PreconditionFailed if there is another, PathNotFound if it is gone. An object at ``target``
        is replaced: stores have no condition on it. The bytes are not hashed: a caller that relies on them
        reads them. Parts that a killed copy to the same target left are dropped, so one copy at a time is made to a
        target. Raises UnsupportedOperation unless ``capabilities.copies``.
        """
        raise UnsupportedOperation(target, f"{self.name} cannot copy {size} bytes of {source} at {if_etag}")

    def presign(self, key: str, *, seconds: int) -> str:
        """An address where anybody can GET the object for so long; nothing is asked of the store.

        Raises UnsupportedOperation unless ``capabilities.presigned``.
        """
        raise UnsupportedOperation(key, f"{self.name} cannot make it readable for {seconds} s")

    # ---- uploads

    @abstractmethod
    def start_upload(self, upload_id: str, *, readable: bool = False) -> UploadState:
        """Begin an empty upload; ``upload_id`` is of letters, digits, ``_`` and ``-``, else ValueError.

        With ``readable``, which its state keeps, ``read_upload`` gives its bytes before it is published, and a writer
        may ``flush`` and ``read`` it also where it knows its key; a store may need more requests for that. It has no
        effect unless ``capabilities.readable_uploads``.
        """

    @abstractmethod
    def open_upload(self, upload_id: str) -> UploadWriter:
        """Take the exclusive right to an upload.

        Raises PathNotFound (no such upload), UploadBusy (at once; never waits). Without
        ``capabilities.exclusive_uploads`` it raises neither: a caller that has a state may open it.
        """

    def has_upload(self, upload_id: str) -> bool:
        """Whether there is such an upload. Takes no right: a look keeps no writer out.

        Raises UnsupportedOperation unless ``capabilities.exclusive_uploads``.
        """
        raise UnsupportedOperation(upload_id, f"{self.name} does not know its uploads")

    def read_upload(
        self,
        upload_id: str,
        state: UploadState,  # noqa: ARG002 - for a driver that has it
        *,
        size: int,
        offset: int = 0,
    ) -> ObjectReader:
        """A reader of the bytes from ``offset`` to ``size`` of an upload that was started as ``readable``.

        ``state`` is what a writer flushed when it had at least ``size`` bytes, and committed. No right is taken: the
        writer goes on meanwhile, in whatever process, and one that resumes at ``size`` or later leaves these bytes as
        they are. The reader stays good when the upload is published; once it was discarded, ``read`` may raise
        StorageUnavailable. Raises PathNotFound (the upload was discarded), UploadOffsetMismatch (fewer bytes are
        there), UnsupportedOperation unless ``capabilities.readable_uploads``.
        """
        raise UnsupportedOperation(upload_id, f"{self.name} gives no bytes of an upload ({offset} to {size})")

    @abstractmethod
    def discard_upload(self, upload_id: str, state: UploadState | None = None) -> None:
        """Free an upload; ``state`` as it was last flushed, None if it is unknown. A missing one is no error."""

    @abstractmethod
    def uploads(self) -> Iterator[UploadEntry]:
        """Every upload and other temporary object that storage holds, for the collection of abandoned ones.

        ``discard_upload(entry.upload_id)`` frees one.
        """

    # ---- the store

    @abstractmethod
    def check(self) -> None:
        """Raises StorageError when the store does not work now. Cheap enough for a readiness probe."""

    @abstractmethod
    def close(self) -> None:
        """Free connections and descriptors. May be called twice."""

"""*Parted upload*: a writer that fills a part in memory, and sends it while the next one fills."""

from __future__ import annotations

import uuid
from abc import ABC, abstractmethod
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, ClassVar, Generic, Protocol, Self, TypeVar

from registry.cores import cores
from registry.storage.driver import TAIL_BYTES, UploadState
from registry.storage.errors import StorageError, UploadNotResumable, UploadOffsetMismatch
from registry.storage.keys import check_upload_id
from registry.storage.object_store.driver import UPLOADS
from registry.storage.object_store.parts import PartFiller

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from concurrent.futures import Future

    from registry.storage.driver import ObjectReader, ObjectStat
    from registry.storage.object_store.objects import BucketObjects
    from registry.storage.object_store.parts import PartBuffers


class Plan(Protocol):
    """What a store holds of an upload."""

    @property
    def size(self) -> int:
        """Bytes in the store."""
        ...

    def note(self) -> str:
        """For a state: empty where the store holds nothing."""
        ...


P = TypeVar("P", bound=Plan)


class PartedUpload(ABC, Generic[P]):
    """See UploadWriter. Holds at most two parts in memory: one that is sent, and the next.

    The driver of a store says how a part is sent, and how an upload is resumed (``_load``), read and published
    (``_wait``, and then all parts are there). It sends with ``_dispatch``, under keys of ``_new_key``.
    """

    senders: ClassVar[int] = 1
    """Parts that may be on their way at once."""
    is_new = False
    """See UploadWriter: the state says what the store has."""

    def __init__(self, objects: BucketObjects, upload_id: str, buffers: PartBuffers) -> None:
        check_upload_id(upload_id)
        self._objects = objects
        self._upload_id = upload_id
        self._buffers = buffers
        self._plan: P | None = None
        self._filler = PartFiller(buffers)
        self._sender: ThreadPoolExecutor | None = None
        self._sending: deque[Future[None]] = deque()
        self._own: set[str] = set()
        """Keys of objects that no state names."""
        self._lost = False
        """Bytes that were taken are neither in the store nor in memory."""
        self._closed = False

    # ---- what a store does

    @abstractmethod
    def resume(self, state: UploadState, *, offset: int, key: str | None = None) -> None:
        """See UploadWriter."""

    @abstractmethod
    def read(self) -> ObjectReader:
        """See UploadWriter."""

    @abstractmethod
    def publish(self, key: str, *, replace: bool = False) -> ObjectStat:
        """See UploadWriter."""

    @abstractmethod
    def _send(self, plan: P) -> None:
        """Send what is in memory as the next part."""

    @abstractmethod
    def _kept(self, plan: P) -> Iterable[str]:
        """The keys that its state names."""

    def _room(self, plan: P) -> int:  # noqa: ARG002 - not every store needs it
        """Bytes that fit into the part that is filled."""
        return self._buffers.size - self._filler.size

    def _abandon(self) -> None:
        """Free what no state names; the writer is closed."""
        with suppress(StorageError):  # else expiry finds it
            self._objects.delete(self._own)

    # ---- what follows

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """See UploadWriter."""
        plan = self._resumed()
        view = memoryview(data).cast("B")
        while view.nbytes:
            room = self._room(plan)
            if room <= 0:
                self._send(plan)
                continue
            if not self._filler.size:
                self._wait(left=1)  # one is on its way at most while the next is filled
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
        self._own.difference_update(self._kept(plan))
        return UploadState(plan.note(), bytes(self._filler.view()))

    def close(self) -> None:
        """See UploadWriter. What no state names goes."""
        if self._closed:
            return
        self._closed = True
        self._settle()
        self._end_sender()
        self._filler.clear()
        self._abandon()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _check_open(self) -> None:
        if self._closed:
            raise ValueError("the upload writer is closed")

    def _resumed(self) -> P:
        self._check_open()
        if self._plan is None:
            raise ValueError("an upload is resumed before it is written to")
        if self._lost:
            raise UploadNotResumable(
                self._upload_id, "a part could not be sent, and the bytes since the last flush are lost"
            )
        return self._plan

    def _load(self, plan: P, tail: bytes, offset: int) -> PartFiller:
        """Begin to resume: the bytes of a state that are not in the store.

        Raises UploadOffsetMismatch when ``offset`` is beyond them.
        """
        self._check_open()
        self._settle()
        filler = PartFiller(self._buffers)
        filler.add(tail)
        there = plan.size + filler.size
        if offset > there:
            raise UploadOffsetMismatch(self._upload_id, f"{there} bytes are there, {offset} expected")
        return filler

    def _new_key(self, offset: int) -> str:
        """The key of an object with bytes from ``offset``, which no state names yet."""
        key = f"{UPLOADS}{self._upload_id}/{offset}-{uuid.uuid4().hex[:12]}"
        self._own.add(key)
        return key

    def _dispatch(self, send: Callable[[], None], *, beside: bool = True) -> None:
        """Send a part: ``beside`` the caller where there is a second buffer to fill. One that fails is lost."""
        if beside and self._sender is None and self._buffers.take_spare():
            self._sender = ThreadPoolExecutor(self.senders, "part", cores.use_all)
        if beside and self._sender is not None:
            self._sending.append(self._sender.submit(send))
            return
        self._lost = True
        send()
        self._lost = False

    def _give(self, buffer: bytearray) -> None:
        """Give back what ``_filler.detach`` took, once it is sent."""
        if len(buffer) == self._buffers.size:
            self._buffers.give(buffer)

    def _wait(self, *, left: int = 0) -> None:
        """Wait until ``left`` parts are on their way. One that failed is lost with everything after it."""
        while len(self._sending) > left:
            lost, self._lost = self._lost, True
            self._sending.popleft().result()
            self._lost = lost

    def _settle(self) -> None:
        """Wait for the parts that are on their way, whatever became of them."""
        while self._sending:
            with suppress(StorageError):
                self._wait()

    def _end_sender(self) -> None:
        """Give the right to a second buffer back."""
        sender, self._sender = self._sender, None
        if sender is not None:
            sender.shutdown(wait=True)
            self._buffers.give_spare()

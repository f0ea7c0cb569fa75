"""Uploads to S3: parts of a multipart upload, and before there is a whole part, bytes in the session or small objects.

Nothing is written for an upload that is finished within one part: its bytes go to their key in one request. Otherwise
parts of equal size are sent while the next one arrives, to the final key where that is known, else to
``.uploads/{id}/data``, from where the store copies it. What a writer leaves behind is in its state: the multipart
upload, the tags of its parts, and the bytes after them: up to TAIL_BYTES in the state itself, more as *pieces*, objects
``.uploads/{id}/{offset}`` that become part of the next part.
"""

from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Self

import orjson

from registry.storage.driver import TAIL_BYTES, UploadState
from registry.storage.errors import UploadOffsetMismatch
from registry.storage.joined_reader import JoinedReader
from registry.storage.keys import check_key

if TYPE_CHECKING:
    from concurrent.futures import Future

    from registry.storage.driver import ObjectReader, ObjectStat
    from registry.storage.s3 import S3Driver

COPY_BYTES = 5 << 30
"""Bytes that one request can copy."""


@dataclasses.dataclass
class Plan:
    """What is in the store of an upload."""

    target: str = ""
    """Where the parts go; empty: there are none."""
    multipart: str = ""
    """The store's name of the multipart upload."""
    part_size: int = 0
    tags: list[str] = dataclasses.field(default_factory=list)
    """Of the parts."""
    pieces: list[tuple[str, int]] = dataclasses.field(default_factory=list)
    """Keys and sizes of what comes after the parts."""
    sealed: int = -1
    """Size of the whole, once the parts were put together at ``target``."""

    @classmethod
    def parse(cls, note: str) -> Plan:
        """From a state."""
        if not note:
            return cls()
        plan = cls(**orjson.loads(note))
        plan.pieces = [(key, size) for key, size in plan.pieces]
        return plan

    def note(self) -> str:
        """For a state."""
        return orjson.dumps(dataclasses.asdict(self)).decode() if self.target or self.pieces else ""

    @property
    def in_parts(self) -> int:
        """Bytes in whole parts."""
        return len(self.tags) * self.part_size

    @property
    def size(self) -> int:
        """Bytes in the store."""
        return self.in_parts + sum(size for _, size in self.pieces)


class S3UploadWriter:
    """See UploadWriter. Holds at most two parts in memory: one that is sent, and the next."""

    def __init__(self, driver: S3Driver, upload_id: str, part_size: int) -> None:
        self._driver = driver
        self._upload_id = upload_id
        self._part_size = part_size
        self._plan: Plan | None = None
        self._final: str | None = None
        self._buffer = bytearray()
        self._sender: ThreadPoolExecutor | None = None
        self._sending: Future[str] | None = None
        self._closed = False

    def resume(self, state: UploadState, *, offset: int, key: str | None = None) -> None:
        """See UploadWriter. Going back into a part that is sent already is not possible."""
        self._check_open()
        plan, buffer = Plan.parse(state.note), bytearray(state.tail)
        if offset > plan.size + len(buffer):
            raise UploadOffsetMismatch(self._upload_id, f"{plan.size + len(buffer)} bytes are there, {offset} expected")
        if offset == 0 and plan.target:
            self._driver.abort(plan)
            plan = Plan()
        while offset < plan.size and plan.pieces:
            key_of_piece, size = plan.pieces.pop()
            wanted = max(0, offset - plan.size)
            buffer = bytearray(self._driver.read(key_of_piece, max_bytes=size)[0][:wanted])
        if offset < plan.size:
            raise UploadOffsetMismatch(self._upload_id, "the store cannot go back into a part that it has")
        del buffer[offset - plan.size :]
        self._plan, self._buffer, self._final = plan, buffer, key

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """See UploadWriter."""
        plan = self._resumed()
        view = memoryview(data).cast("B")
        while view.nbytes:
            room = self._size_of_part(plan) - (plan.size - plan.in_parts) - len(self._buffer)
            if room <= 0:
                self._send(plan)
                continue
            self._buffer += view[:room]
            view = view[room:]

    def flush(self) -> UploadState:
        """See UploadWriter."""
        plan = self._resumed()
        self._sent(plan)
        if len(self._buffer) <= TAIL_BYTES:
            return UploadState(plan.note(), bytes(self._buffer))
        key = f".uploads/{self._upload_id}/{plan.size}"
        self._driver.put(key, bytes(self._buffer))
        plan.pieces.append((key, len(self._buffer)))
        self._buffer.clear()
        return UploadState(plan.note())

    def read(self) -> ObjectReader:
        """See UploadWriter."""
        plan = self._resumed()
        if plan.target:
            self._seal(plan, self._staging(plan))
            return self._driver.open_raw(plan.target)
        readers = [self._driver.open_raw(key) for key, _ in plan.pieces]
        return JoinedReader([*readers], bytes(self._buffer))

    def publish(self, key: str) -> ObjectStat:
        """See UploadWriter."""
        check_key(key)
        plan = self._resumed()
        if plan.target:
            stat = self._seal(plan, plan.target)
            return stat if plan.target == key else self._driver.copy(plan.target, key, stat.size)
        if len(plan.pieces) == 1 and not self._buffer:
            return self._driver.copy(plan.pieces[0][0], key, plan.size)
        self._gather(plan)
        return self._driver.put_blob(key, bytes(self._buffer))

    def close(self) -> None:
        """See UploadWriter. A part that is on its way is waited for: it is in nobody's state, and does no harm."""
        self._closed = True
        if self._sender is not None:
            self._sender.shutdown(wait=True)
        self._buffer = bytearray()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # ----

    def _check_open(self) -> None:
        if self._closed:
            raise ValueError("the upload writer is closed")

    def _resumed(self) -> Plan:
        self._check_open()
        if self._plan is None:
            raise ValueError("an upload is resumed before it is written to")
        return self._plan

    def _size_of_part(self, plan: Plan) -> int:
        return plan.part_size or self._part_size

    def _staging(self, plan: Plan) -> str:
        """Where parts can be put together before anybody knows that they are right."""
        if plan.target != f".uploads/{self._upload_id}/data":
            raise UploadOffsetMismatch(self._upload_id, "its parts cannot be read before they are published")
        return plan.target

    def _gather(self, plan: Plan) -> None:
        """Read the pieces back, in front of what is in the buffer."""
        if plan.pieces:
            before = b"".join(self._driver.read_raw(key, size) for key, size in plan.pieces)
            self._buffer[:0] = before
            plan.pieces.clear()

    def _send(self, plan: Plan) -> None:
        """Begin to send the buffer as the next part; the one before has been sent then."""
        if not plan.target:
            plan.target = self._final or f".uploads/{self._upload_id}/data"
            plan.part_size = self._part_size
            plan.multipart = self._driver.create_multipart(plan.target)
        self._gather(plan)
        self._sent(plan)
        if self._sender is None:
            self._sender = ThreadPoolExecutor(1, thread_name_prefix="part")
        part, self._buffer = bytes(self._buffer), bytearray()
        self._sending = self._sender.submit(
            self._driver.upload_part, plan.target, plan.multipart, len(plan.tags) + 1, part
        )
        plan.tags.append("")

    def _sent(self, plan: Plan) -> None:
        """Wait for the part that is on its way."""
        sending, self._sending = self._sending, None
        if sending is not None:
            plan.tags[-1] = sending.result()

    def _seal(self, plan: Plan, target: str) -> ObjectStat:
        """Put the parts together, once."""
        if plan.sealed < 0:
            size = plan.size + len(self._buffer)
            if self._buffer or plan.pieces:
                self._send(plan)
            self._sent(plan)
            plan.sealed = size
        return self._driver.complete_multipart(target, plan.multipart, plan.tags, plan.sealed)

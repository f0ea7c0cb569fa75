"""*Directory store*: a directory as an object store, without links, appends and cheap stats; whole objects, flat names.

It shows what a driver has to bring: objects with conditions and listings, and how parts of an upload become one object.
"""

from __future__ import annotations

import fcntl
import io
import json
import os
import uuid
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

from registry.config.sections import GcsSettings
from registry.storage.deadlines import require_time
from registry.storage.driver import OBJECT_STORE, ObjectStat
from registry.storage.errors import InvalidRange, PathNotFound, PreconditionFailed, UploadOffsetMismatch
from registry.storage.keys import check_key
from registry.storage.object_store.driver import BucketDriver
from registry.storage.object_store.objects import ABSENT, BucketObjects, Page
from registry.storage.object_store.parts import PartBuffers
from registry.storage.object_store.reader import ConcatenatedReader, Flushed
from registry.storage.object_store.retry import Retry
from registry.storage.object_store.upload import PartedUpload

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from registry.storage.driver import ObjectReader, UploadState
    from registry.storage.middleware.metrics import Kind, Observe

CAPABILITIES = replace(OBJECT_STORE, part_bytes=1 << 20, delete_batch=10, readable_uploads=True)
SETTINGS = GcsSettings(bucket="none")  # how long it is waited for: settings of its own would say so likewise
VERSION = 32  # bytes of its version, before those of each object


class Bytes(io.BytesIO):
    """See Body."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.length = len(data)

    read_into = io.BytesIO.readinto


class DirectoryObjects(BucketObjects):
    """See BucketObjects."""

    most_deleted = CAPABILITIES.delete_batch

    def __init__(self, root: Path, observe: Observe | None) -> None:
        super().__init__(Retry("directory", SETTINGS, observe))
        self._lock, self._objects = root / "lock", root / "objects"
        self._objects.mkdir(parents=True, exist_ok=True)

    def stat(self, key: str) -> ObjectStat:
        with self.retry.request(key, "stat", "head"):
            return self._read(key)[1]

    def get(self, key: str, start: int, end: int | None, version: str = "") -> tuple[ObjectStat, Bytes]:
        with self.retry.request(key, "get", "get"):
            data, stat = self._read(key)
        if version and version != stat.etag:
            raise PreconditionFailed(key)
        if start and start >= stat.size:
            raise InvalidRange(key)
        return stat, Bytes(data[start:end])

    def put_once(
        self, key: str, data: bytes | bytearray, over: str | None = None, *, sha256: str | None = None
    ) -> ObjectStat:
        with self._change(key, "put", "put"):
            return self._put(key, (data,), over)

    def compose(self, sources: list[str], key: str, over: str | None) -> ObjectStat:
        """Put objects together, as one object; raises PathNotFound when one of them is gone."""
        with self._change(key, "compose", "put"):
            return self._put(key, [self._read(source)[0] for source in sources], over)

    def pages(self, prefix: str, *, after: str = "", delimiter: str = "", most: int) -> Iterator[Page]:
        with self.retry.request(prefix, "list", "list"):
            keys = sorted(unquote(path.name) for path in self._objects.iterdir())
        found = [key for key in keys if key.startswith(prefix) and key > after]
        for begin in range(0, len(found), most):
            page = Page([], prefixes := [])
            for key in found[begin : begin + most]:
                name, cut, _ = key[len(prefix) :].partition(delimiter or "\0")
                with suppress(PathNotFound):  # it was deleted meanwhile
                    prefixes.append(f"{prefix}{name}{cut}") if cut else page.objects.append((key, self._read(key)[1]))
            yield page

    def delete_some(self, keys: list[str]) -> None:
        with self._change(keys[0], "delete", "delete"):
            for key in keys:
                self._path(key).unlink(missing_ok=True)

    def delete_once(self, key: str, version: str, deadline: float) -> None:
        require_time(key, deadline)
        with self._change(key, "delete", "delete"):
            if self._read(key)[1].etag != version:
                raise PreconditionFailed(key)
            self._path(key).unlink()

    @contextmanager
    def _change(self, key: str, operation: str, kind: Kind) -> Iterator[None]:
        """A request that is the only one to change anything, in all processes."""
        with self.retry.request(key, operation, kind), self._lock.open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _put(self, key: str, pieces: Iterable[bytes | bytearray], over: str | None) -> ObjectStat:
        there = ABSENT
        with suppress(PathNotFound):
            there = self._read(key)[1].etag
        if over not in {None, there}:
            raise PreconditionFailed(key)
        written = self._lock.with_name(uuid.uuid4().hex)
        written.write_bytes(b"".join((uuid.uuid4().hex.encode(), *pieces)))
        written.rename(self._path(key))
        return self._read(key)[1]

    def _read(self, key: str) -> tuple[bytes, ObjectStat]:
        try:
            with self._path(key).open("rb") as file:
                version, data, modified = file.read(VERSION).decode(), file.read(), os.fstat(file.fileno()).st_mtime
        except OSError as error:
            raise PathNotFound(key) from error
        return data, ObjectStat(len(data), version, modified)

    def _path(self, key: str) -> Path:
        return self._objects / quote(key, safe="")


class Parts(dict[str, int]):
    """See Plan. The size of each part by its key."""

    @property
    def size(self) -> int:
        return sum(self.values())

    def note(self) -> str:
        return json.dumps(self) if self else ""


class DirectoryUpload(PartedUpload[Parts]):
    """See PartedUpload. Each part is an object."""

    _objects: DirectoryObjects

    def resume(self, state: UploadState, *, offset: int, key: str | None = None) -> None:
        plan = Parts(json.loads(state.note or "{}"))
        filler = self._load(plan, state.tail, offset)
        if not offset:
            self._own.update(plan)
            plan.clear()
            filler.clear()
        if offset < plan.size:
            raise UploadOffsetMismatch(self._upload_id, "the store cannot go back into a part")
        filler.cut(offset - plan.size)
        self._plan, self._filler, self._lost = plan, filler, False

    def read(self) -> ObjectReader:
        plan = self._resumed()
        self._wait()
        return ConcatenatedReader([self._objects.open(key) for key in plan], bytes(self._filler.view()))

    def publish(self, key: str, *, replace: bool = False) -> ObjectStat:
        check_key(key)
        plan = self._resumed()
        self._wait()
        if not plan:
            return self._objects.put_blob(key, self._filler.whole(), replace=replace)
        self.spill()
        return self._objects.create(key, plan.size, partial(self._objects.compose, [*plan], key), replace=replace)

    def _kept(self, plan: Parts) -> Iterable[str]:
        return plan

    def _send(self, plan: Parts) -> None:
        self._wait()
        self._dispatch(partial(self._send_part, plan, self._filler.detach()))

    def _send_part(self, plan: Parts, data: bytearray) -> None:
        key, size = self._new_key(plan.size), len(data)
        self._objects.put(key, data)
        self._give(data)
        plan[key] = size


class DirectoryStore(BucketDriver):
    """See BucketDriver."""

    name = "directory"

    def __init__(self, root: Path, observe: Observe | None = None) -> None:
        self._buffers = PartBuffers(CAPABILITIES.part_bytes, spare=2)
        super().__init__(DirectoryObjects(root, observe), CAPABILITIES)

    def open_upload(self, upload_id: str) -> DirectoryUpload:
        return DirectoryUpload(self._objects, upload_id, self._buffers)

    def _flushed(self, upload_id: str, state: UploadState) -> Flushed:
        return Flushed([*json.loads(state.note or "{}").items()], state.tail)

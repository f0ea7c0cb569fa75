"""Metrics for a driver: how long each operation took, and whether it failed."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import TYPE_CHECKING, Final, Literal, TypeVar

from registry.storage.errors import (
    AlreadyExists,
    ObjectTooLarge,
    PathNotFound,
    PreconditionFailed,
    UploadBusy,
    UploadOffsetMismatch,
)
from registry.storage.middleware.base import DriverDecorator

if TYPE_CHECKING:
    from registry.storage.driver import ObjectStat, StorageDriver

T = TypeVar("T")

Kind = Literal["list", "head", "get", "put", "copy", "delete"]
"""As what a store bills a request."""
Observe = Callable[[str, str, Kind | None, float, bool], None]
"""Called with the driver's name, the operation, its kind (None if it is no request), its seconds, whether it failed.

An operation is what the store calls a request; of a driver without requests it is one of DriverDecorator.around.
"""

_KINDS: Final[dict[str, Kind]] = {
    "list": "list",
    "children": "list",
    "stat": "head",
    "stat_links": "head",
    "read": "get",
    "open": "get",
    "write": "put",
    "copy": "copy",
    "delete": "delete",
    "delete_once": "delete",
    "delete_several": "delete",
}

_ANSWERS = (AlreadyExists, ObjectTooLarge, PathNotFound, PreconditionFailed, UploadBusy, UploadOffsetMismatch)
"""Errors by which a working store answers a question; every other exception is a failure."""


class MeasuredDriver(DriverDecorator):
    """Reports every operation to ``observe``, in the thread that did it, also those of readers and writers."""

    def __init__(self, inner: StorageDriver, observe: Observe) -> None:
        super().__init__(inner)
        self._observe = observe
        self._stat = inner.stat

    def stat(self, key: str) -> ObjectStat:
        """See StorageDriver. As ``around`` does it, without its closure: each HEAD of a blob comes through here."""
        begin = perf_counter()
        try:
            found = self._stat(key)
        except Exception as error:
            self._observe(self.name, "stat", "head", perf_counter() - begin, not isinstance(error, _ANSWERS))
            raise
        self._observe(self.name, "stat", "head", perf_counter() - begin, False)  # noqa: FBT003 - as Observe has it
        return found

    def around(self, operation: str, key: str, call: Callable[[], T]) -> T:  # noqa: ARG002 - keys are no metric label
        """See DriverDecorator."""
        begin = perf_counter()
        failed = True
        try:
            result = call()
            failed = False
        except _ANSWERS:
            failed = False
            raise
        finally:
            self._observe(self.name, operation, _KINDS.get(operation), perf_counter() - begin, failed)
        return result

"""*Completion*: the parts of an object put together, and what became of that where its answer was lost.

A store may take longer for it than it is waited for, and then a second request proves nothing: one store answers 200 to
it while the first is still under way, and may fail (versitygw 1.8). Another may work on both, and take away what one
has made to put there what the other has. So a request that was not answered in time is not sent again: its object is
looked for. One that was refused, or whose connection broke, is sent again; what that answers counts once the object is
there.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from registry.storage.driver import ObjectStat
from registry.storage.errors import PathNotFound, StorageUnavailable, Throttled, Unanswered
from registry.storage.s3.responses import text_of

if TYPE_CHECKING:
    from registry.storage.s3.client import S3Bucket
    from registry.storage.s3.objects import S3Objects
    from registry.storage.s3.requests import S3Request


class Completion:
    """One, of one thread."""

    def __init__(
        self, bucket: S3Bucket, objects: S3Objects, target: str, size: int, before: ObjectStat | None = None
    ) -> None:
        """``before``: what is at ``target`` and has that size, and is to be replaced; None if nothing is."""
        self._bucket = bucket
        self._objects = objects
        self._target = target
        self._size = size
        self._before = before
        self._doubtful = False
        """A request was sent that may have been carried out."""

    def make(self, request: S3Request) -> ObjectStat:
        """The object that ``request`` puts together. Raises StorageError, and PathNotFound if its parts have gone."""
        made = self._bucket.retry.repeat(self._target, lambda: self._attempt(request))
        return made or self._bucket.retry.wait_for(self._target, self._require)

    def _attempt(self, request: S3Request) -> ObjectStat | None:
        """None if the store does not say whether it was made."""
        if self._doubtful and (made := self._made()) is not None:
            return made
        try:
            tag = text_of(self._target, self._bucket.ask_once(self._target, request), "ETag")
        except Unanswered:
            return None
        except (StorageUnavailable, Throttled):
            self._doubtful = True
            raise
        except PathNotFound:
            made = self._made() if self._doubtful else None
            if made is None:
                raise
            return made
        return self._made() if self._doubtful else ObjectStat(self._size, tag, time.time())

    def _require(self) -> ObjectStat:
        made = self._made()
        if made is None:
            raise StorageUnavailable(self._target, "the store does not say whether its parts were put together")
        return made

    def _made(self) -> ObjectStat | None:
        """The object, if it is there now; one as it was before may be what was to be replaced."""
        there = self._objects.same(self._target, self._size)
        if there is None or (self._before is not None and there.etag == self._before.etag):
            return None
        return there

"""*Throttle*: how many wrong passwords a user may get from one address.

A bucket for each pair of both, which a wrong password drains and time fills: nothing is locked for another address, so
that no stranger can keep a user out.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from time import monotonic
from typing import TYPE_CHECKING, Final, NamedTuple

from registry.images.uploads.session_ids import crowd_of

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_BUCKETS: Final = 10_000
"""Pairs that are remembered; beyond, the one that was used longest ago is full again."""


class _Bucket(NamedTuple):
    left: float
    """Wrong passwords that are allowed now."""
    at: float


class Throttle:
    """For one thread. Its memory is bounded whatever clients send."""

    def __init__(self, failures: int, seconds: float, clock: Callable[[], float] = monotonic) -> None:
        """``failures`` at once, and as many again in ``seconds``."""
        self._failures = float(failures)
        self._rate = failures / seconds
        self._clock = clock
        self._buckets: OrderedDict[bytes, _Bucket] = OrderedDict()

    def take(self, user: str, address: str | None) -> bool:
        """Whether one more password may be tried; counted as wrong until ``give_back``."""
        key = _key(user, address)
        bucket = self._filled(key)
        if bucket.left < 1:
            return False
        self._put(key, bucket._replace(left=bucket.left - 1))
        return True

    def has_left(self, user: str, address: str | None) -> bool:
        """Whether ``take`` would allow one more password now."""
        return self._filled(_key(user, address)).left >= 1

    def give_back(self, user: str, address: str | None) -> None:
        """The one that was taken was not wrong, or was not tried."""
        key = _key(user, address)
        bucket = self._filled(key)
        self._put(key, bucket._replace(left=bucket.left + 1))

    def _filled(self, key: bytes) -> _Bucket:
        now = self._clock()
        bucket = self._buckets.get(key)
        if bucket is None:
            return _Bucket(self._failures, now)
        passed = max(0.0, now - bucket.at)  # a clock that is set back takes nothing away
        return _Bucket(min(self._failures, bucket.left + passed * self._rate), now)

    def _put(self, key: bytes, bucket: _Bucket) -> None:
        if bucket.left >= self._failures:
            self._buckets.pop(key, None)
            return
        self._buckets[key] = bucket
        self._buckets.move_to_end(key)
        if len(self._buckets) > MAX_BUCKETS:
            self._buckets.popitem(last=False)


def _key(user: str, address: str | None) -> bytes:
    """A hash: it has one size, however long the name is that a client makes up."""
    return hashlib.blake2b(f"{crowd_of(address)} {user}".encode(), digest_size=16).digest()

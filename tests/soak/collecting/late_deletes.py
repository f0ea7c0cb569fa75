"""*Late deletes*: a store that answers a delete with an error, and carries it out later."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Self
from urllib.parse import unquote, urlsplit

from tests.soak.collecting.times import LATE, UNCLEAR

if TYPE_CHECKING:
    import random
    from types import TracebackType

    from tests.support.fault_proxy import FaultProxy
    from tests.support.s3_server import S3Server

LOOK = 0.02
"""Seconds between two looks at what the proxy was sent."""
_OURS = "storage/blobs/"
_KIND = "DeleteObject"


class LateDeletes:
    """A proxy's store, which is late now and then from ``begin`` on. A context manager."""

    def __init__(self, proxy: FaultProxy, store: S3Server, chance: random.Random) -> None:
        self._proxy = proxy
        self._client = store.client()
        self._chance = chance
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._carry_out, name="late-deletes", daemon=True)
        self._failure: BaseException | None = None
        self.carried_out = 0

    def strike(self) -> None:
        """Have the next deletes of blobs go wrong: an error and late, or done and the answer lost."""
        way = self._chance.choice((500, 503, None))
        if way is None:
            self._proxy.fail(_KIND, path_contains=_OURS, after=True, times=1)
        else:
            self._proxy.fail(_KIND, path_contains=_OURS, status=way, times=self._chance.randint(1, 3))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._proxy.clear()
        self._ended.set()
        self._thread.join(LATE + UNCLEAR)
        self._client.close()
        if error is None and self._failure is not None:
            raise AssertionError("a late delete failed") from self._failure

    def _carry_out(self) -> None:
        """What the proxy has answered itself goes to the store, some time later."""
        try:
            due: list[tuple[float, str]] = []
            seen = 0
            while due or not self._ended.is_set():
                calls = self._proxy.calls()
                due += [
                    (time.monotonic() + self._chance.uniform(0.05, LATE), call.target)
                    for call in calls[seen:]
                    if call.kind == _KIND and call.status in {500, 503} and _OURS in call.target
                ]
                seen = len(calls)
                now = time.monotonic()
                for at, target in [each for each in due if each[0] <= now]:
                    due.remove((at, target))
                    if now - at < (UNCLEAR - LATE) / 2:  # this thread was not held up for longer than a store may be
                        bucket, _, key = unquote(urlsplit(target).path).lstrip("/").partition("/")
                        self._client.delete_object(Bucket=bucket, Key=key)
                        self.carried_out += 1
                time.sleep(LOOK)
        except BaseException as failure:  # noqa: BLE001 - shown by the test, in its own thread
            self._failure = failure

"""*Passings*: the clients of one mirror that have their bytes from its upstream beside a fetch, and their threads.

Tests: ``tests/images/fetching/test_passing.py``.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

import structlog

from registry.images.fetching.content import ContentReplaced, FetchFailed, Reason
from registry.images.fetching.passing import Passing
from registry.interruption import Interrupted

if TYPE_CHECKING:
    from collections.abc import Callable

    from registry.images.fetching.fetch import Claimant, Fetch

THREADS: Final = 4

log = structlog.get_logger(__name__)


class Passings:
    """Any thread."""

    def __init__(self, most: int) -> None:
        """``most`` clients at a time."""
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="pass")
        self._most = most
        self._lock = threading.Lock()
        self._open: set[Passing] = set()

    def begin(self, fetch: Fetch, client: Claimant, passed: Callable[[], object]) -> bool:
        """Ask the upstream for a client, which has its bytes from there if that answers; ``passed`` is called then.

        False where there are too many of them.
        """
        passing = Passing(fetch.sources[client.repository], fetch.digest, self._run, self._ended)
        with self._lock:
            if len(self._open) >= self._most:
                return False
            self._open.add(passing)
        try:
            self._threads.submit(self._begin, fetch, client, passing, passed)
        except RuntimeError:  # the threads have ended
            self._ended(passing)
        return True

    def close(self) -> None:
        """Cut all of them."""
        with self._lock:
            passings = list(self._open)
        for passing in passings:
            passing.fail(FetchFailed(Reason.STOPPED, "this process ends"))
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _run(self, work: Callable[[], None]) -> None:
        self._threads.submit(work)

    def _ended(self, passing: Passing) -> None:
        with self._lock:
            self._open.discard(passing)

    def _begin(self, fetch: Fetch, client: Claimant, passing: Passing, passed: Callable[[], object]) -> None:
        with fetch.lock:
            begin, stop = client.position, client.stop
        try:
            passing.open(begin, stop)
        except (FetchFailed, ContentReplaced, Interrupted) as error:
            log.info("bytes cannot be passed on", mirror=fetch.mirror, digest=fetch.digest, reason=str(error))
            passing.close()  # it waits for the fetch
            return
        except BaseException:
            passing.close()
            raise
        if fetch.pass_on(client, passing, (begin, stop)):
            passed()
        else:
            passing.close()

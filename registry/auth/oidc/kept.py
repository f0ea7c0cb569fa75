"""*Kept*: what a provider publishes, fetched when it is wanted and kept.

The provider is asked seldom, whatever clients send: once in an hour, once in a minute for what is not in there (a
client can invent that), and once in a few seconds while it does not answer. What is kept outlives its silence.

Tests: ``tests/auth/oidc/test_provider_keys.py``, ``tests/auth/oidc/test_endpoints.py``.
"""

from __future__ import annotations

import threading
from time import monotonic
from typing import TYPE_CHECKING, Final, Generic, TypeVar

import structlog

from registry.auth.key_set import KeySetInvalid
from registry.auth.oidc.documents import FetchFailed
from registry.oci.errors import Unavailable
from registry.waiting import aside

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

FRESH: Final = 3600.0
"""Seconds after which what is kept is fetched anew."""
LOOK_AGAIN: Final = 60.0
"""Seconds between two fetches while something is kept: for what is not in it, or after a failure."""
RETRY: Final = 5.0
"""Seconds between two fetches while nothing is."""
WAITING: Final = 4
"""Callers that wait for the first fetch, at most: each has a thread."""

log = structlog.get_logger(__name__)


class Kept(Generic[T]):
    """Any thread."""

    def __init__(self, issuer: str, load: Callable[[], T], clock: Callable[[], float] = monotonic) -> None:
        """``load`` asks the provider. It raises FetchFailed or KeySetInvalid."""
        self._issuer = issuer
        self._load = load
        self._clock = clock
        self._kept: T | None = None
        self._fetched = self._tried = float("-inf")
        self._fetching = threading.Lock()
        self._waiting = threading.BoundedSemaphore(WAITING)

    def get(self) -> T:
        """What is kept, fetched first if there is nothing. Raises Unavailable."""
        if self._kept is None:
            self._wait_for_first()
        elif self._clock() - self._fetched >= FRESH:
            return self.look_again()
        return self._known()

    def look_again(self) -> T:
        """What the provider publishes now. While another caller fetches, and within LOOK_AGAIN, it is what is kept.

        Raises Unavailable.
        """
        if self._kept is not None and self._fetching.acquire(blocking=False):
            try:
                self._refresh(LOOK_AGAIN)
            finally:
                self._fetching.release()
        return self._known()

    def _known(self) -> T:
        if self._kept is None:
            raise Unavailable("the identity provider does not answer; try again shortly", headers={"Retry-After": "5"})
        return self._kept

    def _wait_for_first(self) -> None:
        if self._waiting.acquire(blocking=False):
            try:
                with aside, self._fetching:
                    if self._kept is None:
                        self._refresh(RETRY)
            finally:
                self._waiting.release()

    def _refresh(self, pause: float) -> None:
        now = self._clock()
        if now - self._tried < pause:
            return
        self._tried = now
        try:
            self._kept = self._load()
            self._fetched = now
        except (FetchFailed, KeySetInvalid) as error:
            self._tried = self._clock()  # callers that waited for this do not begin anew
            log.warning("a document of an identity provider cannot be had", issuer=self._issuer, reason=str(error))

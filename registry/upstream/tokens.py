"""*Tokens* of upstreams, in the memory of one process: one login at a time for each, however many callers want it.

Tests: ``tests/upstream/test_authenticator.py``.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final, NamedTuple

from cachetools import LRUCache

from registry.upstream.renewal import Held, Renewal

if TYPE_CHECKING:
    from collections.abc import Callable

KEPT: Final = 10_000
"""Tokens: as a rule one for each repository of an upstream."""


class TokenKey(NamedTuple):
    """What a token is good for. A token is never used under another key."""

    mirror: str
    """Another mirror has its own rights, also at the same upstream."""
    realm: str
    service: str
    scope: str
    credential: bytes
    """Hash of the credential; empty where it is asked for without."""


class TokenCache:
    """Any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tokens: LRUCache[TokenKey, Renewal[str]] = LRUCache(KEPT)

    def get(self, key: TokenKey, load: Callable[[float], tuple[str, float]], seconds: float) -> Held[str]:
        """The token of a key, within ``seconds``; ``load`` asks for one, as Renewal has it. Raises UpstreamError.

        The first ``load`` of a key is kept with it, and renews its token.
        """
        with self._lock:
            renewal = self._tokens.get(key)
            if renewal is None:
                renewal = self._tokens[key] = Renewal(load)
        return renewal.get(seconds)

    def reject(self, key: TokenKey, held: Held[str]) -> None:
        """A server does not accept this token: the next caller gets a new one."""
        with self._lock:
            renewal = self._tokens.get(key)
        if renewal is not None:
            renewal.reject(held)

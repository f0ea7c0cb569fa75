"""*Verified credentials*: what proved an identity a moment ago, so that it is not verified again for each request.

An entry is found by a keyed hash of the credentials, never by these. It ends after a while, or as soon as what was
verified has changed: each hit asks for that in memory.
"""

from __future__ import annotations

import hashlib
import secrets
from collections import OrderedDict
from time import time
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from registry.auth.identity import Identity

MAX_ENTRIES: Final = 10_000
"""Beyond, the entry that was used longest ago goes."""


class Currency(Protocol):
    """Tells what has changed since something was verified. It asks nothing and does not wait."""

    @property
    def generation(self) -> str:
        """Another one whenever a credential was revoked that only a look elsewhere tells from the rest."""
        ...

    def is_current(self, identity: Identity, generation: str) -> bool:
        """Whether an identity that was verified under ``generation`` still holds."""
        ...


class _Entry(NamedTuple):
    identity: Identity
    until: float
    generation: str


class VerifiedCredentials:
    """For one event loop. Only successes are in it."""

    def __init__(self, currency: Currency, remember: float, clock: Callable[[], float] = time) -> None:
        """``remember``: seconds after which credentials are verified anew in any case."""
        self._currency = currency
        self._remember = remember
        self._clock = clock
        self._secret = secrets.token_bytes(64)
        self._entries: OrderedDict[bytes, _Entry] = OrderedDict()

    def key(self, *parts: bytes) -> bytes:
        """What finds the entry of credentials: the bytes of a header, or their parts. It tells nothing of them."""
        return hashlib.blake2b(b"\0".join(parts), key=self._secret, digest_size=32).digest()

    def get(self, key: bytes) -> Identity | None:
        """The identity that they proved; None if they have to be verified."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if entry.until <= self._clock() or not self._currency.is_current(entry.identity, entry.generation):
            del self._entries[key]
            return None
        self._entries.move_to_end(key)
        return entry.identity

    def add(self, key: bytes, identity: Identity, until: float, generation: str) -> None:
        """Remember an identity until then at most.

        ``generation`` is the one before the verification began: what is revoked during it is not remembered.
        """
        now = self._clock()
        self._entries[key] = _Entry(identity, min(until, now + self._remember), generation)
        self._entries.move_to_end(key)
        if len(self._entries) > MAX_ENTRIES:
            self._entries.popitem(last=False)

    def __len__(self) -> int:
        return len(self._entries)

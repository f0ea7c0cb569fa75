"""*Verified credentials*: what proved an identity a moment ago, so that it is not verified again for each request.

An entry is found by a keyed hash of the credentials, never by these. It ends after a while, or as soon as what was
verified has changed: each hit asks for that in memory.

Tokens have a place of their own, since any client may get as many as it wants: they take none from passwords and keys,
which cost a hash or a read of storage when they are verified again.
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
"""Tokens, and as many passwords and keys; beyond, the entry that was used longest ago goes."""
MAX_BYTES: Final = 32 << 20
"""Memory for tokens with what they say; beyond, the same."""
MAX_OF_ONE: Final = 16
"""Passwords and keys of one identity: a key is good with every user name, and Basic can be written in many ways."""
_OVERHEAD: Final = 1024
_BYTES_PER_CHARACTER: Final = 4
"""What a token says takes no more in memory."""


class Currency(Protocol):
    """Tells what has changed since something was verified. It asks nothing and does not wait."""

    @property
    def generation(self) -> str:
        """Another one whenever a credential was revoked that only a look elsewhere tells from the rest."""
        ...

    def is_current(self, identity: Identity, generation: str) -> bool:
        """Whether an identity that was verified under ``generation`` still holds."""
        ...


class Verification(NamedTuple):
    """What credentials proved, and when. It is good only as long as ``VerifiedCredentials.holds`` says so."""

    key: bytes
    """What finds it."""
    identity: Identity
    until: float
    """When the credentials are verified anew in any case, in seconds since the epoch."""
    generation: str
    """That of the credentials before the verification began."""
    size: int
    """Bytes that are counted for it."""
    epoch: int | None
    """That of the tokens; None for a password or a key, of which rules look at nothing."""


class _Entries:
    """Entries by key, that which was used longest ago first."""

    def __init__(self) -> None:
        self._entries: OrderedDict[bytes, Verification] = OrderedDict()
        self._size = 0
        self.get = self._entries.get
        self.move_to_end = self._entries.move_to_end

    def add(self, entry: Verification) -> None:
        self.remove(entry.key)
        self._entries[entry.key] = entry
        self._size += entry.size

    def remove(self, key: bytes) -> None:
        if (entry := self._entries.pop(key, None)) is not None:
            self._size -= entry.size

    def excess(self) -> Verification | None:
        """The entry that has to go, None if there is room."""
        is_full = len(self._entries) > MAX_ENTRIES or self._size > MAX_BYTES
        return next(iter(self._entries.values())) if is_full else None

    def __len__(self) -> int:
        return len(self._entries)


class VerifiedCredentials:
    """For one event loop. Only successes are in it."""

    def __init__(self, currency: Currency, remember: float, clock: Callable[[], float] = time) -> None:
        """``remember``: seconds after which credentials are verified anew in any case."""
        self._currency = currency
        self._remember = remember
        self._clock = clock
        self._secret = secrets.token_bytes(64)
        self._tokens = _Entries()
        self.epoch = 0
        """Raised by each ``forget_tokens``: what was verified before is not added after it."""
        self._secrets = _Entries()
        self._of_one: dict[str, OrderedDict[bytes, None]] = {}
        """What finds the passwords and keys of an identity, the oldest first."""

    def key(self, *parts: bytes) -> bytes:
        """What finds the entry of credentials: the bytes of a header, or their parts. It tells nothing of them.

        It is no signature: the hash never leaves the process, so that a secret in front of what is hashed is enough.
        SHA-256 takes two thirds of the time of BLAKE2 with a key, where the processor has instructions for it.
        """
        return hashlib.sha256(self._secret + b"\0".join(parts)).digest()

    def holds(self, entry: Verification) -> bool:
        """Whether what was found a moment ago is still good, also where it has lost its room meanwhile."""
        return (
            entry.until > self._clock()
            and (entry.epoch is None or entry.epoch == self.epoch)
            and self._currency.is_current(entry.identity, entry.generation)
        )

    def find(self, key: bytes) -> Verification | None:
        """What they proved; None if they have to be verified."""
        entry = self._secrets.get(key)
        entries = self._tokens if entry is None else self._secrets
        entry = entry or entries.get(key)
        if entry is None:
            return None
        if self.holds(entry):
            entries.move_to_end(key)
            return entry
        if entries is self._tokens:
            entries.remove(key)
        else:
            self._remove_secret(entry)
        return None

    def forget_tokens(self) -> None:
        """Have tokens verified anew, as the rules look at more of what they say than before."""
        self.epoch += 1
        self._tokens = _Entries()

    def add_token(self, key: bytes, identity: Identity, until: float, generation: str, characters: int) -> None:
        """As ``add``, for a token of so many characters."""
        size = _OVERHEAD + _BYTES_PER_CHARACTER * characters
        self._tokens.add(self._entry(key, identity, until, generation, size, self.epoch))
        while (entry := self._tokens.excess()) is not None:
            self._tokens.remove(entry.key)

    def add(self, key: bytes, identity: Identity, until: float, generation: str) -> None:
        """Remember the identity of a password or a key until then at most.

        ``generation`` is the one before the verification began: what is revoked during it is not remembered.
        """
        own = self._of_one.setdefault(identity.actor, OrderedDict())
        own[key] = None
        if len(own) > MAX_OF_ONE:
            self._secrets.remove(own.popitem(last=False)[0])
        self._secrets.add(self._entry(key, identity, until, generation, _OVERHEAD, None))
        while (entry := self._secrets.excess()) is not None:
            self._remove_secret(entry)

    def _entry(
        self, key: bytes, identity: Identity, until: float, generation: str, size: int, epoch: int | None
    ) -> Verification:
        return Verification(key, identity, min(until, self._clock() + self._remember), generation, size, epoch)

    def _remove_secret(self, entry: Verification) -> None:
        self._secrets.remove(entry.key)
        own = self._of_one[entry.identity.actor]
        del own[entry.key]
        if not own:
            del self._of_one[entry.identity.actor]

    def __len__(self) -> int:
        return len(self._tokens) + len(self._secrets)

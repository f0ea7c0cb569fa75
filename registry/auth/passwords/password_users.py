"""*Password users*: the users of a htpasswd file, and the verification of their passwords.

One password of one user from one address is verified once, however many requests bring it at the same time. A user
that the file does not have costs as much as one that it has, so that neither answer nor time tells which are there.

A wrong password is verified and counted once while the file stays as it is: a program that goes on with a password that
was changed does not use up what is left for its neighbour with the new one.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections import OrderedDict
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple, Self

from registry.auth.errors import Throttled
from registry.auth.identity import Identity, Kind
from registry.images.uploads.session_ids import crowd_of
from registry.oci.errors import Unauthorized

if TYPE_CHECKING:
    from collections.abc import Mapping

    from registry.auth.credentials import Basic
    from registry.auth.groups import Groups
    from registry.auth.passwords.hashing_pool import HashingPool
    from registry.auth.passwords.htpasswd import Users
    from registry.auth.passwords.password_hash import PasswordHash
    from registry.auth.passwords.throttle import Throttle
    from registry.auth.watched_file import WatchedFile

WRONG: Final = "the user or the password is wrong"
"""For each of both alike, and for one that was not looked at because too many were wrong."""

MAX_WRONG: Final = 10_000
"""Wrong passwords that are remembered; beyond, the oldest is verified again."""


class PasswordUsers:
    """``identify`` is for one event loop, the rest for any thread."""

    def __init__(self, file: WatchedFile[Users], groups: Groups, pool: HashingPool, throttle: Throttle) -> None:
        self._file = file
        self._groups = groups
        self._pool = pool
        self._throttle = throttle
        self._known = _Known.of(file.current(), groups)
        self._secret = secrets.token_bytes(32)
        self._flights: dict[bytes, asyncio.Task[Identity | None]] = {}

    def look(self) -> None:
        """Take what the file says now."""
        users = self._file.current()
        if users is not self._known.users:
            self._known = _Known.of(users, self._groups)

    @property
    def problem(self) -> str | None:
        """Why the file that is there is not in use; None if it is."""
        return self._file.problem

    def find(self, user: str) -> Identity | None:
        """The user as of the last look; None if there is none. Without a system call."""
        return self._known.identities.get(user)

    def is_current(self, identity: Identity) -> bool:
        """Whether a user is there and has the same password hash as when the identity was made."""
        found = self.find(identity.name)
        return found is not None and found.credential == identity.credential

    async def identify(self, credentials: Basic, address: str | None) -> Identity:
        """Verify a password. Raises Unauthorized; Unavailable if too many wait."""
        key = self._key(*credentials, crowd_of(address))
        flight = self._flights.get(key)
        if flight is None:
            if key in self._known.wrong:
                raise Unauthorized(WRONG)
            if not self._throttle.take(credentials.user, address):
                raise Throttled(WRONG)
            flight = asyncio.create_task(self._verify(key, credentials, address))
            self._flights[key] = flight
            flight.add_done_callback(partial(self._land, key))
        identity = await asyncio.shield(flight)  # a client that leaves takes no hash from those that stay
        if identity is None:
            raise Unauthorized(WRONG)  # for each its own: the answer to it is written into the error
        return identity

    def has_room(self, credentials: Basic, address: str | None) -> bool:
        """Whether ``identify`` would answer more than Unavailable now. Costs no hash."""
        crowd = crowd_of(address)
        if self._pool.has_room(crowd):
            return True
        key = self._key(*credentials, crowd)
        is_answered = key in self._flights or key in self._known.wrong
        return is_answered or not self._throttle.has_left(credentials.user, address)

    async def _verify(self, key: bytes, credentials: Basic, address: str | None) -> Identity | None:
        """Return None for a wrong password. Raises Unavailable."""
        try:
            identity, known = await self._pool.run(partial(self._check, credentials), crowd_of(address))
        except BaseException:
            self._throttle.give_back(credentials.user, address)
            raise
        if identity is None:
            known.note_wrong(key)
        else:
            self._throttle.give_back(credentials.user, address)
        return identity

    def _check(self, credentials: Basic) -> tuple[Identity | None, _Known]:
        """In a thread of the pool: the file as it is now, and one hash in any case."""
        self.look()
        known, user = self._known, credentials.user
        if user in known.users:
            is_right = known.users[user].verify(credentials.password)
            return known.identities[user] if is_right else None, known
        if known.users:
            self._instead(known.users, user).verify(credentials.password)
        return None, known

    def _instead(self, users: Users, user: str) -> PasswordHash:
        """The hash for a user that is not there: always that of the same other one, so that it costs the same again."""
        return list(users.values())[int.from_bytes(self._key(user)) % len(users)]

    def _key(self, *parts: str) -> bytes:
        """A hash of these parts, from which no password can be guessed outside of this process."""
        return hashlib.blake2b("\0".join(parts).encode(), key=self._secret, digest_size=32).digest()

    def _land(self, key: bytes, flight: asyncio.Task[Identity | None]) -> None:
        del self._flights[key]
        if not flight.cancelled():
            flight.exception()  # it is answered to each that waits, and there may be none left


class _Known(NamedTuple):
    """What a file said, and what was wrong by it."""

    users: Users
    identities: Mapping[str, Identity]
    wrong: OrderedDict[bytes, None]
    """Hashes of users with wrong passwords and addresses, the oldest first."""

    @classmethod
    def of(cls, users: Users, groups: Groups) -> Self:
        identities = {
            user: Identity(Kind.USER, user, groups.of(user), credential=each.version) for user, each in users.items()
        }
        return cls(users, identities, OrderedDict())

    def note_wrong(self, key: bytes) -> None:
        self.wrong[key] = None
        if len(self.wrong) > MAX_WRONG:
            self.wrong.popitem(last=False)

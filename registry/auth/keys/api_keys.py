"""*API keys*: from the secret of a key to an identity, bounded by the key and by the rights that its owner has now."""

from __future__ import annotations

import hmac
import threading
from math import inf
from time import time
from typing import TYPE_CHECKING, Final

import structlog

from registry.auth.identity import Identity, Kind
from registry.auth.keys.key_secret import KeySecret
from registry.auth.keys.key_store import GENERATION
from registry.auth.passwords.throttle import Throttle
from registry.auth.tokens.bearer import Verified
from registry.database import generations
from registry.database.credentials import key_uses
from registry.database.errors import DatabaseError
from registry.oci.errors import Unauthorized, Unavailable
from registry.storage.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from registry.auth.groups import Groups
    from registry.auth.keys.key_record import KeyRecord
    from registry.auth.keys.key_store import KeyStore
    from registry.database.engine import Database

    FindUser = Callable[[str], Identity | None]
    """A user as it is now; None if there is none."""

SILENT: Final = 5.0
"""Seconds without a look that succeeded, after which no key is taken from memory: one of them may be revoked."""
USES_PAUSE: Final = 60.0
"""Seconds between two writes of when keys were used."""
STRANGERS: Final = 200
"""Secrets of keys that were never seen here that are looked for on storage at once, and as many again in a second."""
STRANGERS_OF_ONE: Final = 20
"""Those of one address: a key that is new here can still be looked for where another client makes secrets up."""
REFUSED: Final = "the API key is refused: it is unknown, has expired or was revoked, or its owner is gone"

log = structlog.get_logger(__name__)


class ApiKeys:
    """Any thread. Methods raise StorageError unless they say that they ask nothing.

    A secret that a client makes up costs a read of storage, which a bucket bills: what was never seen here has a share
    of its own, and each address a part of that, so that a flood of them is cheap and keeps out no key of other clients.
    """

    def __init__(
        self,
        store: KeyStore,
        database: Database,
        groups: Groups,
        find_user: FindUser,
        clock: Callable[[], float] = time,
        *,
        most_seconds: float = inf,
    ) -> None:
        """``most_seconds``: the age at which a key ends in any case."""
        self._store = store
        self._database = database
        self._groups = groups
        self._find_user = find_user
        self._clock = clock
        self._most_seconds = most_seconds
        self._lock = threading.Lock()
        self._used: dict[str, float] = {}
        self._seen: set[str] = set()
        """Ids of keys that there were once: those that were listed, and those that were verified."""
        self._has_listed = False
        self._strangers = Throttle(STRANGERS, 1.0, clock)
        self._strangers_of_one = Throttle(STRANGERS_OF_ONE, 1.0, clock)
        self._wrote = -inf
        self.generation = ""
        """As of the last look. What was verified under another one has to be verified anew."""
        self._looked_at = clock()

    def look(self) -> None:
        """Learn whether a key was revoked, and write down when keys were used. A database that is away stops nothing.

        After SILENT seconds of that, each request has its key verified on storage, which has no revoked ones.
        """
        if not self._has_listed:
            self._see_all()
        began = self._clock()
        try:
            with self._database.autocommit() as connection:
                self.generation = generations.find(connection, GENERATION).get()
            self._looked_at = began
            if self._clock() - self._wrote >= USES_PAUSE:
                self.write_uses()
        except DatabaseError as error:
            log.debug("the generation of API keys was not read", reason=str(error).strip())

    def _see_all(self) -> None:
        try:
            ids = set(self._store.ids())
        except StorageError as error:
            log.debug("API keys were not listed", reason=str(error).strip())
        else:
            with self._lock:
                self._seen |= ids
            self._has_listed = True

    def write_uses(self) -> None:
        """Write down when keys were used since the last time. Raises DatabaseError."""
        with self._lock:
            used, self._used = self._used, {}
        self._wrote = self._clock()
        if not used:
            return
        try:
            with self._database.transaction() as connection:
                for key_id, used_at in used.items():
                    key_uses.note(connection, key_id, used_at)
        except DatabaseError:
            with self._lock:
                self._used = used | self._used
            raise

    def admit(self, text: str, address: str | None) -> None:
        """Return if the secret, which came from an address, may be looked for. Asks nothing.

        Raises Unauthorized for what is no secret; Unavailable if many that were never seen here are tried.
        """
        key_id = _parsed(text).key_id
        with self._lock:
            if key_id in self._seen:
                return
            is_admitted = self._strangers_of_one.take("", address) and self._strangers.take("", None)
        if not is_admitted:
            raise Unavailable("too many unknown API keys are tried; try again", headers={"Retry-After": "1"})

    def identify(self, text: str) -> Verified:
        """The identity of the holder of a secret that was admitted, and when it ends. Raises Unauthorized."""
        secret = _parsed(text)
        record = self._store.find(secret.key_id)
        identity = None if record is None else self._identity(record)
        if record is None or identity is None or not hmac.compare_digest(record.sha256, secret.sha256):
            raise Unauthorized(REFUSED)
        with self._lock:
            self._used[record.key_id] = self._clock()
            self._seen.add(record.key_id)
        return Verified(identity, identity.until)

    def find(self, key_id: str) -> Identity | None:
        """The identity of a key as it is now; None if there is none, or it has expired, or its owner is gone."""
        record = self._store.find(key_id)
        return None if record is None else self._identity(record)

    def is_current(self, identity: Identity, generation: str) -> bool:
        """Whether an identity that was verified under ``generation`` still holds. Asks nothing."""
        if generation != self.generation or self._clock() - self._looked_at > SILENT:
            return False
        owner = identity.owner
        return owner is None or self._find_user(owner.name) is not None

    def _identity(self, record: KeyRecord) -> Identity | None:
        until = record.ends(self._most_seconds)
        if until <= self._clock():
            return None
        owner = None if record.owner is None else self._find_user(record.owner)
        if record.owner is not None and owner is None:
            return None
        return Identity(
            Kind.KEY,
            record.key_id,
            self._groups.of(f"{Kind.KEY}:{record.key_id}"),
            credential=record.key_id,
            scope=record.scope,
            until=until,
            owner=owner,
        )


def _parsed(text: str) -> KeySecret:
    """Raises Unauthorized."""
    try:
        return KeySecret.parse(text)
    except ValueError as error:
        raise Unauthorized(REFUSED) from error

"""*Signing keys*: what the registry signs its own tokens with, and verifies them.

They are rows of the database, so that each process knows the tokens of every other, or a file of the operator. The
name of a key (``kid``) is made from its bytes: a database that was lost and filled again has keys of other names.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
from time import time
from typing import TYPE_CHECKING, Final, Protocol

import structlog

from registry.auth.key_set import LEAST_SECRET, KeySet, VerificationKey, is_pem, of_private_pem, of_secret
from registry.auth.watched_file import WatchedFile
from registry.database import signing_keys
from registry.database.errors import DatabaseError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from registry.database.engine import Database
    from registry.database.signing_keys import SigningKeyRow
    from registry.database.transaction import Transaction

PURPOSE: Final = "token"
ROTATION: Final = 30 * 86400.0
"""Seconds for which a key signs; no token may live longer."""
LEAD: Final = 10.0
"""Seconds from the making of a key until it signs, so that all processes may have read it by then."""
LOOK: Final = 60.0
"""Seconds after which the rows are read anew."""
LOOK_AGAIN: Final = 1.0
"""The same for a token whose key is not known."""

log = structlog.get_logger(__name__)


class SigningKeys(Protocol):
    """A key source with a key to sign with. Any thread."""

    def keys(self) -> KeySet:
        """See KeySource."""
        ...

    def look_again(self) -> KeySet:
        """See KeySource."""
        ...

    def signing(self) -> VerificationKey:
        """The key that signs now. Raises DatabaseError if none is known."""
        ...


class DatabaseKeys:
    """Secrets in the database, made by whichever process is first; while one follows another there are two."""

    def __init__(self, database: Database, clock: Callable[[], float] = time) -> None:
        self._database = database
        self._clock = clock
        self._lock = threading.Lock()
        self._rows: list[SigningKeyRow] = []
        self._keys = KeySet(())
        self._looked = float("-inf")

    def keys(self) -> KeySet:
        """See KeySource."""
        self._look(LOOK)
        return self._keys

    def look_again(self) -> KeySet:
        """See KeySource."""
        self._look(LOOK_AGAIN)
        return self._keys

    def signing(self) -> VerificationKey:
        """See SigningKeys."""
        self._look(LOOK)
        now = self._clock()
        return _named(next((row for row in self._rows if now - row.created_at >= LEAD), self._rows[-1]))

    def _look(self, pause: float) -> None:
        """Read the rows, if the last look is so many seconds ago; known keys stay where the database is away."""
        with self._lock:
            now = self._clock()
            if abs(now - self._looked) < pause:
                return
            try:
                with self._database.autocommit() as connection:
                    rows = signing_keys.of_purpose(connection, PURPOSE).get()
                if not rows or now - rows[0].created_at >= ROTATION:
                    with self._database.transaction() as connection:
                        rows = _rotate(connection, now)
            except DatabaseError as error:
                if not self._rows:
                    raise
                log.warning("the keys of tokens were not read anew", reason=str(error).strip())
            else:
                self._rows, self._keys = rows, KeySet(map(_named, rows))
            self._looked = now


class FileKeys:
    """A secret in a file, or private keys of EC or Ed25519 as PEM, of which the first signs and all verify."""

    def __init__(self, path: Path) -> None:
        """Raises ValueError, OSError."""
        self.file = WatchedFile(path, _parse)

    def keys(self) -> KeySet:
        """See KeySource: those of the file as it is now."""
        return KeySet(self.file.current())

    def look_again(self) -> KeySet:
        """See KeySource."""
        return self.keys()

    def signing(self) -> VerificationKey:
        """See SigningKeys."""
        return self.file.current()[0]


def _rotate(connection: Transaction, now: float) -> list[SigningKeyRow]:
    """Add a key to the newest one and remove those before. Two processes add one together."""
    rows = signing_keys.of_purpose(connection, PURPOSE).get()
    if not rows or now - rows[0].created_at >= ROTATION:
        number = int(rows[0].id.rpartition("-")[2]) + 1 if rows else 1
        signing_keys.add(connection, f"{PURPOSE}-{number}", PURPOSE, secrets.token_bytes(LEAST_SECRET), now=now)
        for row in rows[1:]:
            signing_keys.remove(connection, row.id)
    return signing_keys.of_purpose(connection, PURPOSE).get()


def _named(row: SigningKeyRow) -> VerificationKey:
    return of_secret(hashlib.sha256(row.value).hexdigest()[:16], row.value)


def _parse(document: bytes) -> list[VerificationKey]:
    if is_pem(document):
        return of_private_pem(document)
    secret = document.strip()
    return [of_secret(hashlib.sha256(secret).hexdigest()[:16], secret)]

"""*Key store*: the records of API keys on storage, an object for each.

Storage alone has them: a database that is lost loses no key. Every change raises the generation in the database, which
each process looks at, so that a revoked key is refused everywhere soon.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import structlog

from registry.auth.keys.key_record import KeyRecord
from registry.database import generations, key_uses
from registry.storage.errors import PathNotFound

if TYPE_CHECKING:
    from collections.abc import Iterator

    from registry.database.engine import Database
    from registry.storage.driver import StorageDriver

PLACE: Final = ".auth/keys"
GENERATION: Final = "keys"
MAX_BYTES: Final = 64 << 10

_ID = re.compile(r"[0-9a-f]{16}")

log = structlog.get_logger(__name__)


class KeyStore:
    """Any thread, any process. Every method raises StorageError."""

    def __init__(self, driver: StorageDriver, database: Database) -> None:
        self._driver = driver
        self._database = database

    def find(self, key_id: str) -> KeyRecord | None:
        """The key; None if there is none, or none that this release understands."""
        if not _ID.fullmatch(key_id):
            return None
        try:
            data, _ = self._driver.read(_place(key_id), max_bytes=MAX_BYTES)
        except PathNotFound:
            return None
        try:
            record = KeyRecord.parse(data)
        except ValueError as error:
            log.warning("an API key on storage cannot be read and is refused", key=key_id, reason=str(error))
            return None
        return record if record.key_id == key_id else None

    def all(self) -> Iterator[KeyRecord]:
        """Every key that this release understands, sorted by id."""
        for key_id in self.ids():
            record = self.find(key_id)
            if record is not None:
                yield record

    def ids(self) -> Iterator[str]:
        """The id of each object that should be a key, sorted; none is read."""
        names = (child.name.removesuffix(".json") for child in self._driver.children(PLACE))
        return filter(_ID.fullmatch, names)

    def add(self, record: KeyRecord) -> None:
        """Store a new key; it is good when this returns. Raises AlreadyExists."""
        self._driver.write(_place(record.key_id), record.serialize(), if_absent=True)

    def remove(self, key_id: str) -> bool:
        """Revoke a key. Returns False if there was none. Killed or failed midway it has to be repeated.

        When this returns, no process takes the secret anew, and each forgets with its next look that it has taken it.
        Raises DatabaseError: the key is gone then, and processes forget it within ``auth.remember``.
        """
        if not _ID.fullmatch(key_id):
            return False
        place = _place(key_id)
        try:
            self._driver.stat(place)
            found = True
        except PathNotFound:
            found = False
        self._driver.delete([place])
        with self._database.transaction() as connection:
            generations.change(connection, GENERATION)
            key_uses.forget(connection, key_id)
        return found


def _place(key_id: str) -> str:
    return f"{PLACE}/{key_id}.json"

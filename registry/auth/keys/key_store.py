"""*Key store*: the records of API keys on storage, an object for each.

Storage alone has them: a database that is lost loses no key. Every change raises the generation in the database, which
each process looks at, so that a revoked key is refused everywhere soon.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import structlog

from registry.auth.keys.key_record import KeyRecord
from registry.database import generations
from registry.database.credentials import key_uses
from registry.parallel import map_parallel
from registry.storage.errors import PathNotFound

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from registry.database.engine import Database
    from registry.storage.driver import StorageDriver

PLACE: Final = ".auth/keys"
GENERATION: Final = "keys"
MAX_BYTES: Final = 64 << 10
ENDED: Final = 0.0
"""The end of a key that is being revoked: before any clock."""

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

    def find_all(self, key_ids: Sequence[str]) -> list[KeyRecord]:
        """Those of the keys that there are and that this release understands, in that order."""
        found = map_parallel(self._driver.capabilities, self.find, key_ids)
        return [record for record in found if record is not None]

    def ids(self) -> Iterator[str]:
        """The id of each object that should be a key, sorted; none is read, and a bucket is asked for all of them."""
        names = (child.name.removesuffix(".json") for child in self._driver.children(PLACE))
        return filter(_ID.fullmatch, names)

    def add(self, record: KeyRecord) -> None:
        """Store a new key; it is good when this returns. Raises AlreadyExists."""
        self._driver.write(_place(record.key_id), record.serialize(), if_absent=True)

    def remove(self, key_id: str) -> bool:
        """Revoke a key. Returns False if there was none. Killed or failed midway it has to be repeated.

        When this returns, no process takes the secret anew, and each forgets with its next look that it has taken it.
        Before processes are told, the key is ended but still there: a revocation that was cut short shows in the list,
        and the next one finds what it has to finish. Raises DatabaseError.
        """
        if not _ID.fullmatch(key_id):
            return False
        place, record = _place(key_id), self.find(key_id)
        found = record is not None or self._is_there(place)
        if record is not None:
            self._driver.write(place, record._replace(expires=ENDED).serialize())
        with self._database.transaction() as connection:
            generations.change(connection, GENERATION)
            key_uses.forget(connection, key_id)
        self._driver.delete([place])
        if found and record is None:  # it could not be ended, so that it was good until now, for a later release
            with self._database.transaction() as connection:
                generations.change(connection, GENERATION)
        return found

    def _is_there(self, place: str) -> bool:
        try:
            self._driver.stat(place)
        except PathNotFound:
            return False
        return True


def _place(key_id: str) -> str:
    return f"{PLACE}/{key_id}.json"

"""*Key administration*: making, listing and revoking API keys, for the command and for ``/api/v1/keys``."""

from __future__ import annotations

import sys
from time import monotonic, time
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from registry.auth.errors import AccountError, TooManyKeys
from registry.auth.keys.key_record import DAY, KeyRecord
from registry.auth.keys.key_scope import ALL, EVERYWHERE, KeyScope
from registry.auth.keys.key_secret import KeySecret
from registry.database.credentials import key_uses
from registry.images.keyed_locks import KeyedLocks
from registry.oci.moment import to_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from registry.auth.keys.key_store import KeyStore
    from registry.database.engine import Database

LONGEST_DESCRIPTION: Final = 200
"""Characters."""
MOST_PATTERNS: Final = 100
LONGEST_PATTERN: Final = 255
"""Characters: as many as the name of a repository has."""
BATCH: Final = 500
"""Keys that are read at once."""
LONG: Final = 0.1
"""Seconds of a list of all keys from which on it is used for a while."""
SHARE: Final = 10
"""Such a list serves for so many times as long as it took."""


class ListedKey(NamedTuple):
    """A key as it is shown."""

    record: KeyRecord
    used_at: float | None
    """Seconds since the epoch; None if it was never used, or the database was lost since."""

    def document(self) -> dict[str, Any]:
        """As a JSON value, without anything of its secret."""
        document = self.record.document()
        del document["sha256"], document["version"]
        return {**document, "last_used": None if self.used_at is None else to_text(self.used_at)}


class KeyAdministration:
    """Any thread, any process. Every method raises StorageError and DatabaseError.

    The owner of a key never changes, and is kept in memory: to list the keys of one user, a process reads these and
    the keys that are new to it.
    """

    def __init__(
        self,
        store: KeyStore,
        database: Database,
        has_user: Callable[[str], bool],
        max_days: int,
        clock: Callable[[], float] = time,
    ) -> None:
        """``has_user`` tells whether there is a user of that name."""
        self._store = store
        self._database = database
        self._has_user = has_user
        self._max_days = max_days
        self._clock = clock
        self._locks = KeyedLocks()
        self._owners: dict[str, str | None] = {}
        """The owner of each key that there was when they were last listed, and could be read."""
        self._fresh_until = float("-inf")
        """When they are listed again (monotonic)."""

    def create(
        self,
        *,
        owner: str | None,
        repositories: Sequence[str],
        actions: Sequence[str],
        days: int | None,
        description: str,
        most: int | None = None,
    ) -> tuple[KeySecret, ListedKey]:
        """Make a key; its secret is known to the caller alone. It is good when this returns.

        Without patterns and actions it is not bounded, without days it has as many as the settings allow. Raises
        AccountError for a user that there is not, and bounds that it cannot have; TooManyKeys for an owner that has
        ``most`` of them, Unavailable where counting them takes too long. Processes that make keys of one owner at the
        same moment may each make one more.
        """
        if owner is not None and not self._has_user(owner):
            raise AccountError(f"there is no user {owner} in auth.htpasswd.file")
        if len(description) > LONGEST_DESCRIPTION or not description.isprintable():
            raise AccountError(f"a description has at most {LONGEST_DESCRIPTION} characters, all of which are seen")
        if days is not None and not 0 < days <= self._max_days:
            raise AccountError(f"a key may have 1 to {self._max_days} days (auth.keys.max_days)")
        scope, secret, now = _scope(repositories, actions), KeySecret.make(), self._clock()
        expires = now + (days or self._max_days) * DAY
        record = KeyRecord.make(secret, owner=owner, scope=scope, created=now, expires=expires, description=description)
        if most is None or owner is None:
            self._store.add(record)
        else:
            with self._locks.hold(f"owner {owner}"):
                if len(self._ids_of(owner)) >= most:
                    raise TooManyKeys(f"{owner} has {most} keys; revoke one that is not used any more")
                self._store.add(record)
        self._note(record.key_id, owner, is_there=True)
        return secret, ListedKey(record, None)

    def all(self) -> Iterator[ListedKey]:
        """Every key that this release understands, sorted by id; a bounded number of them is in memory."""
        ids = list(self._store.ids())
        for start in range(0, len(ids), BATCH):
            yield from self._listed(self._store.find_all(ids[start : start + BATCH]))

    def page(self, last: str, count: int, *, owner: str | None = None) -> list[ListedKey]:
        """At most ``count`` keys after ``last``, sorted by id: those of an owner, None for those of all.

        A page has fewer only if there are no more. Raises Unavailable while a first list takes long.
        """
        if owner is None:
            ids = [key_id for key_id in self._store.ids() if key_id > last]
        else:
            ids = [key_id for key_id in self._ids_of(owner) if key_id > last]
        found: list[KeyRecord] = []
        while ids and len(found) < count:
            wanted, ids = ids[: count - len(found)], ids[count - len(found) :]
            found += self._store.find_all(wanted)
        return self._listed(found)

    def find(self, key_id: str) -> ListedKey | None:
        """The key; None if there is none."""
        record = self._store.find(key_id)
        return None if record is None else self._listed([record])[0]

    def _ids_of(self, owner: str) -> list[str]:
        """The keys of a user, sorted. Callers that ask at the same time share one list of all.

        What this process has made and revoked is right at once. Where a list takes LONG or more, what other processes
        have made shows later: lists take one second in SHARE at most.
        """
        asked = monotonic()
        with self._locks.hold("list"):
            if self._fresh_until < asked:
                self._list_owners()
            return sorted(key_id for key_id, known in self._owners.items() if known == owner)

    def _list_owners(self) -> None:
        began = monotonic()
        ids = list(self._store.ids())
        spent = monotonic() - began
        owners = {key_id: self._owners[key_id] for key_id in ids if key_id in self._owners}
        new = [key_id for key_id in ids if key_id not in owners]
        for start in range(0, len(new), BATCH):
            found = self._store.find_all(new[start : start + BATCH])
            owners |= {record.key_id: _shared(record.owner) for record in found}
        self._owners = owners
        self._fresh_until = began if spent < LONG else monotonic() + SHARE * spent

    def _note(self, key_id: str, owner: str | None, *, is_there: bool) -> None:
        """Add a key to those that are known, or take it away."""
        with self._locks.hold("list"):
            if is_there:
                self._owners[key_id] = _shared(owner)
            else:
                self._owners.pop(key_id, None)

    def _listed(self, records: Sequence[KeyRecord]) -> list[ListedKey]:
        """Keys with the end that they have by the settings, which may allow less than when they were made."""
        with self._database.autocommit() as connection:
            uses = key_uses.find(connection, [record.key_id for record in records])
        most = self._max_days * DAY
        return [ListedKey(each._replace(expires=each.ends(most)), uses.get(each.key_id)) for each in records]

    def revoke(self, key_id: str) -> bool:
        """Revoke a key and its tokens: see ``KeyStore.remove``. Returns False if there was none."""
        found = self._store.remove(key_id)
        self._note(key_id, None, is_there=False)
        return found


def _shared(owner: str | None) -> str | None:
    """The text as one object, however many keys it has."""
    return None if owner is None else sys.intern(owner)


def _scope(repositories: Sequence[str], actions: Sequence[str]) -> KeyScope | None:
    """None if neither is bounded."""
    if not repositories and not actions:
        return None
    longest = max(map(len, repositories), default=0)
    if max(len(repositories), len(actions)) > MOST_PATTERNS or longest > LONGEST_PATTERN:
        raise AccountError(f"a key has at most {MOST_PATTERNS} patterns of {LONGEST_PATTERN} characters")
    try:
        return KeyScope.of(repositories or [EVERYWHERE], actions or [ALL])
    except ValueError as error:
        raise AccountError(str(error)) from error

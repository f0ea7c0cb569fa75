"""*Quota usage*: whether a blob may come into the repositories of the quotas that one of them is under.

A quota is asked three times: when an upload begins, so that none is received in vain; before the bytes are placed; and
in the transaction that makes the blob a member, where pushes of all replicas wait for each other, so that two of them
never fill the same room. Counting is done outside of that transaction, and every refusal is that of a new count.

What open uploads have received counts where a quota is asked before that transaction, each but for the upload that
asks. Where there is no room the oldest trash of the group goes, if that would make enough.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Final, NamedTuple

import structlog

from registry.config.sizes import LARGEST
from registry.database.collection import emptying
from registry.database.errors import DatabaseError
from registry.database.quotas import groups, usage
from registry.images.keyed_locks import KeyedLocks
from registry.images.trash.trash_emptying import TrashEmptying
from registry.oci.errors import Unavailable
from registry.storage.errors import StorageError

if TYPE_CHECKING:
    from registry.database.collection.trash import ExpiredRow
    from registry.database.quotas.usage import UsageRow
    from registry.database.transaction import Transaction
    from registry.images.backends import Backends
    from registry.images.write_gate import WriteGate
    from registry.oci.digest import Digest
    from registry.oci.quotas import Quota

COUNT_SECONDS: Final = 60.0
"""Seconds after which a quota is counted again: what was removed, and what came in other ways than by a push."""
SHARE: Final = 100
"""A count that takes long is done less often: it may take one in so many seconds."""
EVICTION_SECONDS: Final = 5.0
"""Seconds for which a push removes trash, at most."""
OLDEST: Final = 20
"""Manifests of the trash that are looked for at a time."""

log = structlog.get_logger(__name__)


class Crowded(Exception):
    """By what is known a quota has no room; it has to be counted, outside of the transaction, which wrote nothing."""


class _Use(NamedTuple):
    """What the repositories of a quota have, by a new count."""

    used: int
    """Bytes, those of open uploads too."""
    largest: int
    """Bytes of the largest blob."""
    received: int
    """Bytes of open uploads."""


class QuotaUsage:
    """Any thread, any process. Where a repository is under no quota, nothing is asked of the database."""

    def __init__(self, backends: Backends, write_gate: WriteGate) -> None:
        self._backends = backends
        self._emptying = TrashEmptying(backends, write_gate)
        self._counting = KeyedLocks()
        self._counted: dict[str, tuple[float, UsageRow, int]] = {}
        """The last count of each quota in this process, behind the time when it began."""

    def require(self, repository: str, digest: Digest | None, size: int | None, *, session: str = "") -> None:
        """Return if there is room for ``size`` bytes, for any at all if that is None.

        A blob with ``digest`` needs none where a repository of the quota has it. ``session`` is the upload that asks,
        whose bytes these are. Raises QuotaExceeded, Unavailable.
        """
        for quota in self._backends.policy.quotas.of(repository):
            self._require(quota, digest, size, session)

    def applies(self, repository: str) -> bool:
        """Whether the repository is under a quota."""
        return bool(self._backends.policy.quotas.of(repository))

    def left(self, repository: str, session: str) -> int:
        """The bytes for which there is room at least, as far as is known; less than none where a quota was lowered."""
        quotas = self._backends.policy.quotas.of(repository)
        with self._backends.database.autocommit() as connection:
            rows = [
                (quota.limit, usage.find(connection, quota.key), groups.received(connection, quota.group, but=session))
                for quota in quotas
            ]
            found = [(limit, row.get(), received.get()) for limit, row, received in rows]
        return min(limit - received - (row.used if row is not None else 0) for limit, row, received in found)

    def most(self, repository: str, size: int, session: str) -> int:
        """The bytes that a blob may have there, by a new count: ``size`` or more.

        One that a repository of the quota has needs no room; so any may be as large as the largest of these. Raises
        QuotaExceeded, Unavailable.
        """
        most = LARGEST
        for quota in self._backends.policy.quotas.of(repository):
            use = self._count(quota, session)
            if size > max(quota.limit - use.used, use.largest):
                use = self._evict(quota, use, size, session)
            if size > max(quota.limit - use.used, use.largest):
                raise quota.exceeded(use.used, size, use.received)
            most = min(most, max(quota.limit - use.used, use.largest))
        return most

    def add(self, connection: Transaction, repository: str, digest: Digest, size: int, *, asks: bool) -> None:
        """Count a blob in the transaction that makes it a member, which has locked it and everything else.

        Raises Crowded if it ``asks`` and, as far as is known, there is no room.
        """
        for quota in self._backends.policy.quotas.of(repository):
            limit = quota.limit if asks else LARGEST
            added = usage.add(connection, quota.key, quota.group, digest, size=size, limit=limit)
            if asks and not added.get() and not groups.is_held(connection, quota.group, digest).get():
                raise Crowded

    def _require(self, quota: Quota, digest: Digest | None, size: int | None, session: str) -> None:
        needed, now = (1 if size is None else size), self._backends.clock()
        with self._backends.database.autocommit() as connection:
            found = usage.find(connection, quota.key)
            asked = groups.received(connection, quota.group, but=session)
            is_held = groups.is_held(connection, quota.group, digest) if digest is not None else None
            row, received = found.get(), asked.get()
            if is_held is not None and is_held.get():
                return
        if row is not None and row.due_at <= now:
            row = self._count_in_turn(quota) or row
        if row is not None and row.used + received + needed <= quota.limit:
            return
        use = self._count(quota, session)
        if use.used + needed > quota.limit:
            use = self._evict(quota, use, needed, session)
        if use.used + needed > quota.limit:
            raise quota.exceeded(use.used, size, use.received)

    def _evict(self, quota: Quota, use: _Use, needed: int, session: str) -> _Use:
        """Remove the oldest trash until there is room, if all of it would make that; what is used then.

        Several pushes at once each remove as much as they need. Raises Unavailable, DatabaseError.
        """
        deadline = monotonic() + EVICTION_SECONDS
        while (missing := use.used + needed - quota.limit) > 0 and monotonic() < deadline:
            with self._backends.database.autocommit() as connection:
                evictable = emptying.evictable(connection, quota.group)
            if evictable < missing or not self._remove_oldest(quota, missing, deadline):
                break
            use = self._count(quota, session)
        return use

    def _remove_oldest(self, quota: Quota, missing: int, deadline: float) -> int:
        """Remove manifests of the trash until about as many bytes as are ``missing`` have gone. Returns how many."""
        removed = freed = 0
        while freed < missing and monotonic() < deadline:
            with self._backends.database.autocommit() as connection:
                rows = emptying.oldest(connection, quota.group, count=OLDEST).get()
            for row in rows:
                if freed >= missing or monotonic() > deadline:
                    break
                removed, freed = removed + 1, freed + self._remove(quota, row)
            if not rows:
                break
        return removed

    def _remove(self, quota: Quota, row: ExpiredRow) -> int:
        """Remove a manifest from the trash; the bytes that have gone."""
        try:
            emptied = self._emptying.remove(row)
        except StorageError as error:  # the rows say that it has gone, and a later run frees what is left
            log.warning("files of the trash could not be removed yet", repository=row.repository, reason=str(error))
            return 0
        if not emptied.gone:
            log.info(
                "a manifest left the trash to make room in a quota",
                repository=row.repository,
                digest=row.digest,
                quota=list(quota.patterns),
            )
        return emptied.bytes

    def _count_in_turn(self, quota: Quota) -> UsageRow | None:
        """Count what is due, unless another process does. None if so, or if it cannot be counted now."""
        now = self._backends.clock()
        with self._backends.database.transaction(durable=False) as connection:
            if not usage.take_turn(connection, quota.key, now=now, until=now + COUNT_SECONDS):
                return None
        try:
            return self._count_row(quota)[0]
        except (DatabaseError, Unavailable) as error:  # what is known will do
            log.warning("a quota could not be counted", quota=list(quota.patterns), reason=str(error))
            return None

    def _count(self, quota: Quota, session: str) -> _Use:
        """What is used by a new count, but for what ``session`` has received. Raises as ``_count_row``."""
        row, largest = self._count_row(quota)
        with self._backends.database.autocommit() as connection:
            received = groups.received(connection, quota.group, but=session).get()
        return _Use(row.used + received, largest, received)

    def _count_row(self, quota: Quota) -> tuple[UsageRow, int]:
        """What is known by a new count, and the size of the largest blob. Raises Unavailable, DatabaseError.

        Threads that ask meanwhile share the next count.
        """
        asked = monotonic()
        with self._counting.hold(quota.key):
            last = self._counted.get(quota.key)
            if last is not None and last[0] >= asked:
                return last[1:]
            began = monotonic()
            with self._backends.database.snapshot() as connection:
                before = usage.find(connection, quota.key).get()
                used, largest = groups.count(connection, quota.group)
            added = before.added if before is not None else 0
            due_at = self._backends.clock() + max(COUNT_SECONDS, SHARE * (monotonic() - began))
            with self._backends.database.transaction(durable=False) as connection:
                row = usage.note(connection, quota.key, used=used, added=added, due_at=due_at)
            self._counted[quota.key] = began, row, largest
            return row, largest

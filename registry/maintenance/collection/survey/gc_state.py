"""Collection state: which database collects on a storage, so that another one, or an older copy, never does.

``.gc/state.json`` has the name of a database and the number of its last run, and the database has both, too. A run
raises the number in the database, then on storage under the condition that it is still what was read, then says in the
database that this is done. A process that is killed between these leaves a number that the next run accepts. A database
that was lost has no name on its storage, and an older copy has an older number: both have to be rebuilt first. Numbers
between the two that the database has are those of runs that began at once, of which one came first.
"""

from __future__ import annotations

import uuid
from dataclasses import replace
from typing import TYPE_CHECKING, Final, NamedTuple

import structlog

from registry.database.collection import state
from registry.images.layout import COLLECTION_STATE
from registry.maintenance.collection.survey.state_document import MAX_BYTES, StateDocument, UnknownState
from registry.oci.name import is_name
from registry.storage.errors import AlreadyExists, ObjectTooLarge, PathNotFound, PreconditionFailed, StorageError

if TYPE_CHECKING:
    from registry.database.collection.state import CollectionRow
    from registry.images.registry import Registry

ATTEMPTS: Final = 5
"""How often the state may change while it is taken over."""
CHECK_SECONDS: Final = 5.0
"""Seconds for which a run relies on what it read of the state."""
DAY: Final = 86400.0
_UNKNOWN: Final = (
    "if a later release has written it, collect with that release; if it is damaged, remove it and run"
    " `registry rebuild`"
)
_REBUILD: Final = "run `registry rebuild`, then collect"

log = structlog.get_logger(__name__)


class CollectionRefused(Exception):
    """Nothing may be collected; the message says why, and what to do next."""


class RunOvertaken(CollectionRefused):
    """The run that asks may not delete any more: another one has begun, or the database is another one by now."""


class Looked(NamedTuple):
    """When all repositories were compared with storage, and with which instance of the database."""

    at: float
    """By the clock of the database."""
    instance: str | None
    """None if the database does not tell a copy of it from itself."""


class _Read(NamedTuple):
    document: StateDocument | None
    etag: str
    """Empty if there is no document."""


class GcState:
    """The state of one storage and one database, for one run. For one thread."""

    def __init__(self, registry: Registry) -> None:
        self._backends = registry.backends
        self._own: StateDocument | None = None
        self._instance: str | None = None
        self._checked = 0.0
        self._is_met = False

    @property
    def is_met(self) -> bool:
        """Whether this database has met its storage."""
        self._is_met = self._is_met or self._row().database_id is not None
        return self._is_met

    def adopt(self) -> None:
        """Note what storage is to this database, when they meet first; an empty one gets its document at once.

        Servers do it before they take requests. Raises StorageError.
        """
        row = self._row()
        if row.database_id is not None:
            return
        origin = row.origin or self._origin()
        with self._backends.database.transaction() as connection:
            state.adopt(connection, uuid.uuid4().hex, origin)
        row = self._row()
        if row.origin == state.NEW and not row.run:
            self._create(row)

    def refusal(self) -> str | None:
        """Why nothing may be collected, and what to do next; None if it may. Changes nothing. Raises StorageError."""
        try:
            return _refusal(self._row(), self._read())
        except UnknownState as error:
            return f"{error}: {_UNKNOWN}"

    def looked(self) -> Looked | None:
        """When all repositories were last compared; None if never, or with other rows. Raises StorageError."""
        try:
            found = self._read().document
        except UnknownState:
            return None
        if found is None or found.looked_at is None or found.database != self._row().database_id:
            return None
        with self._backends.database.autocommit() as connection:
            mark = state.mark(connection)
        return Looked(found.looked_at, found.instance) if mark == found.mark else None

    def instance(self) -> str | None:
        """What is another one after a copy of the database was restored; None if nothing says so."""
        with self._backends.database.autocommit() as connection:
            return state.instance(connection)

    def begin(self, looked: Looked | None = None) -> int:
        """Begin a run: its number, which storage and database have by now. Raises CollectionRefused, StorageError.

        ``looked``: the look at all repositories that the run relies on, which the document keeps for the next ones.
        """
        self.adopt()
        row, read = self._row(), self._read_known()
        refusal = _refusal(row, read)
        if refusal is not None:
            raise CollectionRefused(refusal)
        number = max(row.run, row.intended) + 1
        before = read.document or StateDocument(row.database_id or "", 0, new=row.origin == state.NEW)
        own = replace(before, run=number)
        with self._backends.database.transaction() as connection:
            if not state.intend(connection, row, number):
                raise RunOvertaken("another run has just begun; wait until it has ended, then collect")
            if looked is not None and looked != Looked(before.looked_at or 0.0, before.instance):
                mark = state.put_mark(connection)
                own = replace(own, looked_at=looked.at, instance=looked.instance, mark=mark)
        self._write(own, read)
        with self._backends.database.transaction() as connection:
            if not state.begin(connection, number):
                raise RunOvertaken("another run has just begun; wait until it has ended, then collect")
        self._own, self._instance, self._checked = own, self.instance(), self._now()
        return number

    def assert_mine(self) -> None:
        """Return if the run that ``begin`` began may still delete. Raises RunOvertaken, StorageError, DatabaseError.

        For each batch of deletes: it asks storage and database each five seconds, and costs nothing between.
        """
        own, now = self._own, self._now()
        if own is None:
            raise RunOvertaken("no run has begun")
        if now - self._checked < CHECK_SECONDS:
            return
        row, read = self._row(), self._read_known()
        found = read.document
        if found is None or (found.database, found.run) != (own.database, own.run):
            raise RunOvertaken(f"{COLLECTION_STATE} is of another run by now; this one has stopped")
        if (row.database_id, row.run) != (own.database, own.run) or self.instance() != self._instance:
            raise RunOvertaken("the database is another one, or a copy of it, by now; this run has stopped")
        self._checked = now

    def take_over(self) -> None:
        """Have this database collect from now on, whichever one did: it was filled from all that storage has.

        Raises CollectionRefused if the state is not understood or never stands still, StorageError.
        """
        self.adopt()
        for _ in range(ATTEMPTS):
            row, read = self._row(), self._read_known()
            found = read.document
            is_new = found.new if found is not None else row.origin == state.NEW
            if _refusal(row, read) is None and found is not None:
                return
            number = max(row.run, row.intended, found.run if found is not None else 0) + 1
            own = StateDocument(row.database_id or "", number, new=is_new)
            if found is not None:
                own = replace(own, kinds=tuple(dict.fromkeys([*found.kinds, *own.kinds])))
            try:
                self._write(own, read)
            except RunOvertaken:
                continue
            with self._backends.database.transaction() as connection:
                if state.take_over(connection, row, number, state.NEW if is_new else state.EARLIER):
                    return
        raise CollectionRefused(f"{COLLECTION_STATE} changes faster than it can be taken over; {_REBUILD}")

    def default_interval(self) -> float | None:
        """Seconds between two runs where the settings say none: a day on a new storage, else None (none by itself)."""
        return DAY if self._row().origin == state.NEW else None

    # ----

    def _row(self) -> CollectionRow:
        with self._backends.database.autocommit() as connection:
            return state.find(connection).get()

    def _read_known(self) -> _Read:
        try:
            return self._read()
        except UnknownState as error:
            raise CollectionRefused(f"{error}: {_UNKNOWN}") from error

    def _read(self) -> _Read:
        try:
            data, stat = self._backends.driver.read(COLLECTION_STATE, max_bytes=MAX_BYTES)
        except PathNotFound:
            return _Read(None, "")
        except ObjectTooLarge as error:
            raise UnknownState(f"{COLLECTION_STATE} is larger than {MAX_BYTES} bytes") from error
        return _Read(StateDocument.parse(data), stat.etag)

    def _write(self, document: StateDocument, read: _Read) -> None:
        """Raises RunOvertaken if the document is another one by now."""
        data = document.to_json()
        try:
            if read.document is None:
                self._backends.driver.write(COLLECTION_STATE, data, if_absent=True)
            else:
                self._backends.driver.write(COLLECTION_STATE, data, if_etag=read.etag)
        except (AlreadyExists, PreconditionFailed) as error:
            message = "another run, perhaps with another database, has just begun; find out which one, then collect"
            raise RunOvertaken(message) from error

    def _create(self, row: CollectionRow) -> None:
        document = StateDocument(row.database_id or "", 0, new=True)
        try:
            self._backends.driver.write(COLLECTION_STATE, document.to_json(), if_absent=True)
        except AlreadyExists:  # by another process, for the same database or for another
            return
        log.info("the storage is new: it is collected once a day, unless gc.interval says otherwise")

    def _origin(self) -> str:
        """What storage is to a database that has not met it."""
        try:
            self._backends.driver.stat(COLLECTION_STATE)
        except PathNotFound:
            names = (child.name for child in self._backends.driver.children(""))
            return state.FOUND if any(name == "storage" or is_name(name) for name in names) else state.NEW
        return state.FOUND

    def _now(self) -> float:
        return self._backends.database.clocks.boot()


def meet(registry: Registry) -> None:
    """``GcState.adopt``, before the port opens; where storage does not answer a job of the servers does it."""
    try:
        GcState(registry).adopt()
    except StorageError as error:
        log.warning("whether storage is new could not be seen yet", reason=str(error))


def announce(registry: Registry) -> None:
    """Say that nothing is collected by itself, where the settings do not say when and the storage is not new."""
    if GcState(registry).default_interval() is None:
        log.warning(
            "nothing is collected by itself, because this storage is not new to it: look at `registry gc --dry-run`,"
            " then set gc.interval"
        )


def _refusal(row: CollectionRow, read: _Read) -> str | None:
    """Why this database may not collect on this storage; None if it may."""
    found = read.document
    if found is None:
        return _refusal_of_none(row)
    if found.unknown_kinds:
        kinds = ", ".join(found.unknown_kinds)
        return f"storage has references of kinds that this release does not know ({kinds}); use a later release"
    if found.database != row.database_id:
        return f"another database collects on this storage ({found.database}, see {COLLECTION_STATE}): {_REBUILD}"
    if not row.run <= found.run <= row.intended:  # of those that began at once, any may have come first
        return f"this database is an older copy: it knows of run {row.run}, storage of run {found.run}; {_REBUILD}"
    return None


def _refusal_of_none(row: CollectionRow) -> str | None:
    """As ``_refusal``, for a storage without a document."""
    if row.run:
        return f"storage has no {COLLECTION_STATE}, and this database has collected: is it the same? {_REBUILD}"
    if row.origin == state.FOUND or (row.database_id is None and row.origin is None):
        return f"this database is new, and storage was not: {_REBUILD}"
    return None

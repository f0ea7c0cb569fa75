"""*Hub*: the fetches of this process, those that it leads and those that it follows."""

from __future__ import annotations

import contextlib
import enum
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from functools import partial
from typing import TYPE_CHECKING

import structlog

from registry.background.holders import is_dead, new_holder
from registry.cores import cores
from registry.database.errors import DatabaseError
from registry.database.mirrors import fetches
from registry.database.mirrors.fetches import BLOB, Kept, Wanted
from registry.images.fetching.content import FetchFailed, Reason
from registry.images.fetching.fetch import Claimant, Fetch
from registry.images.fetching.leader import Fenced, Leader, Left, Rooms
from registry.images.fetching.listener import NoListener
from registry.images.fetching.passings import Passings
from registry.images.fetching.policy import FetchPolicy
from registry.images.fetching.reader import FetchReader
from registry.oci.errors import BlobUnknown, NameUnknown, RegistryError
from registry.storage.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from concurrent.futures import Future

    from registry.database.mirrors.fetches import FetchRow
    from registry.database.transaction import Transaction
    from registry.images.backends import Backends
    from registry.images.blobs import Blobs
    from registry.images.fetching.content import Source
    from registry.images.fetching.listener import FetchListener
    from registry.images.publication.blob_publication import BlobPublication
    from registry.images.repositories import Repositories
    from registry.oci.digest import Digest

_OURS = "a fetch ended with an error of ours"
JOINS = 2
"""Threads that make the repositories of further clients members of what was published."""

log = structlog.get_logger(__name__)


class Phase(enum.Enum):
    """What this process does for a fetch."""

    QUEUED = "queued"
    """A thread will look whether it may lead; what another process brings is seen meanwhile."""
    CLAIMING = "claiming"
    """It looks."""
    LEADING = "leading"
    FOLLOWING = "following"
    JOINING = "joining"
    """It is published, and repositories of clients become members."""
    ENDED = "ended"


_SEEN = {Phase.QUEUED, Phase.FOLLOWING}
"""Phases in which the row is looked at."""


class _Entry:
    """A fetch with what the hub does for it."""

    def __init__(self, fetch: Fetch) -> None:
        self.fetch = fetch
        self.phase = Phase.QUEUED
        self.leader: Leader | None = None
        self.is_followed = False
        """It was told to the listener that another process leads it."""
        self.source = ""
        """The repository that has the published blob."""
        self.is_joining = False
        """A thread makes repositories of clients members of it."""


class FetchHub:
    """Any thread. One for each process; ``close`` it."""

    def __init__(
        self,
        backends: Backends,
        repositories: Repositories,
        publication: BlobPublication,
        blobs: Blobs,
        policy: FetchPolicy | None = None,
        policies: Mapping[str, FetchPolicy] | None = None,
        listener: FetchListener | None = None,
    ) -> None:
        """``policies`` are those of single mirrors, whose leases and looks are as in ``policy``."""
        self._backends = backends
        self._blobs = blobs
        self._policy = policy or FetchPolicy()
        self._policies = policies or {}
        self._listener = listener or NoListener()
        self._stopping = threading.Event()
        self._rooms = Rooms(backends, repositories, publication, self._policy, self._stopping)
        self._holder = new_holder(backends.holder)
        self._condition = threading.Condition()
        self._entries: dict[tuple[str, Digest], _Entry] = {}
        self._leaders: dict[str, ThreadPoolExecutor] = {}
        """By mirror: an upstream that is slow holds back no fetch of another one."""
        self._joins = ThreadPoolExecutor(JOINS, thread_name_prefix="fetch-join")
        self._running: set[Future[None]] = set()
        """What threads of leaders and of joins do, or are to do."""
        self._passings: dict[str, Passings] = {}
        """By mirror, of clients that have their bytes beside a fetch."""
        self._watcher: threading.Thread | None = None
        self._asked = self._renewed = 0.0
        """When the database last answered the watcher, and when leases were last renewed; by ``clocks.boot``."""

    def join(
        self,
        mirror: str,
        repository: str,
        digest: Digest,
        source: Source,
        *,
        size: int | None = None,
        is_proven: bool = True,
    ) -> FetchReader:
        """A client that has the blob from ``source``, as every client that wants it of this mirror. Does not wait.

        That the repository may have the blob is for the caller to know (I12): a fetch in flight is no proof. Where it
        does not know it, ``is_proven`` is false: then bytes come if the upstream is asked, here or by another process,
        by the path of this repository, which finds it out; else the reader needs a proof before its head is told.
        ``size`` is what a manifest says. Close the reader; with its last one a fetch may end.
        """
        with self._condition:
            entry = self._entries.get((mirror, digest))
            is_new = entry is None
            if entry is None:
                fetch = Fetch(
                    mirror,
                    digest,
                    ring_bytes=self._policy_of(mirror).ring,
                    reads_kept=self._backends.driver.capabilities.readable_uploads,
                )
                entry = self._entries[mirror, digest] = _Entry(fetch)
            client, proved = Claimant(repository, size), partial(self._join_proven, entry)
            client.since = self._backends.database.clocks.boot()
            ahead = partial(self._pass_if_ahead, entry)
            reader = FetchReader(entry.fetch, client, self._backends.driver, self._blobs, proved, ahead)
            entry.fetch.add(client, source, is_proven=is_proven)
            if self._stopping.is_set():
                self._end(entry, FetchFailed(Reason.STOPPED, "this process ends"))
            elif is_new:
                self._submit(entry)
                self._watch()
            else:
                self._join_proven(entry)
        return reader

    def count(self) -> int:
        """Fetches that clients of this process wait for, or that it leads."""
        with self._condition:
            return len(self._entries)

    def close(self) -> None:
        """Stop leading, keeping what has come, and cut all clients that wait.

        It waits for no upstream. A leader that is at the store, or connects, is waited for ``policy.ending`` seconds;
        then another process may lead, and its thread is left behind.
        """
        with self._condition:
            self._stopping.set()
            self._condition.notify_all()
            watcher = self._watcher
            led = self._led()
        for leader in led:  # there is no new one any more
            leader.interrupt()
        for passings in self._passings.values():
            passings.close()
        for pool in (*self._leaders.values(), self._joins):
            pool.shutdown(wait=False, cancel_futures=True)
        wait(self._running.copy(), self._policy.ending)
        self._abandon()
        if watcher is not None:
            watcher.join()
        with self._condition:
            for entry in list(self._entries.values()):
                self._end(entry, FetchFailed(Reason.STOPPED, "this process ends"))

    def _abandon(self) -> None:
        """Let other processes lead what a leader of this one leads still."""
        with self._condition:
            left = [(entry, entry.leader) for entry in self._entries.values() if entry.leader is not None]
        for entry, leader in left:
            leader.fence()
            log.warning("a leader does not end, and is left behind", digest=leader.row.key, epoch=leader.row.epoch)
            with contextlib.suppress(DatabaseError), self._backends.database.transaction() as connection:
                fetches.release(connection, leader.row.id, epoch=leader.row.epoch)
            self._end(entry, FetchFailed(Reason.STOPPED, "this process ends"))

    def _policy_of(self, mirror: str) -> FetchPolicy:
        return self._policies.get(mirror, self._policy)

    # ---- beside a fetch

    def _pass(self, entry: _Entry, client: Claimant, cause: str) -> None:
        """Let a client have its bytes from the upstream, if few have them so."""
        mirror = entry.fetch.mirror
        with self._condition:
            if client.is_passing or self._stopping.is_set():
                return
            passings = self._passings.get(mirror)
            if passings is None:
                passings = self._passings[mirror] = Passings(self._policy_of(mirror).passings)
            client.is_passing = passings.begin(entry.fetch, client, partial(self._listener.passed, mirror, cause))

    def _pass_if_ahead(self, entry: _Entry, client: Claimant) -> None:
        if client.position > entry.fetch.come() + self._policy_of(entry.fetch.mirror).ahead:
            self._pass(entry, client, "ahead")

    def _pass_late(self, now: float) -> None:
        """Let clients wait no longer for bytes of another process that cannot be read before the end."""
        if self._backends.driver.capabilities.readable_uploads:
            return
        with self._condition:
            followed = [entry for entry in self._entries.values() if entry.phase is Phase.FOLLOWING]
        for entry in followed:
            for client in entry.fetch.late(now - self._policy_of(entry.fetch.mirror).follow_timeout):
                self._pass(entry, client, "late")

    # ---- leading

    def _submit(self, entry: _Entry, dead: str = "", *, again: bool = False) -> None:
        """Have a thread of its mirror do ``_work``; the caller has the lock."""
        leaders = self._leaders.get(entry.fetch.mirror)
        if leaders is None:
            leaders = ThreadPoolExecutor(self._policy_of(entry.fetch.mirror).fetches, "fetch", cores.use_all)
            self._leaders[entry.fetch.mirror] = leaders
        self._run(leaders, partial(self._work, entry, dead, again=again))

    def _run(self, pool: ThreadPoolExecutor, work: Callable[[], None]) -> None:
        future = pool.submit(work)
        self._running.add(future)
        future.add_done_callback(self._running.discard)

    def _led(self) -> list[Leader]:
        """The leaders of this process; the caller has the lock."""
        return [entry.leader for entry in self._entries.values() if entry.leader is not None]

    def _work(self, entry: _Entry, dead: str = "", *, again: bool = False) -> None:
        """In a thread of its own: lead, or follow the process that does."""
        with self._condition:
            if entry.phase is not Phase.QUEUED:
                return
            entry.phase = Phase.CLAIMING
        try:
            self._lead_or_follow(entry, dead, again=again)
        except DatabaseError as error:
            self._end(entry, FetchFailed(Reason.STORAGE, str(error)))
        except BaseException as error:
            self._end(entry, FetchFailed(Reason.STORAGE, _OURS))
            if not isinstance(error, Exception):
                raise
            log.exception(_OURS)

    def _lead_or_follow(self, entry: _Entry, dead: str, *, again: bool) -> None:
        fetch = entry.fetch
        repository, source = fetch.chosen()
        if not fetch.is_wanted and not self._policy_of(fetch.mirror).fills:
            self._end(entry, FetchFailed(Reason.STOPPED, "no client waits"))
            return
        wanted, begun = Wanted(fetch.mirror, BLOB, str(fetch.digest), repository), self._backends.database.clocks.boot()
        with self._backends.database.transaction() as connection:
            row = self._claim(connection, fetch, wanted, dead, again=again)
        if row is None:
            self._follow(entry)
            with contextlib.suppress(DatabaseError):  # the watcher asks again
                self._look([entry])
            return
        rooms = self._rooms._replace(policy=self._policy_of(fetch.mirror))
        leader = Leader(rooms, fetch, row, source)
        leader.renewed(begun + self._policy.lease)
        with self._condition:
            entry.phase, entry.leader = Phase.LEADING, leader
            if self._stopping.is_set():
                leader.interrupt()
            self._watch()
        self._lead(entry, leader)

    def _claim(
        self, connection: Transaction, fetch: Fetch, wanted: Wanted, dead: str, *, again: bool
    ) -> FetchRow | None:
        """Lead, unless another process does, or bytes are kept that came for a repository with other rights.

        So a leader whose repository has no proof yet begins with a request, which is one, or goes on with its own.
        """
        if wanted.repository in fetch.proven:
            return fetches.claim(
                connection, wanted, holder=self._holder, seconds=self._policy.lease, dead=dead, again=again
            )
        before = fetches.find(connection, wanted.mirror, wanted.key).get()
        if before is not None and self._is_foreign(fetch, wanted.repository, before):
            return None
        row = fetches.claim(connection, wanted, holder=self._holder, seconds=self._policy.lease, dead=dead, again=again)
        if row is None or not row.offset:
            return row
        is_own = before is not None and (before.repository, before.epoch + 1) == (wanted.repository, row.epoch)
        if not is_own:  # another one has brought something in between
            fetches.release(connection, row.id, epoch=row.epoch)
            return None
        fetch.prove(wanted.repository)
        return row

    def _is_foreign(self, fetch: Fetch, repository: str, row: FetchRow) -> bool:
        """Whether a row has bytes that a repository has no right to, for all that is known."""
        is_kept = row.state == fetches.ACTIVE and row.offset > 0
        return is_kept and row.repository != repository and repository not in fetch.proven

    def _lead(self, entry: _Entry, leader: Leader) -> None:
        mirror = entry.fetch.mirror
        self._listener.led(mirror, goes_on=leader.row.offset > 0)
        try:
            try:
                failure = leader.run()
            finally:
                self._listener.ended(mirror)
        except Fenced:
            log.warning("another process leads a fetch by now", digest=leader.row.key, epoch=leader.row.epoch)
            entry.fetch.lead_no_more()
            self._follow(entry)
        except Left:
            self._leave(entry)
        else:
            if failure is not None:
                self._listener.failed(mirror, failure.reason)
            if failure is None:
                self._begin_joins(entry)
            elif failure.reason.is_of_repository:
                self._refuse(entry, leader.row.repository, failure)
            else:
                self._end(entry, failure)

    def _refuse(self, entry: _Entry, repository: str, failure: FetchFailed) -> None:
        """The clients of a repository do not get the blob; it is asked for by the path of another one that waits."""
        entry.fetch.refuse(repository, failure)
        entry.fetch.lead_no_more()
        with self._condition:
            if not entry.fetch.is_wanted or self._stopping.is_set():
                self._end(entry, failure)
            elif entry.phase is not Phase.QUEUED:
                entry.leader = None
                self._queue(entry)

    def _leave(self, entry: _Entry) -> None:
        """The bytes stay for the next leader, which is here if a client has come meanwhile."""
        entry.fetch.lead_no_more()
        with self._condition:
            if self._stopping.is_set() or not entry.fetch.is_wanted:
                self._end(entry, FetchFailed(Reason.STOPPED, "the fetch was left"))
            else:
                entry.phase, entry.leader = Phase.QUEUED, None
                self._submit(entry)

    # ---- following

    def _follow(self, entry: _Entry) -> None:
        with self._condition:
            entry.phase, entry.leader = Phase.FOLLOWING, None
            self._watch()

    def _watch(self) -> None:
        """Have a thread look at the rows; the caller has the lock."""
        if self._watcher is None and not self._stopping.is_set():
            self._watcher = threading.Thread(target=self._look_on, name="fetch-watch", daemon=True)
            self._watcher.start()
        self._condition.notify_all()

    def _look_on(self) -> None:
        clock = self._backends.database.clocks.boot
        self._asked = self._renewed = clock()
        while (work := self._await_work()) is not None:
            seen, led = work
            now = clock()
            try:
                self._pass_late(now)
                self._ask(seen, led, now)
                self._asked = now
            except DatabaseError as error:
                if now - self._asked > self._policy.silence:
                    for entry in seen:
                        self._end(entry, FetchFailed(Reason.STORAGE, str(error)))
            except Exception:  # this thread renews every lease and brings news to every follower: it goes on
                log.exception(_OURS)
                for entry in seen:
                    self._end(entry, FetchFailed(Reason.STORAGE, _OURS))

    def _await_work(self) -> tuple[list[_Entry], list[Leader]] | None:
        """The fetches to look at, and those to lead on; None at the end of the process."""
        with self._condition:
            while not self._entries and not self._stopping.is_set():
                self._condition.wait()
                self._asked = self._backends.database.clocks.boot()
            if self._stopping.is_set() and not any(entry.leader for entry in self._entries.values()):
                return None
            self._condition.wait(self._policy.poll)
            self._forget_unwanted()
            self._interrupt_unwanted()
            seen = [entry for entry in self._entries.values() if entry.phase in _SEEN]
            return seen, self._led()

    def _ask(self, seen: list[_Entry], led: list[Leader], now: float) -> None:
        is_due = now - self._renewed >= self._policy.renewal
        if led and is_due:
            self._renew(led, now)
        if is_due or not led:
            self._renewed = now
        if seen:
            self._look(seen)

    def _forget_unwanted(self) -> None:
        """Follow no fetch without a client; the caller has the lock."""
        for entry in list(self._entries.values()):
            if entry.phase is Phase.FOLLOWING and not entry.fetch.is_wanted:
                self._forget(entry)
            elif entry.phase is Phase.JOINING and not entry.is_joining:
                self._is_over_now(entry)

    def _interrupt_unwanted(self) -> None:
        """End the requests that are of no use any more; the caller has the lock."""
        for entry in self._entries.values():
            if entry.leader is None:
                continue
            if entry.leader.is_late:
                entry.leader.fence()
            elif not (self._policy_of(entry.fetch.mirror).fills or entry.fetch.is_wanted):
                entry.leader.interrupt()

    def _renew(self, led: list[Leader], now: float) -> None:
        with self._backends.database.transaction(durable=False) as connection:
            held = fetches.renew(
                connection, [leader.row.id for leader in led], holder=self._holder, seconds=self._policy.lease
            )
        for leader in led:
            if leader.row.id in held:
                leader.renewed(now + self._policy.lease)
            elif not self._is_over(leader):
                leader.fence()

    def _is_over(self, leader: Leader) -> bool:
        """Whether a leader has ended since the list of them was made."""
        with self._condition:
            return all(entry.leader is not leader for entry in self._entries.values())

    def _look(self, entries: list[_Entry]) -> None:
        """See what the rows say, in one statement."""
        with self._backends.database.autocommit() as connection:
            rows = fetches.find_many(connection, sorted({str(entry.fetch.digest) for entry in entries}))
        found = {(row.mirror, row.key): row for row in rows}
        for entry in entries:
            self._see(entry, found.get((entry.fetch.mirror, str(entry.fetch.digest))))

    def _see(self, entry: _Entry, row: FetchRow | None) -> None:
        fetch = entry.fetch
        with self._condition:
            if entry.phase not in _SEEN:
                return
            is_queued = entry.phase is Phase.QUEUED
            is_foreign = row is not None and self._is_foreign(fetch, fetch.chosen()[0], row)
            if row is None or (row.is_free and row.state != fetches.PUBLISHED and not is_foreign):
                if not is_queued:
                    self._queue(entry)
                return
            if row.state != fetches.PUBLISHED and (row.retry_left or 0.0) > 0:
                reason = Reason.parse(row.error)
                failure = FetchFailed(reason, "an earlier request has failed", row.retry_left)
                if row.state == fetches.FAILED:
                    self._refuse(entry, row.repository, failure)
                else:
                    self._end(entry, failure)
                return
        kept = Kept(row.offset, row.upload_id or "", row.note, row.tail or b"", row.size, row.etag, row.media_type)
        fetch.see(
            edition=row.edition,
            size=row.size,
            media_type=row.media_type,
            kept=kept if row.upload_id and row.state == fetches.ACTIVE else None,
            origin=row.repository,
        )
        if row.offset > 0:  # or it was all: its own request has brought it
            fetch.prove(row.repository)
        if not entry.is_followed and row.holder not in {None, self._holder}:
            entry.is_followed = True
            self._listener.followed(fetch.mirror)
        if row.state == fetches.PUBLISHED:
            fetch.publish(row.size or 0)
            self._begin_joins(entry, row.repository)
        elif not (is_queued or is_foreign) and row.holder is not None and self._is_dead(row.holder):
            with self._condition:
                self._queue(entry, row.holder)

    def _is_dead(self, holder: str) -> bool:
        return holder != self._holder and is_dead(holder)

    def _queue(self, entry: _Entry, dead: str = "", *, again: bool = False) -> None:
        """Let a thread look whether this process may lead; the caller has the lock."""
        entry.phase = Phase.QUEUED
        if not self._stopping.is_set():
            self._submit(entry, dead, again=again)

    # ---- ending

    def _begin_joins(self, entry: _Entry, source: str | None = None) -> None:
        """Make the repositories of all clients members, then forget the fetch."""
        with self._condition:
            entry.phase, leader, entry.leader = Phase.JOINING, entry.leader, None
            if source is None and leader is not None:
                source = leader.row.repository
            entry.source = source or ""
            self._join_proven(entry)

    def _join_proven(self, entry: _Entry) -> None:
        """Have a thread make the repositories of clients members of what is published."""
        with self._condition:
            if entry.phase is not Phase.JOINING or entry.is_joining or self._is_over_now(entry):
                return
            if entry.fetch.missing() and not self._stopping.is_set():
                entry.is_joining = True
                self._run(self._joins, partial(self._join_all, entry))

    def _is_over_now(self, entry: _Entry) -> bool:
        """Forget a fetch whose clients all have it; the caller has the lock."""
        if not entry.fetch.is_over:
            return False
        self._forget(entry)
        return True

    def _join_all(self, entry: _Entry) -> None:
        fetch = entry.fetch
        try:
            while True:
                with self._condition:
                    missing = fetch.missing()
                    if self._is_over_now(entry) or not missing:
                        entry.is_joining = False  # the rest needs proofs
                        return
                for repository in sorted(missing):
                    if not self._has_joined(repository, fetch.digest, entry.source):
                        self._begin_again(entry)
                        return
                    fetch.join(repository)
        except (StorageError, RegistryError, DatabaseError) as error:
            self._end(entry, FetchFailed(Reason.STORAGE, str(error)))
        except BaseException as error:
            self._end(entry, FetchFailed(Reason.STORAGE, _OURS))
            if not isinstance(error, Exception):
                raise
            log.exception(_OURS)

    def _has_joined(self, repository: str, digest: Digest, source: str) -> bool:
        """Whether a repository has the blob, from now on or before. False where it was deleted meanwhile."""
        try:
            self._blobs.find(repository, digest)
        except (BlobUnknown, NameUnknown):
            return self._blobs.mount(repository, digest, source, under_quota=False)
        return True

    def _begin_again(self, entry: _Entry) -> None:
        """The blob was deleted since it was published: clients without a byte of it have it fetched again."""
        with self._condition:
            entry.is_joining = False
            self._queue(entry, again=True)

    def _end(self, entry: _Entry, failure: FetchFailed) -> None:
        with self._condition:
            self._forget(entry)
            entry.leader = None
        entry.fetch.fail(failure)

    def _forget(self, entry: _Entry) -> None:
        key = (entry.fetch.mirror, entry.fetch.digest)
        entry.phase = Phase.ENDED
        if self._entries.get(key) is entry:
            del self._entries[key]
        self._condition.notify_all()

"""*Fetch*: what this process knows of one blob on its way, and the clients that wait for it.

No client waits in a thread: it leaves a callback, which is called once when there may be something for it.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from registry.images.fetching.content import FetchFailed, ProofNeeded, Reason
from registry.images.fetching.ring import Ring
from registry.images.fetching.watch import Watch, wake_all

if TYPE_CHECKING:
    from collections.abc import Callable

    from registry.database.mirrors.fetches import Kept
    from registry.images.fetching.content import Source
    from registry.images.fetching.passing import Passing
    from registry.oci.digest import Digest

LAST_BYTES = 64 << 10
"""Bytes of the ring that stay once the blob is published, for clients that wait for its last byte."""


class Claimant:
    """A client's position in a fetch. Its fields belong to the fetch, under its lock."""

    def __init__(self, repository: str, expected: int | None = None) -> None:
        self.repository = repository
        self.expected = expected
        """Bytes of the blob, as a manifest says; None if none does."""
        self.refusal: FetchFailed | None = None
        """Why its repository does not get the blob, though another one may."""
        self.position = 0
        self.stop: int | None = None
        """Behind the last byte that the client wants; None for the end of the blob."""
        self.edition: int | None = None
        """Which one its bytes are from; None while it has none."""
        self.size: int | None = None
        """What the client was told that the blob has; None while it was not told."""
        self.since = 0.0
        """When it came, by ``clocks.boot``."""
        self.passing: Passing | None = None
        """Where its bytes come from, once it is not this fetch."""
        self.has_begun = False
        """It has bytes of the fetch, or is reading some."""
        self.is_passing = False
        """It was tried to have them from there."""
        self.is_cut = False
        """It may have bytes that are not those of the blob."""
        self.lost_upload: str | None = None
        """The upload that was found to be gone: it is published, or another one begins."""

    def want(self, begin: int, stop: int | None) -> None:
        """Say which bytes the client wants, before any is read."""
        self.position, self.stop = begin, stop


class Fetch:
    """Any thread. One blob from one mirror, in this process."""

    def __init__(self, mirror: str, digest: Digest, *, ring_bytes: int, reads_kept: bool) -> None:
        """``reads_kept``: the store gives the bytes of uploads."""
        self.mirror = mirror
        self.digest = digest
        self._ring_bytes = ring_bytes
        self._reads_kept = reads_kept
        self.lock = threading.RLock()
        self.size: int | None = None
        """Bytes of the blob; None while it is not known."""
        self.media_type: str | None = None
        self.edition = 0
        """As in the row; 0 while this process has not seen it."""
        self.ring: Ring | None = None
        """None unless this process leads."""
        self.kept: Kept | None = None
        """What every process can read."""
        self.failure: FetchFailed | None = None
        self.is_published = False
        self.origin: str | None = None
        """The repository by whose path of the upstream the bytes come, or came; None while that is not known."""
        self.proven: set[str] = set()
        """Repositories whose own upstream repository is known to have the blob (I12)."""
        self.members: set[str] = set()
        """Repositories that have the blob by now, as far as a client here wants it of them."""
        self.sources: dict[str, Source] = {}
        """Where the blob comes from, by the repository whose client asks."""
        self.clients: set[Claimant] = set()
        self._watches: set[Watch] = set()

    # ---- clients

    def add(self, client: Claimant, source: Source, *, is_proven: bool = True) -> None:
        """One more client waits."""
        with self.lock:
            self.clients.add(client)
            self.sources.setdefault(client.repository, source)
        if is_proven:
            self.prove(client.repository)

    def leave(self, client: Claimant) -> None:
        """A client waits no more."""
        with self.lock:
            self.clients.discard(client)

    @property
    def is_wanted(self) -> bool:
        """Whether a client waits that no error keeps from the bytes."""
        with self.lock:
            return any(self._error_of(client) is None for client in self.clients)

    def chosen(self) -> tuple[str, Source]:
        """The repository by whose path the upstream is to be asked: one whose client waits, and has a proof."""
        with self.lock:
            order = {repository: number for number, repository in enumerate(self.sources)}
            waiting = {client.repository for client in self.clients if self._error_of(client) is None}
            first = min(waiting or order, key=lambda each: (each not in self.proven, order[each]))
            return first, self.sources[first]

    # ---- rights

    def prove(self, repository: str) -> None:
        """The upstream has the blob in this repository."""
        with self.lock:
            self.proven.add(repository)
        self.wake()

    def needs_proof(self, client: Claimant) -> bool:
        """Whether bytes come that are not known to be of the client's repository, too."""
        return client.repository not in self.proven and self.origin not in {None, client.repository}

    def refuse(self, repository: str, failure: FetchFailed) -> None:
        """The clients of this repository get no bytes; the path of another one may have them."""
        with self.lock:
            for client in self.clients:
                if client.repository == repository:
                    client.refusal = failure
        self.wake()

    def refuses(self, size: int) -> bool:
        """Whether each client that waits knows another size of the blob."""
        with self.lock:
            known = {client.expected for client in self.clients if self._error_of(client) is None}
        return bool(known) and not known & {None, size}

    def has_head(self, client: Claimant) -> bool:
        """Whether it is known how the answer to a client begins: with its size, or with an error; or what it needs.

        The size of a blob without a byte is the whole answer, so it is held back as a last byte is.
        """
        if client.passing is not None or self._error_of(client) is not None or self.needs_proof(client):
            return True
        is_whole = self.size == 0 and client.repository not in self.members
        return client.repository in self.proven and self.size is not None and not is_whole

    def watch(self, is_due: Callable[[], bool], wake: Callable[[], object]) -> Watch | None:
        """Call ``wake`` once ``is_due``, which takes no lock and is quick; None where it is already."""
        with self.lock:
            if is_due():
                return None
            watch = Watch(self, is_due, wake)
            self._watches.add(watch)
            return watch

    def forget(self, watch: Watch) -> None:
        """See Watch.cancel."""
        with self.lock:
            self._watches.discard(watch)

    def is_ready(self, client: Claimant) -> bool:
        """Whether there is something for a client: bytes, the end, or an error."""
        if client.passing is not None or self._error_of(client) is not None or self.needs_proof(client):
            return True
        if client.repository not in self.proven:
            return False
        if self._is_at_end(client) or client.repository in self.members:
            return True
        position = client.position
        if position >= self.limit(client):
            return False
        return self.has_in_ring(client) or self.has_kept(client)

    def check(self, client: Claimant) -> None:
        """Raises FetchFailed where the client gets no more bytes, ProofNeeded where it gets none yet."""
        error = self._error_of(client)
        if error is not None:
            raise error
        if self.needs_proof(client):
            raise ProofNeeded

    def is_done(self, client: Claimant) -> bool:
        """Whether the client has all that it wants."""
        with self.lock:
            return self._is_at_end(client)

    def limit(self, client: Claimant) -> int:
        """Up to where the client may have bytes now: its last one is held back until its repository has the blob."""
        stop = self._stop(client)
        if client.repository in self.members and stop is not None:
            return stop
        end = self.come()
        return min(end, (end if stop is None else stop) - 1)

    def has_in_ring(self, client: Claimant) -> bool:
        """Whether the client's next byte is in memory."""
        return self.ring is not None and self.ring.has(client.position)

    def has_kept(self, client: Claimant) -> bool:
        """Whether the client's next byte can be read from the upload."""
        kept = self.kept
        return (
            self._reads_kept
            and kept is not None
            and not self.is_published
            and client.position < kept.offset
            and client.lost_upload != kept.upload_id
        )

    def advance(self, client: Claimant, count: int, edition: int) -> None:
        """The client has so many bytes more, of this edition."""
        with self.lock:
            client.position += count
            if count and client.edition is None:
                client.edition = edition

    def _is_at_end(self, client: Claimant) -> bool:
        stop = self._stop(client)
        is_held_back = self.size == 0 and client.repository not in self.members
        return stop is not None and client.position >= stop and not is_held_back

    def _stop(self, client: Claimant) -> int | None:
        """Behind the last byte that a client can have; None while that is not known."""
        known = [each for each in (client.stop, self.size) if each is not None]
        return min(known, default=None)

    def _error_of(self, client: Claimant) -> FetchFailed | None:
        if client.refusal is not None and client.repository not in self.members:
            return client.refusal
        has_others = client.edition not in (None, self.edition)
        if client.is_cut or has_others or (client.size is not None and self.size not in (None, client.size)):
            return FetchFailed(Reason.CUT, "the fetch goes on with bytes that may be others than the client has")
        if client.expected is not None and self.size not in {None, client.expected}:
            message = f"the upstream has {self.size} bytes, the manifest says {client.expected}"
            return FetchFailed(Reason.INVALID, message)
        return None if client.repository in self.members else self.failure

    # ---- clients that have their bytes elsewhere

    def late(self, before: float) -> list[Claimant]:
        """Clients that came before then, and do not know how their answers begin."""
        with self.lock:
            return [each for each in self.clients if each.since < before and not each.is_passing and each.size is None]

    def come(self) -> int:
        """Bytes of the blob that have come, for all that is known here."""
        with self.lock:
            ring, kept = self.ring, self.kept
            return max(ring.end if ring is not None else 0, kept.offset if kept is not None else 0)

    def pass_on(self, client: Claimant, passing: Passing, wanted: tuple[int, int | None]) -> bool:
        """Let a client have the wanted bytes from there; False where it has left, or has what it needs."""
        with self.lock:
            is_same = {client.size, client.expected} <= {None, passing.size}
            is_same = is_same and not client.has_begun and (client.position, client.stop) == wanted
            is_waiting = client in self.clients and client.repository not in self.members
            if not (is_same and is_waiting and self._error_of(client) is None):
                return False
            client.passing = passing
            self.clients.discard(client)
        self.wake()
        return True

    # ---- a leader of this process

    def lead(self, *, edition: int, begin: int, origin: str | None = None) -> None:
        """This process leads, and lays what comes from ``begin`` on into memory."""
        with self.lock:
            self.origin = origin or self.origin
            self._take_edition(edition)
            self.is_published = False
            self.members.clear()
            self.ring = Ring(begin, self._ring_bytes)
        self.wake()

    def tell(self, size: int | None, media_type: str | None) -> None:
        """The upstream has answered."""
        with self.lock:
            self.size = size if size is not None else self.size
            self.media_type = media_type
        self.wake()

    def append(self, data: bytes) -> None:
        """Bytes have come."""
        with self.lock:
            if self.ring is not None:
                self.ring.append(data)
        self.wake()

    def keep(self, kept: Kept) -> None:
        """Every process can read so many bytes by now."""
        with self.lock:
            self.kept = kept
        self.wake()

    def lead_no_more(self) -> None:
        """Another process may lead: a client that has more than was kept may have other bytes than come now."""
        with self.lock:
            self.ring = None
            kept = self.kept.offset if self.kept is not None else 0
            for client in self.clients:
                client.is_cut = client.is_cut or (client.edition == self.edition and client.position > kept)
        self.wake()

    # ---- what became of it

    def see(
        self, *, edition: int, size: int | None, media_type: str | None, kept: Kept | None, origin: str | None = None
    ) -> None:
        """The row says this, which another process leads."""
        with self.lock:
            if self.ring is not None:
                return
            self._take_edition(edition)
            self.origin = origin or self.origin
            self.kept = kept
            self.size = size if size is not None else self.size
            self.media_type = media_type or self.media_type
        self.wake()

    def _take_edition(self, edition: int) -> None:
        """What was told of an earlier one is not true of this."""
        if edition != self.edition:
            self.size = self.media_type = self.kept = None
        self.edition = edition

    def publish(self, size: int) -> None:
        """The blob is published; the repositories of clients become members of it by and by."""
        with self.lock:
            self.size = size
            self.is_published = True
            if self.ring is not None:
                self.ring.shrink(LAST_BYTES)

    def join(self, repository: str) -> None:
        """A repository has the blob."""
        with self.lock:
            self.members.add(repository)
            self.proven.add(repository)
        self.wake()

    def missing(self) -> set[str]:
        """Repositories of clients that may have the blob, and do not yet."""
        with self.lock:
            waiting = {client.repository for client in self.clients if self._error_of(client) is None}
            return (waiting & self.proven) - self.members

    @property
    def is_over(self) -> bool:
        """Whether no client waits that is without the blob, or without its proof."""
        with self.lock:
            return all(
                client.repository in self.members or self._error_of(client) is not None for client in self.clients
            )

    def fail(self, failure: FetchFailed) -> None:
        """No bytes come any more."""
        with self.lock:
            self.failure = self.failure or failure
            self.ring = None
        self.wake()

    def wake(self) -> None:
        """Call each callback that waits for what is true by now."""
        with self.lock:
            due = [watch for watch in self._watches if watch.is_due()]
            self._watches.difference_update(due)
        wake_all(due)

"""*Actor*: a client that pushes, mounts, moves tags, deletes, restores and pulls, and says what it must find.

Every image has bytes that no other actor has; layers are shared by all. So an actor knows what must be there of its
own, whatever the rest does, and the blobs of all come together in the store.
"""

from __future__ import annotations

import json
import random
import threading
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from tests.soak.collecting.times import LEASE, PATIENCE, WINDOW
from tests.soak.loss import require_kept
from tests.support.payloads import Blob, Manifest, image, index

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import TracebackType

    from tests.soak.client import Reply
    from tests.soak.collecting.caller import Caller

SHARED = "collected/shared"
LAYERS = tuple(Blob(bytes([number]) * 3000) for number in range(3))
"""Those of most images, which are hardly ever out of use."""
RARE = tuple(Blob(f"rare {number} ".encode() * 400) for number in range(30))
"""Those that are collected and pushed again, by all actors, all the time."""
TAGS = 3
"""Tags that an actor has in a repository."""
ATTEMPTS = 40
"""How often a push is begun anew whose blobs went because it took longer than a lease."""
KEPT = 30
"""Images without a tag, and deleted ones, that an actor remembers."""
MARGIN = 0.3
"""Seconds before the end of the window in which nothing is expected of a restore."""


def own(number: int) -> str:
    """The repository of one actor."""
    return f"collected/own{number}"


@dataclass(eq=False)
class Image:
    """What was pushed, with all that it is made of."""

    manifest: Manifest
    blobs: tuple[Blob, ...] = ()
    children: tuple[Image, ...] = ()
    referrers: list[Image] = field(default_factory=list)
    is_child: bool = False
    """It was made for an index, and never has a tag."""

    @property
    def digest(self) -> str:
        """The digest of the manifest."""
        return self.manifest.digest

    def all(self) -> Iterator[Image]:
        """It, what it lists, and what is attached to these."""
        yield self
        for each in (*self.children, *self.referrers):
            yield from each.all()

    def digests(self) -> set[str]:
        """Everything that has to be on storage for it."""
        return {digest for each in self.all() for digest in (each.digest, *each.manifest.blobs)}


@dataclass(frozen=True)
class Deleted:
    """What went into the trash."""

    repository: str
    tags: tuple[str, ...]
    """Those that pointed at it."""
    image: Image
    at: float
    """Before the request (monotonic)."""
    is_tag: bool = False
    """Only a tag was deleted."""

    def can_come_back(self) -> bool:
        """Whether it must be possible to restore it, and to be told so now."""
        return time.monotonic() - self.at < WINDOW - MARGIN


class Actor(threading.Thread):
    """For the thread that it is, but for what is read after its end."""

    def __init__(self, number: int, count: int, caller: Caller, chance: random.Random) -> None:
        super().__init__(name=f"actor-{number}", daemon=True)
        self._number = number
        self._caller = caller
        self._chance = chance
        self._ended = threading.Event()
        self._repositories = (SHARED, own(number))
        self._sources = (SHARED, *(own(other) for other in range(count)))
        self._made = 0
        self.tagged: dict[tuple[str, str], Image] = {}
        """What must be there."""
        self._set_at: dict[tuple[str, str], float] = {}
        """When a tag was last set (monotonic)."""
        self._loose: list[tuple[str, Image]] = []
        """What may be there: without a tag, so that a collection may take it."""
        self._deleted: list[Deleted] = []
        self.failure: BaseException | None = None
        self.done: Counter[str] = Counter()
        """How often it did what, and how often that was worth something."""

    def end(self) -> None:
        """Finish what is under way and stop."""
        self._ended.set()

    def run(self) -> None:
        """Act until ``end``."""
        ways = (
            (self.push, 6),
            (self.push_index, 2),
            (self.attach, 1),
            (self.retag, 2),
            (self.delete_tag, 2),
            (self.delete_image, 2),
            (self.restore, 3),
            (self.pull, 3),
            (self.pull_loose, 2),
            (self.delete_blob, 1),
        )
        try:
            while not self._ended.is_set():
                (act,) = self._chance.choices([way for way, _ in ways], [weight for _, weight in ways])
                act()
                self.done[act.__name__] += 1
        except BaseException as failure:  # noqa: BLE001 - shown by the test, in its own thread
            self.failure = failure
        finally:
            self._caller.close()

    # ---- what it does

    def push(self) -> None:
        """An image under one of its tags, as clients do: HEAD, or mount, or upload, then the manifest."""
        repository, tag = self._place()
        made = self._image()
        self._put(repository, made, tag)
        self._set(repository, tag, made)

    def push_index(self) -> None:
        """Children by digest, or skipped where HEAD says that they are there, then the index."""
        repository, tag = self._place()
        known = [found for name, found in self._loose if name == repository and found.is_child]
        wanted = [self._image(is_child=True)]
        wanted.append(self._chance.choice(known) if known else self._image(is_child=True))
        made = Image(index([child.manifest for child in wanted], annotations=self._mark()), children=tuple(wanted))
        for _ in range(ATTEMPTS):
            until = min(self._offer(repository, child) for child in wanted)
            if self._acknowledged(self._send(repository, made, tag), until, made):
                self._set(repository, tag, made)
                return
        raise AssertionError("an index is never in time")

    def attach(self) -> None:
        """A signature to something that is tagged: it stays, goes and comes back with it."""
        if (place := self._any_tag()) is None:
            return
        subject = self.tagged[place]
        config = Blob(b"{}")
        signature = image(config, [], subject=subject.manifest, artifact_type="application/vnd.example.signature",
                          annotations=self._mark())  # fmt: skip
        made = Image(signature, (config,))
        self._put(place[0], made, signature.digest)
        subject.referrers.append(made)

    def retag(self) -> None:
        """Another tag for what has one: nothing of it can have gone."""
        if (place := self._any_tag()) is None:
            return
        (repository, _), found = place, self.tagged[place]
        tag = self._tag()
        reply = self._send(repository, found, tag)
        assert reply.status == 201, (repository, tag, reply)
        self._set(repository, tag, found)

    def delete_tag(self) -> None:
        """A tag alone."""
        if (place := self._any_tag()) is None:
            return
        repository, tag = place
        began, found = time.monotonic(), self.tagged[place]
        assert self._gone(f"/v2/{repository}/manifests/{tag}") == 202
        self._unset(repository, tag)
        self._remember(Deleted(repository, (tag,), found, began, is_tag=True))

    def delete_image(self) -> None:
        """A manifest, with its tags and what is attached to it."""
        if (place := self._any_tag()) is None:
            return
        repository, found = place[0], self.tagged[place]
        began = time.monotonic()
        assert self._gone(f"/v2/{repository}/manifests/{found.digest}") == 202
        names = tuple(tag for (name, tag), held in self.tagged.items() if (name, held) == (repository, found))
        for tag in names:
            del self.tagged[repository, tag]
        for each in (found, *found.referrers):
            reply = self._caller.call("GET", f"/v2/{repository}/manifests/{each.digest}")
            assert reply.status == 404, ("deleted, and still there", each.digest, reply)
        self._loose += [(repository, child) for child in found.children]
        self._remember(Deleted(repository, names, found, began))

    def restore(self) -> None:
        """What was deleted, as its tag was or by its digest; within the window nothing of it may be missing."""
        if not self._deleted:
            return
        deleted = self._deleted.pop(self._chance.randrange(len(self._deleted)))
        repository, found = deleted.repository, deleted.image
        unmoved = [tag for tag in deleted.tags if self._set_at[repository, tag] < deleted.at]
        if deleted.is_tag and not unmoved:
            return
        tag = self._chance.choice(unmoved) if unmoved and (deleted.is_tag or self._chance.random() < 0.7) else None
        document = {"digest": found.digest} if tag is None else {"tag": tag}
        headers = {"Content-Type": "application/json"}
        reply = self._caller.call(
            "POST", f"/api/v1/repositories/{repository}/restore", json.dumps(document).encode(), headers
        )
        if deleted.can_come_back():
            assert reply.status == 200, ("not restored within the window", document, deleted, reply)
            self.done["restored in time"] += 1
        assert reply.status in {200, 404}, reply
        if reply.status != 200:
            return
        if tag is None:
            self._loose.append((repository, found))
            self._check_loose(repository, found)
            return
        self._set(repository, tag, found)
        self._check(repository, tag, found)

    def pull(self) -> None:
        """What must be there, to the last byte."""
        if (place := self._any_tag()) is not None:
            self._check(*place, self.tagged[place])

    def pull_loose(self) -> None:
        """What may be there: then it is whole."""
        if self._loose:
            self._check_loose(*self._chance.choice(self._loose))

    def delete_blob(self) -> None:
        """A blob of its own repository, which is refused where a manifest names it."""
        digest = self._chance.choice((*LAYERS, *RARE)).digest
        status = self._gone(f"/v2/{own(self._number)}/blobs/{digest}")
        assert status in {202, 404, 405}, status
        used = any(name == own(self._number) and digest in found.digests() for (name, _), found in self.tagged.items())
        assert not used or status == 405, (digest, status)

    # ----

    def check_all(self) -> None:
        """Everything that must be there, after the end of the thread."""
        try:
            for (repository, tag), found in self.tagged.items():
                self._check(repository, tag, found)
        finally:
            self._caller.close()  # servers close what is idle for long

    def _place(self) -> tuple[str, str]:
        return self._chance.choice(self._repositories), self._tag()

    def _tag(self) -> str:
        return f"actor{self._number}-{self._chance.randrange(TAGS)}"

    def _any_tag(self) -> tuple[str, str] | None:
        return self._chance.choice(list(self.tagged)) if self.tagged else None

    def _mark(self) -> dict[str, str]:
        self._made += 1
        return {"org.example.made": f"{self._number}-{self._made}"}

    def _image(self, *, is_child: bool = False) -> Image:
        self._made += 1
        config = Blob(f'{{"actor": {self._number}, "image": {self._made}}}'.encode())
        fresh = Blob(self._chance.randbytes(self._chance.choice((1, 3000, 40_000))))
        layers = [self._chance.choice(LAYERS), *self._chance.sample(RARE, 2), fresh]
        return Image(image(config, layers), (config, *layers), is_child=is_child)

    def _set(self, repository: str, tag: str, found: Image) -> None:
        if self.tagged.get((repository, tag)) is not found:
            self._unset(repository, tag)
        self.tagged[repository, tag] = found
        self._set_at[repository, tag] = time.monotonic()

    def _unset(self, repository: str, tag: str) -> None:
        before = self.tagged.pop((repository, tag), None)
        still = any((name, held) == (repository, before) for (name, _), held in self.tagged.items())
        if before is not None and not still:
            self._loose = [*self._loose, (repository, before)][-KEPT:]

    def _remember(self, deleted: Deleted) -> None:
        self._deleted = [*self._deleted, deleted][-KEPT:]

    # ---- requests

    def _gone(self, target: str) -> int:
        """Delete; 202 too where a request that was asked to come again has done it."""
        waits = self._caller.waits
        status = self._caller.call("DELETE", target).status
        return 202 if status == 404 and self._caller.waits > waits else status

    def _put(self, repository: str, made: Image, reference: str) -> None:
        """Push an image whole. Raises AssertionError if anything goes that was promised."""
        for _ in range(ATTEMPTS):
            until = self._have(repository, made.blobs)
            if self._acknowledged(self._send(repository, made, reference), until, made):
                return
        raise AssertionError("a push is never in time")

    def _send(self, repository: str, made: Image, reference: str) -> Reply:
        headers = {"Content-Type": made.manifest.media_type}
        return self._caller.call("PUT", f"/v2/{repository}/manifests/{reference}", made.manifest.data, headers)

    def _acknowledged(self, reply: Reply, until: float, made: Image) -> bool:
        """Whether a manifest was taken. It must be if the answer came before ``until``."""
        if reply.status == 201:
            self.done["taken"] += 1
            return True
        assert reply.status == 400, reply
        assert b"UNKNOWN" in reply.body, reply
        late = time.monotonic() - until
        require_kept(late > 0, "what the client was told is here has gone", -late, made.manifest, reply)
        self.done["late"] += 1
        return False

    def _have(self, repository: str, blobs: Sequence[Blob]) -> float:
        """See to it that a repository has these; until when that is promised (monotonic)."""
        return min(self._have_one(repository, blob) for blob in blobs)

    def _have_one(self, repository: str, blob: Blob) -> float:
        began = time.monotonic()
        # A lease is renewed when less than half of it is left.
        if self._caller.call("HEAD", f"/v2/{repository}/blobs/{blob.digest}").status == 200:
            self.done["skipped"] += 1
            return began + LEASE / 2
        if self._chance.random() < 0.4:
            began = time.monotonic()
            if self._caller.mount(repository, blob.digest, self._chance.choice(self._sources)):
                self.done["mounted"] += 1
                return began + LEASE / 2
        began = time.monotonic()
        self._caller.push_blob(repository, blob)
        return began + LEASE

    def _offer(self, repository: str, child: Image) -> float:
        """See to it that a repository has a manifest; until when that is promised (monotonic)."""
        began = time.monotonic()
        if self._caller.call("HEAD", f"/v2/{repository}/manifests/{child.digest}").status == 200:
            self.done["skipped child"] += 1
            return began + LEASE / 2
        began = time.monotonic()
        self._put(repository, child, child.digest)
        return began + LEASE / 2

    def _check(self, repository: str, tag: str, found: Image) -> None:
        reply = self._caller.call("GET", f"/v2/{repository}/manifests/{tag}")
        served = reply.status, reply.headers.get("docker-content-digest")
        require_kept(served == (200, found.digest), repository, tag, found.manifest, reply)
        for each in found.all():
            reply = self._caller.call("GET", f"/v2/{repository}/manifests/{each.digest}")
            kept = (reply.status, reply.body) == (200, each.manifest.data)
            require_kept(kept, repository, tag, each.manifest, reply)
            for blob in each.blobs:
                reply = self._caller.call("GET", f"/v2/{repository}/blobs/{blob.digest}")
                kept = (reply.status, reply.body == blob.data) == (200, True)
                require_kept(kept, repository, tag, blob.digest, reply)
        self.done["checked"] += 1

    def _check_loose(self, repository: str, found: Image) -> None:
        path = f"/v2/{repository}/manifests/{found.digest}"
        reply = self._caller.call("GET", path)
        assert reply.status in {200, 404}, reply
        if reply.status == 404:
            return
        parts = [(f"/v2/{repository}/blobs/{blob.digest}", blob.data) for blob in found.blobs]
        parts += [(f"/v2/{repository}/manifests/{child.digest}", child.manifest.data) for child in found.children]
        for part, data in parts:
            reply = self._caller.call("GET", part)
            if reply.status != 200:  # only after the manifest
                assert self._caller.call("GET", path).status == 404, (repository, found.manifest, part, reply)
                return
            assert reply.body == data
        self.done["checked without a tag"] += 1


class Actors:
    """All of them, at once. A context manager; what one saw is raised at its end, unless the block has raised."""

    def __init__(self, actors: Sequence[Actor]) -> None:
        self._actors = actors

    def __enter__(self) -> Self:
        for actor in self._actors:
            actor.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for actor in self._actors:
            actor.end()
        for actor in self._actors:
            actor.join(2 * PATIENCE)
        if error is None:
            self.check()
            assert not any(actor.is_alive() for actor in self._actors), "an actor hangs"

    def check(self) -> None:
        """Raise what any of them saw."""
        for actor in self._actors:
            if actor.failure is not None:
                raise AssertionError(f"{actor.name} saw a failure") from actor.failure

    def done(self) -> Counter[str]:
        """What all of them did."""
        return sum((actor.done for actor in self._actors), Counter())

    def check_all(self) -> None:
        """Everything that must be there is there. After their end."""
        for actor in self._actors:
            actor.check_all()

    def expected(self) -> dict[str, set[str]]:
        """By repository what has to be on storage once nothing is left to collect. After their end."""
        found = defaultdict[str, set[str]](set)
        for actor in self._actors:
            for (repository, _), held in actor.tagged.items():
                found[repository] |= held.digests()
        return dict(found)

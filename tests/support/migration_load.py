"""Load: clients that pull and push while a bucket is migrated below them, and what they were told."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Sequence

from tests.soak.client import Client, Reply
from tests.support.payloads import Blob, Manifest, image
from tests.support.served_tags import Tags
from tests.support.source_world import Repository

OWN = ("own/one", "own/two")
"""Repositories that only Stowage has."""
Work = Callable[[Client, random.Random, int], None]

PAUSE = 0.3
"""Seconds between the requests of a client: on few processors the command is to come to something, too."""
HUNG = 300.0
"""Seconds in which a client must have ended what it does."""


class Load:
    """The clients as one. ``failures`` is what no client may ever see."""

    def __init__(self, ports: Sequence[int], content: Sequence[Repository], seed: int) -> None:
        """``content``: of the source; the tag ``gone`` of its repositories is what clients delete."""
        self.content = content
        self.tags: Tags = {repository.name: _digests(repository) for repository in content}
        """What is there by all that was acknowledged."""
        self.pushed: list[tuple[str, Manifest, list[Blob]]] = []
        self.deleted: list[str] = []
        self.reads = self.refused = 0
        self.failures: list[str] = []
        self._adopted = threading.Event()
        self._cut = threading.Event()
        self._ended = threading.Event()
        self._lock = threading.Lock()
        work: list[Work] = [*[self._read] * 3, *[self._write] * 3]
        self._threads = [
            threading.Thread(
                target=self._loop, args=(one, Client(ports[number % len(ports)]), random.Random(seed + number), number)
            )
            for number, one in enumerate(work)
        ]
        for thread in self._threads:
            thread.start()

    def adopted(self) -> None:
        """From now on everything of the source has to be there."""
        self._adopted.set()

    def cut(self) -> None:
        """From now on writes may be refused, with the reason."""
        self._cut.set()

    def end(self) -> None:
        """Let all finish; raises AssertionError with what no client may see."""
        self._ended.set()
        for thread in self._threads:
            thread.join(HUNG)
            assert not thread.is_alive(), "a client hangs"
        assert not self.failures, self.failures[:5]

    def _loop(self, work: Work, client: Client, chance: random.Random, number: int) -> None:
        with client:
            while not self._ended.wait(PAUSE):
                try:
                    work(client, chance, number)
                except Exception as error:  # noqa: BLE001 - told by the test, in its own thread
                    with self._lock:
                        self.failures.append(repr(error))
                    self._ended.wait(PAUSE)

    # ---- reads

    def _read(self, client: Client, chance: random.Random, number: int) -> None:
        is_adopted = self._adopted.is_set()
        if self.pushed and chance.random() < 0.3:
            name, manifest, blobs = chance.choice(self.pushed)
            may_be_missing = False
        else:
            repository = chance.choice(self.content)
            name, manifest = repository.name, chance.choice(repository.manifests)
            blobs = [blob for blob in repository.blobs if blob.digest in manifest.blobs]
            may_be_missing = not is_adopted
            tag = next((tag for tag, made in repository.tags.items() if made is manifest and tag != "gone"), None)
            if tag is not None:
                self._expect(client, f"/v2/{name}/manifests/{tag}", manifest.data, may_be_missing=may_be_missing)
        self._expect(client, f"/v2/{name}/manifests/{manifest.digest}", manifest.data, may_be_missing=may_be_missing)
        if blobs:
            blob = chance.choice(blobs)
            self._expect(client, f"/v2/{name}/blobs/{blob.digest}", blob.data, may_be_missing=may_be_missing)

    def _expect(self, client: Client, target: str, data: bytes, *, may_be_missing: bool) -> None:
        reply = client.call("GET", target)
        if may_be_missing and reply.status == 404:
            return
        assert (reply.status, reply.body == data) == (200, True), (target, reply.status, reply.body[:200])
        with self._lock:
            self.reads += 1

    # ---- writes

    def _write(self, client: Client, chance: random.Random, number: int) -> None:
        try:
            if self._adopted.is_set() and chance.random() < 0.2:
                self._delete(client, chance)
            else:
                self._push(client, chance, number)
        except _Refused:
            with self._lock:
                self.refused += 1

    def _push(self, client: Client, chance: random.Random, number: int) -> None:
        """A new image, some layers of which the source may have, in a repository of either registry."""
        name = chance.choice([*OWN, *(repository.name for repository in self.content)])
        tag = f"client-{number}-{chance.randrange(1 << 30)}"
        known = chance.choice([blob for repository in self.content for blob in repository.blobs])
        blobs = [Blob(chance.randbytes(2000)), known, Blob(chance.randbytes(chance.choice((0, 100, 60_000))))]
        manifest = image(blobs[0], blobs[1:])
        for blob in blobs:
            if not client.has_blob(name, blob.digest):
                opened = self._written(client.call("POST", f"/v2/{name}/blobs/uploads/", b""), 202)
                target = f"{opened.location}{'&' if '?' in opened.location else '?'}digest={blob.digest}"
                self._written(client.call("PUT", target, blob.data), 201)
        headers = {"Content-Type": manifest.media_type}
        self._written(client.call("PUT", f"/v2/{name}/manifests/{tag}", manifest.data, headers), 201)
        with self._lock:
            self.tags.setdefault(name, {})[tag] = manifest.digest
            self.pushed.append((name, manifest, blobs))

    def _delete(self, client: Client, chance: random.Random) -> None:
        """A tag of the source's."""
        with self._lock:
            left = [name for name, tags in self.tags.items() if "gone" in tags and name not in self.deleted]
            if not left:
                return
            name = chance.choice(left)
            self.deleted.append(name)
        try:
            self._written(client.call("DELETE", f"/v2/{name}/manifests/gone"), 202)
        except _Refused:
            with self._lock:
                self.deleted.remove(name)
            raise
        with self._lock:
            del self.tags[name]["gone"]

    def _written(self, reply: Reply, status: int) -> Reply:
        if reply.status == 503 and self._cut.is_set() and b"given back" in reply.body:
            raise _Refused
        assert reply.status == status, (reply.status, reply.body[:300])
        return reply


class _Refused(Exception):
    """A write that came after the cut."""


def _digests(repository: Repository) -> dict[str, str]:
    return {tag: manifest.digest for tag, manifest in repository.tags.items()}

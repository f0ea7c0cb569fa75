"""Clients that push small images without end, through crashes of the server, and write down what was acknowledged."""

from __future__ import annotations

import random
import threading
from typing import TYPE_CHECKING, Self

from tests.soak.client import BROKEN
from tests.support.payloads import Blob, image

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from tests.soak.client import Client
    from tests.soak.history import Attempt, History

SHARED_TAGS = ("latest", "stable")
SHARED_LAYERS = tuple(Blob(bytes([number]) * 4096) for number in range(6))
SIZES = (0, 1, 5000, 60_000)
"""Bytes of the layer that each image has for itself, roughly."""
RECOVERY = 0.02
"""Seconds that a client waits after its connection broke."""
HUNG = 300.0
"""Seconds in which a pusher must have ended its push."""


class Pusher(threading.Thread):
    """One client. ``failures`` holds what it saw that no client may ever see."""

    def __init__(
        self,
        number: int,
        client: Client,
        repositories: tuple[str, ...],
        history: History,
        seed: int,
        sizes: tuple[int, ...],
    ) -> None:
        super().__init__(name=f"pusher-{number}", daemon=True)
        self._number = number
        self._client = client
        self._sizes = sizes
        self._repositories = repositories
        self._history = history
        self._chance = random.Random(f"{seed}-{number}")
        self._ended = threading.Event()
        self._up = threading.Event()
        self._number_of_push = 0
        self.pushed = 0
        self.failures: list[BaseException] = []

    def resume(self) -> None:
        """The server answers: push."""
        self._up.set()

    def pause(self) -> None:
        """The server is about to die; nothing is to be tried after this push until ``resume``."""
        self._up.clear()

    def end(self) -> None:
        """Finish the push at hand and stop."""
        self._ended.set()
        self._up.set()

    def run(self) -> None:
        """Push until ``end``."""
        try:
            while not self._ended.is_set():
                self._up.wait()
                self._push()
        except BaseException as failure:  # noqa: BLE001 - shown by the test, in its own thread
            self.failures.append(failure)
        finally:
            self._client.close()

    def _push(self) -> None:
        repository, tag = self._chance.choice(self._repositories), self._tag()
        own = Blob(self._chance.randbytes(self._chance.choice(self._sizes)) + tag.encode())
        config = Blob(f'{{"client": {self._number}, "push": {self._number_of_push}, "tag": "{tag}"}}'.encode())
        blobs = (config, self._chance.choice(SHARED_LAYERS), own)
        manifest = image(config, blobs[1:])
        try:
            for blob in blobs:
                self._push_blob(repository, blob)
            attempt = self._history.begin(repository, tag, manifest, blobs)
            acknowledged = False
            try:
                self._client.push_manifest(repository, manifest, tag)
                acknowledged = True
            finally:
                self._history.end(attempt, acknowledged=acknowledged)
            if tag not in SHARED_TAGS and self._chance.random() < 0.25:
                self._take_back(attempt)
        except BROKEN:
            self._ended.wait(RECOVERY)
            return
        finally:
            self._number_of_push += 1
        self.pushed += 1

    def _take_back(self, attempt: Attempt) -> None:
        """Take a push back, by its tag or with its manifest."""
        reference = self._chance.choice((attempt.tag, attempt.manifest.digest))
        attempt.deletion_tried = True
        reply = self._client.call("DELETE", f"/v2/{attempt.repository}/manifests/{reference}")
        assert reply.status == 202, reply
        attempt.deletion_acknowledged = True
        attempt.manifest_deleted = reference == attempt.manifest.digest

    def _push_blob(self, repository: str, blob: Blob) -> None:
        if self._client.has_blob(repository, blob.digest):
            return
        if self._chance.random() < 0.3:
            source = self._chance.choice(self._repositories)
            if self._client.mount(repository, blob.digest, source):
                return
        self._client.push_blob(repository, blob, self._chance.choice(("post", "put", "chunks", "stream")))

    def _tag(self) -> str:
        if self._chance.random() < 0.4:
            return self._chance.choice(SHARED_TAGS)
        return f"client{self._number}-{self._number_of_push}"


class Crowd:
    """Several pushers as one, each with a client that ``connect`` makes; they end with the block.

    What a pusher saw is raised at the end of the block, unless the block has raised.
    """

    def __init__(
        self,
        count: int,
        connect: Callable[[], Client],
        repositories: tuple[str, ...],
        history: History,
        seed: int,
        *,
        sizes: tuple[int, ...] = SIZES,
    ) -> None:
        self.pushers = [Pusher(number, connect(), repositories, history, seed, sizes) for number in range(count)]
        for pusher in self.pushers:
            pusher.start()

    @property
    def pushed(self) -> int:
        """Acknowledged pushes so far."""
        return sum(pusher.pushed for pusher in self.pushers)

    def resume(self) -> None:
        """See Pusher."""
        for pusher in self.pushers:
            pusher.resume()

    def pause(self) -> None:
        """See Pusher."""
        for pusher in self.pushers:
            pusher.pause()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for pusher in self.pushers:
            pusher.end()
        for pusher in self.pushers:
            pusher.join(HUNG)
        if error is None:
            self.check()
            assert not any(pusher.is_alive() for pusher in self.pushers), "a pusher hangs"

    def check(self) -> None:
        """Raise what any pusher saw."""
        for pusher in self.pushers:
            if pusher.failures:
                raise AssertionError(f"{pusher.name} saw a failure") from pusher.failures[0]

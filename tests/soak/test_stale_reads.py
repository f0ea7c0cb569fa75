"""Reads during writes: nothing that was acknowledged, or seen by any reader, is ever followed by what was before.

Tags, lists of tags, manifests by digest, referrers and blobs, each written by one client and read by many, at every
worker or replica, with what the memory for reads keeps of them.
"""

from __future__ import annotations

import itertools
import json
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.soak.budget import SEED, announce, budget
from tests.soak.client import Client
from tests.soak.far_registry import FarRegistry
from tests.soak.registers import Register
from tests.support.payloads import Blob, Manifest, image
from tests.support.servers import RegistryProcess

pytestmark = [pytest.mark.soak, pytest.mark.timeout(900)]

SECONDS = budget(sample=6, full=240)
PATIENCE = 60.0
"""Seconds more in which enough must have been read and written on a busy machine."""
READERS = 6
REPOSITORY = "reads/during/writes"
OTHER = "reads/elsewhere"
CONFIG, COMING = Blob(b"{}"), Blob(b"comes and goes" * 500)
SUBJECT = image(CONFIG, [])
KEPT = 3
"""Attachments at once."""
RECONNECT = 0.02
"""Of reads after which a reader opens a connection anew, which another worker may get."""


def numbered(number: int, *, subject: Manifest | None = None) -> Manifest:
    """An image like no other."""
    return image(CONFIG, [], subject=subject, annotations={"number": str(number)})


@dataclass
class Shelf:
    """What is written and read."""

    tag: Register[str | None] = field(default_factory=lambda: Register("tag", None))
    attached: Register[frozenset[str]] = field(default_factory=lambda: Register("referrers", frozenset()))
    blob: Register[bool] = field(default_factory=lambda: Register("blob", False))
    manifest: Register[bool] = field(default_factory=lambda: Register("manifest by digest", False))

    @property
    def registers(self) -> list[Register[object]]:
        """All of them."""
        return [self.tag, self.attached, self.blob, self.manifest]  # type: ignore[list-item] # writes and names alone


# ---- writers: each is one thread, and changes one register


def put(client: Client, manifest: Manifest, reference: str) -> None:
    reply = client.call(
        "PUT", f"/v2/{REPOSITORY}/manifests/{reference}", manifest.data, {"Content-Type": manifest.media_type}
    )
    assert reply.status == 201, reply


def delete(client: Client, end: str) -> None:
    reply = client.call("DELETE", f"/v2/{REPOSITORY}/{end}")
    assert reply.status == 202, reply


def write_tag(client: Client, shelf: Shelf, number: int) -> None:
    """Move it, and delete it by its name or with its manifest."""
    made = numbered(number)
    with shelf.tag.write(made.digest):
        put(client, made, "moved")
    if number % 5 in {2, 4}:
        with shelf.tag.write(None):
            delete(client, f"manifests/{'moved' if number % 5 == 2 else made.digest}")


def write_referrers(client: Client, shelf: Shelf, number: int) -> None:
    """Attach, and detach the oldest."""
    made = numbered(number, subject=SUBJECT)
    with shelf.attached.write(shelf.attached.value | {made.digest}):
        put(client, made, made.digest)
    if number >= KEPT:
        oldest = numbered(number - KEPT, subject=SUBJECT).digest
        with shelf.attached.write(shelf.attached.value - {oldest}):
            delete(client, f"manifests/{oldest}")


def write_blob(client: Client, shelf: Shelf, number: int) -> None:
    """Push or mount it, and delete it."""
    with shelf.blob.write(value=True):
        if number % 2:
            assert client.mount(REPOSITORY, COMING.digest, OTHER)
        else:
            client.push_blob(REPOSITORY, COMING)
    with shelf.blob.write(value=False):
        delete(client, f"blobs/{COMING.digest}")


def write_manifest(client: Client, shelf: Shelf, number: int) -> None:
    """Push one manifest again and again, by its digest alone, and delete it."""
    made = numbered(-1)
    with shelf.manifest.write(value=True):
        put(client, made, made.digest)
    with shelf.manifest.write(value=False):
        delete(client, f"manifests/{made.digest}")


# ---- reads


def read_tag(client: Client, shelf: Shelf, chance: random.Random) -> None:
    begun = shelf.tag.begin()
    reply = client.call(chance.choice(("GET", "HEAD")), f"/v2/{REPOSITORY}/manifests/moved")
    assert reply.status in {200, 404}, reply
    seen = reply.headers["docker-content-digest"] if reply.status == 200 else None
    if reply.body and seen:
        assert Blob(reply.body).digest == seen
    shelf.tag.judge(begun, str(seen), lambda value: value == seen)


def read_tags(client: Client, shelf: Shelf, chance: random.Random) -> None:
    begun = shelf.tag.begin()
    reply = client.call("GET", f"/v2/{REPOSITORY}/tags/list")
    assert reply.status == 200, reply
    seen = "moved" in json.loads(reply.body)["tags"]
    shelf.tag.judge(begun, f"listed: {seen}", lambda value: (value is not None) == seen)


def read_referrers(client: Client, shelf: Shelf, chance: random.Random) -> None:
    begun = shelf.attached.begin()
    reply = client.call("GET", f"/v2/{REPOSITORY}/referrers/{SUBJECT.digest}")
    assert reply.status == 200, reply
    seen = {entry["digest"] for entry in json.loads(reply.body)["manifests"]}
    shelf.attached.judge(begun, str(seen), lambda value: value == seen)


def read_blob(client: Client, shelf: Shelf, chance: random.Random) -> None:
    _read_presence(client, shelf.blob, f"blobs/{COMING.digest}", COMING.data, chance)


def read_manifest(client: Client, shelf: Shelf, chance: random.Random) -> None:
    made = numbered(-1)
    _read_presence(client, shelf.manifest, f"manifests/{made.digest}", made.data, chance)


def _read_presence(client: Client, register: Register[bool], end: str, data: bytes, chance: random.Random) -> None:
    begun = register.begin()
    reply = client.call(chance.choice(("GET", "HEAD")), f"/v2/{REPOSITORY}/{end}")
    assert reply.status in {200, 404}, reply
    seen = reply.status == 200
    assert not seen or reply.body in {b"", data}
    register.judge(begun, f"{reply.status}", lambda value: value == seen)


WRITES = (write_tag, write_referrers, write_blob, write_manifest)
READS = (read_tag, read_tags, read_referrers, read_blob, read_manifest)


class Work:
    """Threads that write and read until the time is over, or one of them fails."""

    def __init__(self, ports: Sequence[int]) -> None:
        self._ports = ports
        self._ended = threading.Event()
        self._threads: list[threading.Thread] = []
        self._failures: list[BaseException] = []
        self.reads = 0

    def start(self, step: Callable[[Client, int], None], seed: str, *, reads: bool) -> None:
        """Do the step again and again, at one port after the other."""
        thread = threading.Thread(target=self._run, args=(step, random.Random(seed), reads), daemon=True)
        self._threads.append(thread)
        thread.start()

    def finish(self, seconds: float, is_enough: Callable[[], bool]) -> None:
        """Let them work so long, and on a busy machine until it is enough; raises what one of them saw."""
        self._ended.wait(seconds)
        deadline = time.monotonic() + PATIENCE
        while not is_enough() and not self._ended.wait(0.1):
            assert time.monotonic() < deadline, "hardly anything happens"
        self._ended.set()
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive(), "a client hangs"
        if self._failures:
            raise AssertionError("a client saw a failure") from self._failures[0]

    def _run(self, step: Callable[[Client, int], None], chance: random.Random, reads: bool) -> None:
        clients = [Client(port) for port in self._ports]
        try:
            for number in itertools.count():
                if self._ended.is_set():
                    return
                client = chance.choice(clients)
                step(client, number)
                self.reads += reads
                if chance.random() < RECONNECT:
                    client.close()
        except BaseException as failure:  # noqa: BLE001 - raised by finish, in the thread of the test
            self._failures.append(failure)
            self._ended.set()
        finally:
            for client in clients:
                client.close()


@pytest.fixture(params=["workers", "replicas"])
def ports(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[list[int]]:
    """Where one registry is reached: two workers on disk and SQLite, or two replicas over S3 and PostgreSQL."""
    if request.param == "replicas":
        far: FarRegistry = request.getfixturevalue("far")
        yield [replica.port for replica in far.replicas.replicas]
        return
    with RegistryProcess(tmp_path, {"http": {"workers": 2}, "storage": {"fsync": False}}) as process:
        yield [process.port]


@pytest.mark.tools("versitygw", "nginx", "initdb", "pg_ctl", "postgres")
def test_no_read_is_older_than_what_was_acknowledged_or_read_before(ports: list[int]) -> None:
    announce()
    with Client(ports[0]) as client:
        for name in (REPOSITORY, OTHER):
            client.push_blob(name, CONFIG)
        client.push_blob(OTHER, COMING)
        client.push_manifest(REPOSITORY, SUBJECT, "subject")
    shelf, work = Shelf(), Work(ports)
    for write in WRITES:
        work.start(lambda client, number, write=write: write(client, shelf, number), f"{SEED} {write}", reads=False)  # type: ignore[misc] # the default binds
    for reader in range(READERS):
        chance = random.Random(f"{SEED} {reader}")
        work.start(
            lambda client, _, chance=chance: chance.choice(READS)(client, shelf, chance),  # type: ignore[misc] # as above
            f"{SEED} of reader {reader}",
            reads=True,
        )

    def written() -> dict[str, int]:
        return {register.name: register.writes for register in shelf.registers}

    work.finish(SECONDS, lambda: work.reads > 10 * SECONDS and min(written().values()) > SECONDS / 2)
    print(f"{work.reads} reads during {written()}")  # noqa: T201

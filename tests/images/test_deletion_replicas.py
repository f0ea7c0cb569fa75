"""The deletion protocol between replicas: PostgreSQL, a real store, processes that are killed and stopped.

The waits are those of a registry, shortened; what a check of lifecycle counts by time is here counted by its cause.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from registry.clocks import Clocks, boot_seconds
from registry.database import blobs
from registry.database.engine import Database
from registry.database.schema import upgrade_database
from registry.database.statement import Statement
from registry.images.backends import Backends, Policy
from registry.images.blob_deletion import Claim
from registry.images.publication import blob_publication
from registry.images.registry import Registry
from registry.oci.digest import Digest
from registry.oci.errors import Unavailable
from registry.storage.errors import StorageError
from registry.storage.s3.driver import S3Driver
from tests.soak.budget import budget
from tests.storage.drivers import s3_server, s3_settings
from tests.support.fault_proxy import FaultProxy
from tests.support.postgresql import Cluster
from tests.support.processes import processes
from tests.support.registry_world import NAME, pull_blob, push_blob

pytestmark = [
    pytest.mark.stores,
    pytest.mark.tools("versitygw", "initdb", "pg_ctl", "postgres"),
    pytest.mark.timeout(300),
]

DATA = b"contested"
DIGEST = Digest.of(DATA)
POLICY = Policy(claim=4.0, unclear=6.0)
ROUNDS = budget(sample=25, full=1000)
_IS_HELD = Statement("SELECT 1 FROM membership WHERE blob_id = :blob")
_LEAVE = Statement("DELETE FROM membership")


@dataclass
class Place:
    """A bucket and a database, which replicas share."""

    url: str
    root: str
    endpoint: str | None = None
    opened: list[Registry] = field(default_factory=list)

    def replica(self, *, skew: float = 0.0) -> Registry:
        """Another machine, whose wall clock is wrong."""
        settings = s3_settings()
        if self.endpoint is not None:
            changed = {"endpoint_url": self.endpoint, "read_timeout": 1.0, "attempts": 2, "timeout": 5.0}
            settings = settings.model_copy(update=changed)
        database = Database(self.url, clocks=Clocks(lambda: time.time() + skew, boot_seconds, f"machine {skew}"))
        upgrade_database(database)
        self.opened.append(
            Registry(Backends(S3Driver(settings, self.root), database, POLICY, clock=database.clocks.wall))
        )
        return self.opened[-1]

    def behind(self, endpoint: str) -> Place:
        """The same, over another address of the store."""
        return replace(self, endpoint=endpoint)


@pytest.fixture
def place(cluster: Cluster, tmp_path: Path) -> Iterator[Place]:
    made = Place(cluster.create(), f"deletion-{os.getpid()}-{tmp_path.name}")
    yield made
    for registry in made.opened:
        registry.close()


@pytest.fixture
def proxy() -> Iterator[FaultProxy]:
    server = s3_server()
    with FaultProxy(server.port, secret=server.secret) as between:
        yield between


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blob_publication, "ATTEMPTS", 5)


def leave(registry: Registry) -> None:
    push_blob(registry, DATA)
    with registry.backends.database.transaction() as connection:
        connection.execute(_LEAVE, {})


def claim(registry: Registry) -> Claim | None:
    """What a collector does: only what no repository has."""
    with registry.backends.database.transaction() as connection:
        row = blobs.lock(connection, DIGEST).get()
        if row is None or connection.execute(_IS_HELD, {"blob": row.id}).first() is not None:
            return None
        return registry.blob_deletion.claim(connection, row.id, registry.backends.layout.blob(NAME, DIGEST))


def collect(registry: Registry) -> bool:
    claimed = claim(registry)
    return claimed is not None and registry.blob_deletion.delete(claimed)


def is_pushed(registry: Registry) -> bool:
    try:
        push_blob(registry, DATA)
    except Unavailable:
        return False
    return True


def push_until_taken(registry: Registry, seconds: float = 60.0) -> float:
    """Push until it is acknowledged; for how long it was not."""
    began = time.monotonic()
    while not is_pushed(registry):
        assert time.monotonic() - began < seconds
        time.sleep(0.1)
    return time.monotonic() - began


@pytest.mark.parametrize("skew", [90, -90])
def test_pushes_stay_while_a_replica_with_another_clock_collects(place: Place, skew: float) -> None:
    """Check 1. Each acknowledged push is read through both, and only then the blob falls out of use."""
    deleter, publisher = place.replica(skew=-skew), place.replica(skew=skew)
    collected, over = 0, threading.Event()

    def go_on_collecting() -> None:
        nonlocal collected
        while not over.is_set():
            collected += collect(deleter)

    with ThreadPoolExecutor(1) as threads:
        collecting = threads.submit(go_on_collecting)
        try:
            for _ in range(ROUNDS):
                push_until_taken(publisher)
                for registry in (deleter, publisher):
                    assert pull_blob(registry, DIGEST) == DATA
                with publisher.backends.database.transaction() as connection:
                    connection.execute(_LEAVE, {})
        finally:
            over.set()
        collecting.result(60)
    assert collected > ROUNDS / 10, "hardly anything was collected"


def late_delete(place: Place) -> None:
    """The store carries out now what it was sent long ago."""
    registry = place.replica()
    registry.backends.driver.delete([registry.backends.layout.blob(NAME, DIGEST)])


@pytest.mark.parametrize("way", ["500", "503", "cut", "silence"])
def test_a_delete_that_comes_late_takes_no_push(place: Place, proxy: FaultProxy, way: str) -> None:
    """Check 2. The store answers with an error, or not at all, and deletes later."""
    publisher, deleter = place.replica(), place.behind(proxy.url).replica()
    leave(publisher)
    strike: dict[str, Callable[[], object]] = {
        "500": lambda: proxy.fail("DeleteObject", status=500),
        "503": lambda: proxy.fail("DeleteObject", status=503),
        "cut": lambda: proxy.fail("DeleteObject", status=None),
        "silence": lambda: proxy.hang("DeleteObject"),
    }
    strike[way]()
    with pytest.raises(StorageError):
        collect(deleter)
    assert proxy.kinds().count("DeleteObject") == 1
    assert not is_pushed(publisher)
    late_delete(place)
    assert push_until_taken(publisher) < POLICY.unclear
    assert pull_blob(place.replica(), DIGEST) == DATA


def test_a_delete_whose_answer_was_lost_is_seen_at_once(place: Place, proxy: FaultProxy) -> None:
    """Check 2."""
    publisher, deleter = place.replica(), place.behind(proxy.url).replica()
    leave(publisher)
    proxy.fail("DeleteObject", after=True)
    assert collect(deleter)
    assert is_pushed(publisher)


def test_a_delete_that_never_comes_keeps_a_push_waiting_for_a_while(place: Place, proxy: FaultProxy) -> None:
    """Check 2."""
    publisher, deleter = place.replica(), place.behind(proxy.url).replica()
    leave(publisher)
    proxy.fail("DeleteObject", status=500)
    with pytest.raises(StorageError):
        collect(deleter)
    assert push_until_taken(publisher) > POLICY.unclear / 2
    assert pull_blob(place.replica(), DIGEST) == DATA
    assert publisher.blob_deletion.finish_abandoned() == 0


def delete_in_a_process(place: Place, told: Connection, *, stops: bool) -> None:
    """Claim and delete; ``stops``: this process is stopped in between, and goes on when another lets it."""
    registry = place.replica()
    claimed = claim(registry)
    assert claimed is not None
    told.send("claimed")
    if stops:
        os.kill(os.getpid(), signal.SIGSTOP)
    with contextlib.suppress(StorageError):
        told.send(registry.blob_deletion.delete(claimed))


@contextlib.contextmanager
def deleting(place: Place, *, stops: bool = False) -> Iterator[tuple[int, Connection]]:
    ours, theirs = processes().Pipe()
    child = processes().Process(
        target=delete_in_a_process, args=(replace(place, opened=[]), theirs), kwargs={"stops": stops}
    )
    child.start()
    assert child.pid is not None
    try:
        assert ours.poll(60)
        assert ours.recv() == "claimed"
        yield child.pid, ours
    finally:
        child.kill()
        child.join()


def test_a_collector_that_was_stopped_deletes_nothing_that_came_since(place: Place) -> None:
    """Check 3. SIGSTOP between claim and delete, a push, SIGCONT."""
    publisher = place.replica()
    leave(publisher)
    with deleting(place, stops=True) as (pid, told):
        assert not is_pushed(publisher)
        push_until_taken(publisher)
        os.kill(pid, signal.SIGCONT)
        assert told.poll(60)
        assert told.recv() is False
    assert pull_blob(place.replica(), DIGEST) == DATA


def test_a_collector_that_was_killed_after_it_sent_takes_no_push(place: Place, proxy: FaultProxy) -> None:
    """Check 2b. SIGKILL while the store is silent; the delete is carried out later."""
    publisher = place.replica()
    leave(publisher)
    proxy.hang("DeleteObject", times=None)
    with deleting(place.behind(proxy.url)):
        deadline = time.monotonic() + 30
        while "DeleteObject" not in proxy.kinds():
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert not is_pushed(publisher)
    time.sleep(POLICY.claim)
    assert not is_pushed(publisher)
    assert publisher.blob_deletion.finish_abandoned() == 0
    late_delete(place)
    assert is_pushed(publisher)
    assert pull_blob(place.replica(), DIGEST) == DATA


def test_an_orphan_and_a_push_at_once(place: Place) -> None:
    """Check 5. Sweep and push begin together, again and again."""
    sweeper, publisher = place.replica(), place.replica()
    key = sweeper.backends.layout.blob(NAME, DIGEST)
    for _ in range(max(5, ROUNDS // 5)):
        stat = sweeper.backends.driver.write(key, DATA)
        begin = threading.Barrier(2)

        def sweep() -> bool:
            begin.wait()  # noqa: B023 - each round ends before the next
            claimed = sweeper.blob_deletion.claim_orphan(key, DIGEST, stat)  # noqa: B023 - likewise
            return claimed is not None and sweeper.blob_deletion.delete(claimed)

        with ThreadPoolExecutor(1) as threads:
            sweeping = threads.submit(sweep)
            begin.wait()
            push_until_taken(publisher)
            sweeping.result(60)
        assert pull_blob(publisher, DIGEST) == DATA
        with publisher.backends.database.transaction() as connection:
            connection.execute(Statement("DELETE FROM blob"), {})

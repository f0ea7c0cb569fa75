"""Fetches of several processes, of which one is killed or frozen (checks 3, 8 and 10 of mirrors)."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from registry.database.engine import Database
from registry.database.errors import DatabaseUnavailable
from registry.database.mirrors import fetches
from registry.database.mirrors.fetches import FetchRow
from registry.images.registry import Registry
from registry.mirror.remote_blob import RemoteBlob
from tests.images.fetching.scripted import hub_of, read_all
from tests.mirror.fetching_process import LEASE, fetch, open_registry, reported
from tests.mirror.served_blob import ServedBlob
from tests.storage.workers import start
from tests.support.sqlite import create_current
from tests.upstream.hostile import HostileServer, hostile_server, upstream_of

DATA = random.Random(23).randbytes(12_000_000)
"""More than two parts of the S3 store of the tests."""
HALF = 7_000_000
REPOSITORY = "hub/team/app"
PIECE = 1 << 20
S3 = pytest.param("s3", marks=[pytest.mark.stores, pytest.mark.tools("versitygw", "initdb", "pg_ctl", "postgres")])


class Place:
    """One storage, one database and one upstream, for any number of processes."""

    def __init__(self, case: str, directory: Path, url: str, server: HostileServer) -> None:
        self.case, self.root, self.url, self.server = case, directory / "root", url, server
        self.directory = directory
        self.registry = open_registry(case, self.root, url)
        self.served = ServedBlob(server, DATA)
        self._started: list[BaseProcess] = []

    def start(self, name: str, clients: int = 1) -> BaseProcess:
        served, report = self.served, self.report(name)
        process = start(
            fetch, self.case, self.root, self.url, self.server.url(), served.path, served.digest, clients, report
        )
        self._started.append(process)
        return process

    def report(self, name: str) -> Path:
        return self.directory / f"{name}.json"

    def row(self) -> FetchRow | None:
        with self.registry.backends.database.autocommit() as connection:
            return fetches.find(connection, "hub", self.served.digest).get()

    def kept(self) -> int:
        row = self.row()
        return row.offset if row is not None else 0

    def close(self) -> None:
        self.served.go_on.set()
        for process in self._started:
            process.kill()
            process.join(60)
        self.registry.close()


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 90
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.02)


@pytest.fixture(params=["local", S3])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    url = (
        create_current(tmp_path / "cache.db")
        if request.param == "local"
        else str(request.getfixturevalue("new_database")())
    )
    with hostile_server() as server:
        made = Place(request.param, tmp_path, url, server)
        try:
            yield made
        finally:
            made.close()


def send(process: BaseProcess, number: signal.Signals) -> None:
    assert process.pid is not None
    os.kill(process.pid, number)


def freeze(process: BaseProcess, place: Place) -> None:
    """Stop it at a moment at which it does not have SQLite's lock, for which every writer would wait."""
    database = Database(place.url, timeout=1.0)
    while True:
        send(process, signal.SIGSTOP)
        try:
            with database.transaction() as connection:
                fetches.release(connection, -1, epoch=0)
        except DatabaseUnavailable:
            send(process, signal.SIGCONT)
            time.sleep(0.1)
        else:
            break
    database.close()


def pulled(registry: Registry, place: Place) -> bytes:
    with registry.blobs.read(registry.blobs.open(REPOSITORY, place.served.digest)) as reader:
        return b"".join(iter(lambda: reader.read(1 << 20), b""))


def stall(place: Place) -> None:
    """Let the upstream stop in the middle of the body, once it has begun it."""
    place.served.stops = {HALF}


def test_clients_of_two_processes_are_one_request(place: Place) -> None:
    processes = [place.start(name, clients=10) for name in ("one", "two")]
    for process in processes:
        process.join(90)
        assert process.exitcode == 0
    for name in ("one", "two"):
        assert reported(place.report(name)) == [place.served.digest] * 10
    assert (place.served.starts, place.served.sent) == ([0], len(DATA))
    assert pulled(place.registry, place) == DATA


def test_a_leader_that_is_killed_is_succeeded_at_once_on_its_machine_and_its_bytes_are_kept(place: Place) -> None:
    stall(place)
    leader = place.start("killed")
    assert place.served.stopped.wait(90)
    wait_until(lambda: place.kept() > HALF - 2 * PIECE)
    follower = place.start("follower", clients=3)
    send(leader, signal.SIGKILL)
    leader.join(60)
    place.served.stops = set()
    follower.join(90)
    assert follower.exitcode == 0
    assert reported(place.report("follower")) == [place.served.digest] * 3
    assert len(place.served.starts) == 2
    assert place.served.starts[1] > HALF - 2 * PIECE, "what was kept is not asked for again"
    place.served.go_on.set()
    assert pulled(place.registry, place) == DATA
    row = place.row()
    assert row is not None
    assert (row.state, row.epoch, row.edition) == (fetches.PUBLISHED, 2, 1)


def test_a_frozen_leader_that_wakes_is_fenced_and_its_clients_have_the_blob(place: Place) -> None:
    stall(place)
    leader = place.start("frozen")
    assert place.served.stopped.wait(90)
    wait_until(lambda: place.kept() > HALF - 2 * PIECE)
    freeze(leader, place)
    try:
        place.served.stops = set()
        with (
            upstream_of(place.server.url()) as upstream,
            hub_of(place.registry, lease=LEASE) as hub,
        ):
            blob = RemoteBlob(upstream, place.served.path, "")
            assert read_all(hub.join("hub", REPOSITORY, place.served.digest, blob)) == DATA
    finally:
        send(leader, signal.SIGCONT)
    assert len(place.served.starts) == 2
    assert place.served.starts[1] > HALF - 2 * PIECE, "what was kept is not asked for again"
    place.served.go_on.set()
    leader.join(90)
    assert leader.exitcode == 0
    (outcome,) = reported(place.report("frozen"))
    assert outcome in {place.served.digest, "cut"}
    row = place.row()
    assert row is not None
    assert (row.state, row.epoch) == (fetches.PUBLISHED, 2)
    assert pulled(place.registry, place) == DATA


def test_kills_at_any_moment_leave_a_blob_that_the_next_process_has(place: Place) -> None:
    chosen = random.Random(24)
    for number in range(4):
        process = place.start(f"killed-{number}")
        bound = chosen.randrange(len(DATA))
        wait_until(lambda bound=bound, process=process: place.kept() >= bound or not process.is_alive())  # type: ignore[misc]
        send(process, signal.SIGKILL)
        process.join(60)
    with upstream_of(place.server.url()) as upstream, hub_of(place.registry) as hub:
        blob = RemoteBlob(upstream, place.served.path, "")
        assert read_all(hub.join("hub", REPOSITORY, place.served.digest, blob)) == DATA
    assert pulled(place.registry, place) == DATA
    starts = place.served.starts
    assert starts == sorted(starts), "no bytes that were kept are asked for again"

"""Kills: ending a process after any one of its steps (an operation on the store, or a commit of the database)."""

from __future__ import annotations

import contextlib
import json
import re
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from registry.clocks import Clocks
from registry.database.engine import Database
from registry.database.transaction import Transaction
from registry.images.backends import Backends
from registry.images.layout import COLLECTION_STATE
from registry.images.registry import Registry
from registry.migration.report import Report
from registry.storage.driver import StorageDriver
from registry.storage.middleware.base import DriverDecorator
from tests.support.migrated_bucket import Bucket

T = TypeVar("T")


class Killed(BaseException):
    """The end of a process: nothing catches it."""


class Doom:
    """Counts steps, and ends the process after one of them: whatever any of its threads begins then is not done."""

    def __init__(self, at: int | None = None, notice: Callable[[int], object] = lambda _: None) -> None:
        """``at``: the number of the last step, from 1; None if the process lives, and its steps are counted.

        ``notice`` is called after each step with its number, and nothing is begun meanwhile.
        """
        self.steps = 0
        self._at = at
        self._notice = notice
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def step(self) -> Iterator[None]:
        """Around one step. Changes made before the process ends stay; their answer is lost."""
        with self._lock:
            if self.steps == self._at:
                raise Killed
        yield
        with self._lock:
            self.steps += 1
            self._notice(self.steps)
            if self.steps == self._at:
                raise Killed


class DyingDriver(DriverDecorator):
    """A driver of a process that is doomed."""

    def __init__(self, inner: StorageDriver, doom: Doom) -> None:
        super().__init__(inner)
        self._doom = doom

    def around(self, operation: str, key: str, call: Callable[[], T]) -> T:
        """See DriverDecorator."""
        with self._doom.step():
            return call()


class DyingDatabase(Database):
    """Its database: a step for each commit."""

    def __init__(self, url: str, doom: Doom, clocks: Clocks | None = None) -> None:
        super().__init__(url, clocks=clocks)
        self._doom = doom

    @contextlib.contextmanager
    def transaction(self, *, durable: bool = True) -> Iterator[Transaction]:
        """See Database."""
        with self._doom.step(), super().transaction(durable=durable) as connection:
            yield connection

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[Transaction]:
        """See Database."""
        with self._doom.step(), super().exclusive() as connection:
            yield connection


LOST = 3
"""One of so many kills takes the database with it."""
_TIME = re.compile(rb'("io\.stowage\.(?:pushed|tagged)":)"[^"]*"')
EVERY = pytest.param(1, id="every-step", marks=pytest.mark.stores)
Prepare = Callable[[Bucket], None]
Check = Callable[[Bucket], object]


def doomed(bucket: Bucket, doom: Doom) -> Registry:
    """A process that dies."""
    world = bucket.world
    world.registry()  # makes the database, and is closed with its world
    backends = Backends(
        DyingDriver(bucket.driver, doom),
        DyingDatabase(world.url, doom, world.clocks()),
        world.policy,
        clock=world.clock,
    )
    return Registry(backends)


def rows(bucket: Bucket) -> dict[str, list[Any]]:
    """What the database says, but for the numbers of rows and for times."""
    queries = {
        "tags": "SELECT r.name, t.name, b.digest FROM tag t JOIN repository r ON r.id = t.repository_id"
        " JOIN blob b ON b.id = t.blob_id",
        "members": "SELECT r.name, b.digest FROM membership m JOIN repository r ON r.id = m.repository_id"
        " JOIN blob b ON b.id = m.blob_id",
        "manifests": "SELECT r.name, b.digest, m.media_type FROM manifest m JOIN repository r"
        " ON r.id = m.repository_id JOIN blob b ON b.id = m.blob_id",
        "places": "SELECT b.digest, b.size, b.state, l.key, l.state, l.verified_at IS NULL, coalesce(l.migration, ''),"
        " CASE WHEN l.migration IS NULL THEN '' ELSE l.signature END"
        " FROM blob b JOIN blob_location l ON l.blob_id = b.id",
        "store": "SELECT name, migration, mode, reason, prefixes FROM store",
        "pending": "SELECT r.name, c.sequence FROM change c JOIN repository r ON r.id = c.repository_id",
    }
    path = bucket.world.url.removeprefix("sqlite:///")
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return {name: sorted(connection.execute(query).fetchall()) for name, query in queries.items()}


def objects(bucket: Bucket) -> dict[str, Any]:
    """The bucket, without the fields that tell how often the command ran, and in which process."""
    # Each bucket has objects of its own age, which indexes tell.
    own = {key: data for key, data in bucket.objects().items() if key != COLLECTION_STATE}  # of that database
    found: dict[str, Any] = {key: _TIME.sub(rb"\1", data) for key, data in own.items()}
    for key, data in bucket.objects("storage/migrations").items():
        if key.endswith("/state.json"):
            told = {"revision", "passes", "writer"}
            found[key] = {name: value for name, value in json.loads(data).items() if name not in told}
        elif "/blobs/" in key:  # a copy that is made again has another etag
            lines = [json.loads(line) for line in data.splitlines()]
            found[key] = [line | {"copy": line["copy"] is not None} for line in lines]
    return found


def prepared(directory: Path, layout: str, prepare: Prepare) -> Callable[[str], Bucket]:
    """Makes buckets by name that are copies of one that was prepared: preparing each would take most of the time."""
    first = Bucket(made(directory / "prepared"), layout)
    first.world.clock.now = 1_800_000_000.0
    prepare(first)
    first.world.close()
    return lambda name: first.copy(made(directory / name))


def made(directory: Path) -> Path:
    """An empty directory."""
    directory.mkdir()
    return directory


def nothing(_: Bucket) -> None:
    """Where there is nothing to be done."""


def kill_after_steps(
    directory: Path,
    layout: str,
    prepare: Prepare,
    work: Callable[[Bucket, Registry], Report],
    *,
    step: int,
    state: str,
    check: Check,
    seen: Callable[[Bucket], dict[str, Any]] = objects,
    when_killed: Check = nothing,
    when_lost: Check = nothing,
    at_least: int = 2,
) -> None:
    """Do ``work`` whole, and keep what a kill after every ``step``-th of its steps would have left.

    Each time it is done again then, and has to end in ``state`` without problems, with the same objects and rows.
    ``when_killed`` is called before that, ``when_lost`` where the database has gone with the process.
    """
    whole = prepared(directory, layout, prepare)("whole")
    first = 1 + len(layout) % step
    left: dict[int, Bucket] = {}

    def keep(number: int) -> None:
        if number >= first and (number - first) % step == 0:
            left[number] = whole.copy(made(directory / f"killed-{number}"))

    life = Doom(notice=keep)
    assert work(whole, doomed(whole, life)).state == state
    expected_objects, expected_rows = seen(whole), rows(whole)
    check(whole)
    whole.world.close()
    assert len(left) >= at_least
    for death, bucket in left.items():
        when_killed(bucket)
        if death % LOST == 0:
            bucket.world.url = f"sqlite:///{directory / f'new-{death}.db'}"
            when_lost(bucket)
        found = work(bucket, bucket.registry())
        assert (found.state, found.problems) == (state, []), death
        assert seen(bucket) == expected_objects, death
        if death % LOST:
            assert rows(bucket) == expected_rows, death
        check(bucket)
        bucket.world.close()

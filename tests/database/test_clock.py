"""Whose clock rows go by: the server's on PostgreSQL, the machine's since its start on SQLite."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from registry.clocks import Clocks, boot_id, boot_seconds
from registry.database import blob_locations, blobs
from registry.database.blob_locations import Claiming, LocationRow
from registry.database.blobs import BlobRow
from registry.database.engine import Database
from registry.database.schema import upgrade_database
from registry.database.statement import Statement

DIGEST = f"sha256:{'0' * 64}"
KEY = "storage/blobs/sha256/0"
STORE = "s3"
CLAIM, UNCLEAR, LEASE = 60.0, 900.0, 3600.0


class Machine:
    """Its clocks, as a test sets them, and a file that outlives its starts."""

    def __init__(self, directory: Path) -> None:
        self.url = f"sqlite:///{directory / 'cache.db'}"
        self.wall, self.boot, self.boot_id = 1_800_000_000.0, 5000.0, "first"

    @contextlib.contextmanager
    def database(self) -> Iterator[Database]:
        boot_id = self.boot_id
        opened = Database(self.url, clocks=Clocks(lambda: self.wall, lambda: self.boot, boot_id))
        upgrade_database(opened)
        yield opened
        opened.close()

    def passes(self, seconds: float) -> None:
        self.wall += seconds
        self.boot += seconds


def write(database: Database, *, sent: bool = False) -> None:
    """A leased blob whose object a deleter has claimed."""
    with database.transaction() as connection:
        made = blobs.put(connection, DIGEST, size=1, lease=LEASE).get()
        blob_locations.put(connection, made.id, store=STORE, key=KEY, size=1, etag="e", verified_at=None)
        assert blob_locations.claim(connection, made.id, Claiming(STORE, KEY, "t", CLAIM, UNCLEAR, UNCLEAR)) == "e"
        if sent:
            assert blob_locations.set_sent(connection, store=STORE, key=KEY, token="t")


class Read(NamedTuple):
    """Both rows, and how long the claim still runs."""

    blob: BlobRow
    location: LocationRow
    claim_left: float


def read(database: Database) -> Read:
    with database.autocommit() as connection:
        blob, location = blob_locations.blob_at(connection, DIGEST, store=STORE, key=KEY).get()
    assert blob is not None
    assert location is not None
    assert location.claim_left is not None
    return Read(blob, location, location.claim_left)


def former(database: Database) -> tuple[float, float]:
    """What a former release reads, by its wall clock."""
    with database.autocommit() as connection:
        statement = Statement("SELECT b.leased_until, l.claim_deadline FROM blob b, blob_location l")
        leased_until, deadline = connection.execute(statement, {}).one()
    return leased_until, deadline


@pytest.mark.parametrize("reads_first", [False, True])
def test_the_clock_is_that_of_the_database(database: Database, *, reads_first: bool) -> None:
    statement = Statement("SELECT clock_now(), wall_now(), clock_name()", reads_clocks_first=reads_first)
    with database.autocommit() as connection:
        first, wall, name = connection.execute(statement, {}).one()
        second, *_ = connection.execute(statement, {}).one()
    assert first < second
    assert abs(wall - database.clocks.wall()) < 60
    if database.is_sqlite:
        assert name == boot_id()
        assert abs(second - boot_seconds()) < 60
    else:
        assert name == ""
        assert abs(second - wall) < 60


def test_a_server_goes_by_its_own_clock_whatever_those_of_its_clients_say(database: Database) -> None:
    write(database)
    blob, _, claim_left = read(database)
    assert LEASE - 60 < blob.lease_left <= LEASE
    assert CLAIM - 60 < claim_left <= CLAIM
    if database.is_sqlite:
        return
    wrong = Clocks(lambda: 0.0, lambda: 0.0, "another machine")
    with contextlib.closing(Database(database.url.render_as_string(hide_password=False), clocks=wrong)) as other:
        assert read(other).blob.lease_left > LEASE - 60
        assert read(other).claim_left > CLAIM - 60


def test_a_step_of_the_wall_clock_ends_no_claim_and_no_lease(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    with machine.database() as database:
        write(database)
        for step in (-86400, 86400):
            machine.wall += step
            blob, _, claim_left = read(database)
            assert blob.lease_left >= LEASE
            assert claim_left == CLAIM
        machine.passes(CLAIM + 1)
        assert read(database).claim_left == -1
        machine.passes(LEASE - CLAIM)
        assert read(database).blob.lease_left == -1


def test_after_a_start_of_the_machine_a_claim_is_over_and_a_lease_runs_its_whole_length(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    with machine.database() as database:
        write(database)
    machine.passes(LEASE * 0.9)
    machine.boot, machine.boot_id = 10.0, "second"
    with machine.database() as database:
        blob, _, claim_left = read(database)
        assert blob.lease_left == LEASE - 10
        assert claim_left == -10
        assert not said_sent(database)
        machine.passes(LEASE)
        assert read(database).blob.lease_left == -10


def said_sent(database: Database) -> bool:
    with database.transaction() as connection:
        return blob_locations.set_sent(connection, store=STORE, key=KEY, token="t")


def test_what_was_sent_is_unclear_for_its_time_from_the_start_of_the_machine(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    with machine.database() as database:
        write(database, sent=True)
    machine.boot, machine.boot_id = 10.0, "second"
    with machine.database() as database:
        assert (read(database).claim_left, read(database).location.claim_sent) == (-10, 1)
        assert not taken_over(database)
        machine.passes(UNCLEAR - 11)
        assert not taken_over(database)
        machine.passes(1)
        assert taken_over(database)


def taken_over(database: Database) -> bool:
    """Whether another deleter may claim, in a transaction that is undone if not."""
    wanted = Claiming(STORE, KEY, "other", CLAIM, UNCLEAR, UNCLEAR)
    with database.transaction() as connection:
        blob = blobs.find(connection, DIGEST).get()
        assert blob is not None
        return blob_locations.claim_expired(connection, blob.id, wanted) is not None


def test_a_former_release_reads_no_time_that_is_too_early(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    with machine.database() as database:
        write(database)
        leased_until, deadline = former(database)
        assert leased_until == machine.wall + LEASE
        assert deadline == machine.wall + CLAIM + UNCLEAR


def changed(database: Database, sql: str, value: float) -> None:
    with database.transaction() as connection:
        connection.execute(Statement(sql), {"value": value})


def test_what_a_former_release_wrote_counts_by_the_wall_clock(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    with machine.database() as database:
        write(database)
        changed(database, "UPDATE blob SET leased_until = :value", machine.wall + 2 * LEASE)
        changed(database, "UPDATE blob_location SET claim_token = 'former', claim_deadline = :value", machine.wall + 5)
        blob, location, claim_left = read(database)
        assert blob.lease_left == 2 * LEASE
        assert (location.claim_token, claim_left, location.claim_sent) == ("former", 5, 1)
        assert not said_sent(database)
        machine.passes(5 + UNCLEAR - 1)
        assert not taken_over(database)
        machine.passes(1)
        assert taken_over(database)


def test_a_lease_never_gets_shorter_and_a_longer_one_counts(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    with machine.database() as database:
        lengthen: list[Callable[[float], object]] = []
        with database.transaction() as connection:
            made = blobs.put(connection, DIGEST, size=1, lease=LEASE).get()
            lengthen.append(lambda seconds: blobs.put(connection, DIGEST, size=1, lease=seconds).get())
            lengthen.append(lambda seconds: blobs.lease(connection, made.id, seconds=seconds))
            for change in lengthen:
                before = blobs.find(connection, DIGEST).get()
                assert before is not None
                change(before.lease_left - 1)
                assert blobs.find(connection, DIGEST).get() == before
                change(before.lease_left + 1)
                assert blobs.find(connection, DIGEST).get() == before._replace(lease_left=before.lease_left + 1)


def test_sqlite_is_given_the_time_before_a_statement_that_wants_it_so(tmp_path: Path) -> None:
    looks: list[bool] = []
    is_placing = False

    def wall() -> float:
        looks.append(is_placing)
        return 1_800_000_000.0

    class Observed(Statement):
        def placed(self, values: Mapping[str, Any], clocks: Clocks) -> tuple[str, tuple[Any, ...]]:
            nonlocal is_placing
            is_placing = True
            try:
                return super().placed(values, clocks)
            finally:
                is_placing = False

    with contextlib.closing(Database(f"sqlite:///{tmp_path / 'cache.db'}", clocks=Clocks(wall, boot_seconds))) as made:
        statement = Observed("SELECT wall_now()", reads_clocks_first=True)
        with made.autocommit() as connection:
            assert connection.execute(statement, {}).one() == (1_800_000_000.0,)
    assert looks == [True]

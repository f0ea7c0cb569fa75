"""Leases: background work runs in one process at a time, and goes on elsewhere when that process dies."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from registry.background.holders import machine
from registry.background.leases import Leases
from registry.database import leases
from registry.database.engine import Database
from registry.database.statement import Statement
from tests.support.sqlite import create_current


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database(create_current(tmp_path / "cache.db"))
    yield opened
    opened.close()


def test_one_holder_at_a_time_and_another_after_it(database: Database) -> None:
    first, second = Leases(database, "a"), Leases(database, "b")
    with first.hold("rescan", 60) as held:
        assert held
        with second.hold("rescan", 60) as other:
            assert not other
        with second.hold("expiry", 60) as other:
            assert other
    with second.hold("rescan", 60) as held:
        assert held


def test_a_second_job_of_the_same_process_does_not_share_the_lease(database: Database) -> None:
    leases = Leases(database, "a")
    with leases.hold("rescan", 60) as held, leases.hold("rescan", 60) as again:
        assert (held, again) == (True, False)


def test_a_lease_is_given_back_when_the_work_fails(database: Database) -> None:
    leases = Leases(database, "a")
    with pytest.raises(KeyError), leases.hold("rescan", 60):
        raise KeyError("rescan")
    with leases.hold("rescan", 60) as held:
        assert held


def test_the_lease_of_a_killed_holder_ends_at_its_deadline_and_is_not_given_back_late(database: Database) -> None:
    killed, second, third = (Leases(database, name) for name in "abc")
    slow = contextlib.ExitStack()
    assert slow.enter_context(killed.hold("rescan", 60))
    with database.transaction() as connection:
        connection.execute(Statement("UPDATE lease SET deadline = wall_now() - 1"), {})
    with second.hold("rescan", 60) as held:
        assert held
        slow.close()
        with third.hold("rescan", 60) as other:
            assert not other


def holding(path: str, out: Connection) -> None:
    """In a process of its own: holds a lease until it is killed."""
    with Leases(Database(f"sqlite:///{path}"), "killed").hold("migration", 3600) as held:
        out.send(held)
        time.sleep(3600)


@pytest.fixture
def other(database: Database) -> Iterator[BaseProcess]:
    """Another process, which has the lease ``migration`` for an hour."""
    context = multiprocessing.get_context("spawn")
    heard, out = context.Pipe(duplex=False)
    process = context.Process(target=holding, args=(str(database.path), out))
    process.start()
    assert heard.poll(60)
    assert heard.recv()
    yield process
    process.kill()
    process.join()


def test_a_job_that_may_succeed_a_dead_holder_of_this_machine_does_so_at_once(
    database: Database, other: BaseProcess
) -> None:
    leases = Leases(database, "next")
    with leases.hold("migration", 60, succeeds_dead=True) as held:
        assert not held, "it is alive"
    other.kill()
    other.join()
    with leases.hold("migration", 60) as held:
        assert not held, "a request of the dead may be on its way"
    with leases.hold("migration", 60, succeeds_dead=True) as held:
        assert held
        with Leases(database, "third").hold("migration", 60, succeeds_dead=True) as third:
            assert not third
    assert leases.held("migration") is None


@pytest.mark.parametrize(
    "name", ["other", "other:1", f"other:{'0' * 8}-{'0' * 4}:{{dead}}:{'a' * 32}", "x:{machine}:{own}:" + "a" * 32]
)
def test_a_holder_that_may_be_alive_keeps_its_lease(database: Database, name: str) -> None:
    """Of a release before, of another machine (or of a container with the same name), or alive."""
    dead = multiprocessing.get_context("spawn").Process(target=os.getpid)
    dead.start()
    dead.join()
    filled = name.format(dead=dead.pid, machine=machine(), own=os.getpid())
    with database.transaction() as connection:
        assert leases.take(connection, "migration", filled, seconds=60)
    with Leases(database, "next").hold("migration", 60, succeeds_dead=True) as held:
        assert not held
    found = Leases(database, "next").held("migration")
    assert found is not None
    assert found.holder == filled

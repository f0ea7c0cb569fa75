"""Connection pool: no more than so many connections, whatever happens to them."""

import threading
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait

import pytest

from registry.database.connections.circuit import Circuit
from registry.database.connections.pool import ConnectionPool
from registry.database.errors import DatabaseUnavailable
from registry.database.transaction import Transaction


class Refused(Exception):
    """What the driver of a database raises."""


class FakeLink:
    """A connection that knows whether it is open."""

    def __init__(self) -> None:
        self.is_open = True

    def transaction(self) -> Transaction:
        raise NotImplementedError

    def drop(self) -> None:
        self.is_open = False


class Server:
    """Counts what is connected to it."""

    def __init__(self) -> None:
        self.links: list[FakeLink] = []
        self.refuses = False

    def connect(self) -> FakeLink:
        if self.refuses:
            raise Refused
        self.links.append(FakeLink())
        return self.links[-1]

    def pool(self, most: int = 2, *, timeout: float = 10.0, circuit: Circuit | None = None) -> ConnectionPool:
        return ConnectionPool(self.connect, Refused, most=most, timeout=timeout, circuit=circuit)


@pytest.fixture
def server() -> Server:
    return Server()


def test_the_connection_that_was_used_last_is_taken_first(server: Server) -> None:
    pool = server.pool()
    first, second = pool.take(), pool.take()
    pool.give_back(first)
    pool.give_back(second)
    assert pool.take() is second
    assert pool.take() is first
    assert len(server.links) == 2


def test_a_thread_that_waits_goes_on_as_soon_as_a_connection_is_given_back(server: Server) -> None:
    pool = server.pool(1)
    link = pool.take()
    with ThreadPoolExecutor(4) as threads:
        waiting = {threads.submit(pool.take) for _ in range(4)}
        while waiting:
            pool.give_back(link)
            done, waiting = wait(waiting, timeout=10, return_when=FIRST_COMPLETED)
            assert [each.result() for each in done] == [link]
    assert len(server.links) == 1


def test_a_thread_that_waits_for_too_long_is_told_so(server: Server) -> None:
    pool = server.pool(1, timeout=0.05)
    link = pool.take()
    with pytest.raises(DatabaseUnavailable, match="all 1 connections"):
        pool.take()
    pool.give_back(link)
    assert pool.take() is link


def test_a_connection_that_cannot_be_made_takes_no_place(server: Server) -> None:
    pool = server.pool(2, timeout=0.05)
    server.refuses = True
    for _ in range(5):
        with pytest.raises(Refused):
            pool.take()
    server.refuses = False
    assert pool.take() is not pool.take()
    with pytest.raises(DatabaseUnavailable):
        pool.take()


def test_what_is_given_up_and_every_idle_connection_is_closed_and_made_anew(server: Server) -> None:
    pool = server.pool(3, timeout=0.05)
    taken = [pool.take() for _ in range(3)]
    pool.give_back(taken[0])
    pool.give_up(taken[1])
    assert [link.is_open for link in server.links] == [False, False, True]
    pool.give_back(taken[2])
    assert pool.take() is taken[2]
    assert {pool.take(), pool.take()} == set(server.links[3:])
    with pytest.raises(DatabaseUnavailable):
        pool.take()


def test_while_the_circuit_is_open_no_idle_connection_is_used(server: Server) -> None:
    circuit = Circuit()
    pool = server.pool(2, circuit=circuit)
    link = pool.take()
    pool.give_back(link)
    circuit.open("it is silent", since=threading.TIMEOUT_MAX)
    circuit._next_probe = 0.0
    assert pool.take() is not link
    assert not server.links[0].is_open
    assert not circuit.is_open

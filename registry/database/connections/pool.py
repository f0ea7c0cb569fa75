"""*Connection pool*: the connections to the cache DB that are kept, and transactions on them.

The pool of SQLAlchemy costs more than one of our transactions.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from time import monotonic
from typing import TYPE_CHECKING, Protocol

from sqlalchemy.exc import SQLAlchemyError

from registry.database.errors import DatabaseUnavailable
from registry.waiting import waiting

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from registry.database.connections.circuit import Circuit
    from registry.database.transaction import Transaction


class Link(Protocol):
    """A connection that is kept."""

    def transaction(self) -> Transaction:
        """What the next transaction on it is run with."""
        ...

    def drop(self) -> None:
        """Close it, whatever is under way; nothing is waited for."""
        ...


class MappedErrors:
    """Raises DatabaseUnavailable for an error of the database; no generator, since each transaction enters one."""

    __slots__ = ("_dbapi_error",)

    def __init__(self, dbapi_error: type[Exception]) -> None:
        self._dbapi_error = dbapi_error

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if error is not None and isinstance(error, (SQLAlchemyError, self._dbapi_error)):
            raise DatabaseUnavailable(str(error)) from error


class ConnectionPool:
    """At most so many connections, the one used last first. Any thread."""

    def __init__(
        self,
        connect: Callable[[], Link],
        dbapi_error: type[Exception],
        *,
        most: int,
        timeout: float,
        circuit: Circuit | None = None,
    ) -> None:
        """``connect`` makes a connection; ``timeout`` is how long one is waited for (seconds) while all are in use.

        ``circuit`` is that of a server that may be silent.
        """
        self.dbapi_error = dbapi_error
        self.mapped_errors = MappedErrors(dbapi_error)
        self._connect = connect
        self._most = most
        self._timeout = timeout
        self._circuit = circuit
        self._places: deque[Link | None] = deque([None] * most)
        """Idle connections, and None for each that may still be made; a transaction takes the last."""
        self._returned = threading.Condition()
        self._waiting = 0

    def take(self) -> Link:
        """A connection for one transaction, which the caller gives back. Raises DatabaseUnavailable, DBAPI errors."""
        circuit = self._circuit
        if circuit is not None:
            circuit.enter()
        try:
            link = self._places.pop()
        except IndexError:
            link = self._wait()
        try:
            if circuit is not None and circuit.is_open:
                self.forget_idle()
                self._drop(link)
                link = None
            if link is None:
                link = self._connect()
        except BaseException:
            self._put(None)
            raise
        if circuit is not None and circuit.is_open:
            circuit.close()
        return link

    def give_back(self, link: Link) -> None:
        """End the use of a connection that has nothing under way."""
        self._put(link)

    def give_up(self, link: Link) -> None:
        """End the use of a connection that is of no more use: perhaps the server has gone, and with it every idle one.

        New ones are made then.
        """
        try:
            link.drop()
            self.forget_idle()
        finally:
            self._put(None)

    def forget_idle(self) -> None:
        """Close the connections that are not in use."""
        for _ in range(self._most):
            try:
                link = self._places.popleft()
            except IndexError:
                return
            try:
                self._drop(link)
            finally:
                self._put(None)

    def _drop(self, link: Link | None) -> None:
        if link is not None:
            with contextlib.suppress(self.dbapi_error):
                link.drop()

    def _put(self, link: Link | None) -> None:
        self._places.append(link)
        if self._waiting:  # read after the place is there: a thread that counts itself later finds it
            with self._returned:
                self._returned.notify()

    def _wait(self) -> Link | None:
        """A place that another transaction gives back. Raises DatabaseUnavailable."""
        deadline = monotonic() + self._timeout
        with waiting, self._returned:
            self._waiting += 1
            try:
                while True:
                    with contextlib.suppress(IndexError):
                        return self._places.pop()
                    if not self._returned.wait(deadline - monotonic()) and not self._places:
                        message = (
                            f"all {self._most} connections to the database were in use for {self._timeout:g} seconds"
                        )
                        raise DatabaseUnavailable(message)
            finally:
                self._waiting -= 1


class PooledTransaction:
    """A transaction on a connection of a pool, begun by some commands; without any it is what each statement does.

    No generator, since each read enters one.
    """

    __slots__ = ("_begin", "_link", "_mapped", "_pool", "_transaction")

    def __init__(self, pool: ConnectionPool, begin: Sequence[str]) -> None:
        self._pool = pool
        self._begin = begin
        self._mapped = pool.mapped_errors

    def __enter__(self) -> Transaction:
        """Begun when this returns. Raises DatabaseUnavailable."""
        with self._mapped:
            self._link = link = self._pool.take()
            try:
                self._transaction = transaction = link.transaction()
            except BaseException:
                self._pool.give_up(link)
                raise
            try:
                for command in self._begin:
                    transaction.run(command)
            except BaseException as error:
                self._roll_back(error)
                raise
        return transaction

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        """Committed when this returns, or undone where the block raised. Raises DatabaseUnavailable."""
        if error is not None:
            self._roll_back(error)
            self._mapped.__exit__(None, error, None)
            return
        with self._mapped:
            try:
                if self._begin:
                    self._transaction.commit()
                else:
                    self._transaction.settle()
            except BaseException as failed:
                self._roll_back(failed)
                raise
            self._transaction.close()
        self._pool.give_back(self._link)

    def _roll_back(self, error: BaseException) -> None:
        is_broken = isinstance(error, self._pool.dbapi_error)
        try:
            if self._begin:
                self._transaction.roll_back()
            else:
                self._transaction.settle()
            self._transaction.close()
        except self._pool.dbapi_error:
            is_broken = True
        if is_broken:
            self._pool.give_up(self._link)
        else:
            self._pool.give_back(self._link)

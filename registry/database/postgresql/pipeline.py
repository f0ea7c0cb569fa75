"""Statements on their way to a PostgreSQL server: sent without waiting, their results taken together.

A round trip costs both sides more than most of our statements: a wait, two system calls, and the interpreter's lock
given up and taken back. So a transaction makes as many as it has results that it cannot go on without.
"""

from __future__ import annotations

import select
from collections import deque
from time import monotonic
from typing import TYPE_CHECKING

from psycopg import OperationalError, pq
from psycopg.errors import error_from_result

from registry.waiting import waiting

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from psycopg import Connection, Error
    from psycopg.pq.abc import PGconn, PGresult

MOST = 500
"""Statements under way at most: what they are answered must fit into what systems keep of it."""
GOOD = frozenset({pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK})
"""What results are that are no errors."""
_READABLE = select.POLLIN
_READABLE_OR_WRITABLE = select.POLLIN | select.POLLOUT


class Silent(OperationalError):
    """The server has not answered in time; what it was asked may still take effect."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"the database has not answered for {seconds:g} seconds")


class Form:
    """A statement with the types of its values: what is prepared, once for each connection."""

    __slots__ = ("formats", "sql", "types")

    def __init__(self, sql: str, types: Sequence[int], formats: Sequence[pq.Format]) -> None:
        self.sql = sql.encode()
        self.types = types
        self.formats = formats


class Sent:
    """A statement that was sent."""

    __slots__ = ("prepares", "result")

    def __init__(self, prepares: Form | None = None) -> None:
        self.prepares = prepares
        """What this makes known to the server, where it runs nothing."""
        self.result: PGresult | None = None
        """None until it has arrived."""


class Pipeline:
    """One connection, in libpq's pipeline mode from here on. For one thread at a time."""

    def __init__(
        self, connection: Connection[object], seconds: float, on_silence: Callable[[float], object] = lambda _: None
    ) -> None:
        """``connection`` has nothing under way, and psycopg is not asked to run anything on it any more.

        ``seconds`` is how long ``settle`` waits; ``on_silence`` is told when one began that has waited in vain.
        """
        self.seconds = seconds
        self._on_silence = on_silence
        self._deadline = 0.0
        self._server: PGconn = connection.pgconn
        self._server.nonblocking = 1
        self._server.enter_pipeline_mode()
        self._prepared: dict[Form, bytes] = {}
        self._names = 0
        self._under_way: deque[Sent] = deque()
        self._in_order = True
        self._readable = select.poll()
        self._readable.register(self._server.socket, _READABLE)

    def send(self, form: Form, values: Sequence[bytes | None]) -> Sent:
        """Have a statement run after those that were sent before it. It is prepared at its first use.

        Raises psycopg.Error; the statement itself may fail later, which ``settle`` tells.
        """
        self._require_order()
        if len(self._under_way) >= MOST:
            self.settle()
        name = self._prepared.get(form) or self._prepare(form)
        self._server.send_query_prepared(name, values, form.formats, pq.Format.BINARY)
        sent = Sent()
        self._under_way.append(sent)
        return sent

    def settle(self) -> None:
        """Wait until everything that was sent has its result. Raises psycopg.Error, of the first that failed.

        Those after that one did not run. In a transaction it has failed as a whole then, and has to be rolled back.
        Raises Silent after ``seconds``: the connection is of no more use then.
        """
        self._require_order()
        if not self._under_way:
            return
        self._deadline = monotonic() + self.seconds
        self._in_order = False  # until the last result is here, whatever is raised meanwhile
        self._server.pipeline_sync()
        while self._server.flush():
            self._wait_writable()
        failed = self._take_results()
        self._in_order = True
        if failed is not None:
            raise failed

    def _require_order(self) -> None:
        if not self._in_order:
            raise OperationalError("what this connection was answered has not been taken to its end")

    def _prepare(self, form: Form) -> bytes:
        self._names += 1
        name = self._prepared[form] = b"s%d" % self._names
        self._server.send_prepare(name, form.sql, form.types)
        self._under_way.append(Sent(form))
        return name

    def _take_results(self) -> Error | None:
        """All results, up to the one that says that there are no more. Returns the first error."""
        server, under_way = self._server, self._under_way
        failed: Error | None = None
        while under_way:
            result = self._next_result()
            server.get_result()  # each is followed by nothing, which is there with it
            sent = under_way.popleft()
            sent.result = result
            if result.status not in GOOD:
                if sent.prepares is not None:
                    del self._prepared[sent.prepares]
                failed = failed or error_from_result(result)
                if server.status == pq.ConnStatus.BAD:
                    raise failed
        self._next_result()
        return failed

    def _next_result(self) -> PGresult:
        server = self._server
        while server.is_busy():
            self._wait()
            server.consume_input()
        result = server.get_result()
        if result is None:
            raise OperationalError(f"an answer is missing: {server.get_error_message()}")
        return result

    def _wait_writable(self) -> None:
        """Read meanwhile: a server that cannot get rid of its answers takes nothing."""
        self._readable.modify(self._server.socket, _READABLE_OR_WRITABLE)
        try:
            events = self._wait()
        finally:
            self._readable.modify(self._server.socket, _READABLE)
        if any(event & ~select.POLLOUT for _, event in events):
            self._server.consume_input()

    def _wait(self) -> list[tuple[int, int]]:
        """What ``poll`` returns, once there is something. Raises Silent."""
        left = self._deadline - monotonic()
        with waiting:
            events = self._readable.poll(left * 1000) if left > 0 else []
        if not events:
            self._on_silence(self._deadline - self.seconds)
            raise Silent(self.seconds)
        return events

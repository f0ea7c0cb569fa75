"""A proxy in front of a store that does to a request what the test plans: fail, hang, cut, delay, forget a condition.

    with S3Server(directory) as store, FaultProxy(store.port, secret=store.secret) as proxy:
        client = store.client(proxy.url)
        rule = proxy.fail(kind="UploadPart", status=503, times=1)
        ...
        assert rule.hits == 1

What it passes on is unchanged, Host included, so that signatures stay valid. It streams in both directions.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Self

from tests.support.dialect import S3
from tests.support.exchange import LIMIT, Exchange, Settings
from tests.support.fault_plan import Cut, Fail, Hang, Match, Plan, Rule
from tests.support.servers import HOST, ServerError, free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType

    from tests.support.access_log import Call
    from tests.support.dialect import Dialect
    from tests.support.fault_plan import Fault

START_TIMEOUT = 10.0


class FaultProxy:
    """Listens on a loopback port in a thread with an event loop of its own; every method may be called by any thread.

    ``port`` is the store's. ``secret`` is the secret access key, which only ``strip`` needs. A rule holds from the
    next request on, the oldest rule that fits first; without rules everything passes.
    """

    def __init__(self, port: int, *, dialect: Dialect = S3, secret: str | None = None, host: str = HOST) -> None:
        self.port = free_port()
        self._settings = Settings(host, port, dialect, secret, 0.0, frozenset())
        self._plan = Plan()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._stopping = asyncio.Event()
        self._open: set[asyncio.Task[None]] = set()

    @property
    def address(self) -> str:
        """``host:port`` that clients connect to."""
        return f"{HOST}:{self.port}"

    @property
    def url(self) -> str:
        """What clients take as the address of the store."""
        return f"http://{self.address}"

    # The plan.

    def fail(
        self,
        kind: str | None = None,
        *,
        method: str | None = None,
        path_contains: str | None = None,
        query_contains: str | None = None,
        status: int | None = 503,
        times: int | None = 1,
        skip: int = 0,
        after: bool = False,
    ) -> Rule:
        """Answer ``status`` with the store's kind of error, or reset the connection where it is None.

        ``after``: the store does what it was asked for, and the client gets a reset in the place of the answer.
        ``skip`` requests that fit pass before; ``times=None`` never ends.
        """
        match = Match(kind, method, path_contains, query_contains)
        return self._add(match, Fail(status, after), times, skip)

    def hang(
        self,
        kind: str | None = None,
        *,
        method: str | None = None,
        path_contains: str | None = None,
        query_contains: str | None = None,
        times: int | None = 1,
        skip: int = 0,
        after: bool = False,
    ) -> Rule:
        """Never answer, until the client gives up; ``after``: the store did it."""
        return self._add(Match(kind, method, path_contains, query_contains), Hang(after), times, skip)

    def cut(
        self,
        kind: str | None = None,
        *,
        method: str | None = None,
        path_contains: str | None = None,
        query_contains: str | None = None,
        request: int | None = None,
        response: int | None = None,
        times: int | None = 1,
        skip: int = 0,
    ) -> Rule:
        """Reset the connection after so many bytes of the request's body, or of the response's: one of the two."""
        if (request is None) == (response is None):
            raise ValueError("name either bytes of the request or bytes of the response")
        return self._add(Match(kind, method, path_contains, query_contains), Cut(request, response), times, skip)

    def clear(self) -> None:
        """Remove all rules, the delay and what is stripped; what hangs already goes on hanging."""
        self._plan.clear()
        self._settings.delay = 0.0
        self._settings.strip = frozenset()

    @property
    def delay(self) -> float:
        """Seconds that each request waits before it is looked at."""
        return self._settings.delay

    @delay.setter
    def delay(self, seconds: float) -> None:
        self._settings.delay = seconds

    @property
    def strip(self) -> frozenset[str]:
        """Names of header fields and query parameters that are taken out: a store that does not know conditions."""
        return frozenset(self._settings.strip)

    @strip.setter
    def strip(self, names: Iterable[str]) -> None:
        self._settings.strip = frozenset(name.lower() for name in names)

    # What was seen.

    def calls(self) -> list[Call]:
        """Return every request since ``reset_calls``, in the order of the answers; status 0: the client got none."""
        return self._plan.calls()

    def counts(self) -> Counter[tuple[str, str]]:
        """Count the requests since ``reset_calls`` by method and operation."""
        return Counter((call.method, call.kind) for call in self.calls())

    def kinds(self) -> list[str]:
        """Name the operations since ``reset_calls``, each once, in the order of their first request."""
        return list(dict.fromkeys(call.kind for call in self.calls()))

    def reset_calls(self) -> None:
        """Forget the requests until now."""
        self._plan.forget()

    def notice(self, told: Callable[[int], None] | None) -> None:
        """Call back, in the thread of the proxy, for each request since ``reset_calls``, with their number.

        The store has done it, and the client does not have its answer yet.
        """
        self._plan.noticed = told

    # Its life.

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Listen; returns once clients can connect."""
        if self._thread is not None:
            raise ServerError("the proxy is running")
        started = threading.Event()
        self._stopping = asyncio.Event()  # one loop, one event
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve(started)), name="fault-proxy")
        self._thread.daemon = True  # a test that hangs must not keep the process
        self._thread.start()
        if not started.wait(START_TIMEOUT):
            raise ServerError("the proxy did not start")

    def stop(self) -> None:
        """Stop listening and reset every connection; to clients the store is gone until ``start``."""
        thread, loop = self._thread, self._loop
        self._thread = self._loop = None
        if thread is None or loop is None:
            return
        loop.call_soon_threadsafe(self._stopping.set)
        thread.join(START_TIMEOUT)

    def drop(self) -> None:
        """Reset every open connection, also what hangs; the proxy goes on listening."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._drop)

    def _add(self, match: Match, fault: Fault, times: int | None, skip: int) -> Rule:
        return self._plan.add(Rule(match, fault, times, skip))

    def _drop(self) -> None:
        for task in self._open:
            task.cancel()

    async def _serve(self, started: threading.Event) -> None:
        self._loop = asyncio.get_running_loop()
        server = await asyncio.start_server(self._accept, HOST, self.port, limit=LIMIT)
        started.set()
        try:
            await self._stopping.wait()
        finally:
            server.close()
            self._drop()
            await asyncio.gather(*self._open, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            with suppress(asyncio.CancelledError):
                await Exchange(self._settings, self._plan, reader, writer).run()
        finally:
            self._open.discard(task)

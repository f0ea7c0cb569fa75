"""Workers: several processes that serve one port, forked from one that has loaded everything and serves nothing.

A worker costs a fork: it loads no module, and all processes share the memory of those that are loaded. The parent
waits for signals alone and runs no other thread, so that a fork finds every lock free.
"""

from __future__ import annotations

import mmap
import os
import select
import signal
import threading
import time
from functools import partial
from multiprocessing.context import ForkProcess
from typing import TYPE_CHECKING, Final, cast

import structlog
from uvicorn.config import STARTUP_FAILURE

if TYPE_CHECKING:
    from collections.abc import Callable

BEAT_SECONDS: Final = 1.0
"""Time between two signs of life of a worker, and between two looks of the parent."""
SILENT_SECONDS: Final = 60.0
"""How long a worker may give no sign of life before it is replaced: on a busy machine it may get no turn for long."""
_STOP: Final = frozenset({signal.SIGTERM, signal.SIGINT})
_SIGNALS: Final = _STOP | {signal.SIGCHLD}

log = structlog.get_logger(__name__)


class Workers:
    """The workers of one server."""

    def __init__(
        self,
        serve: Callable[[int], None],
        count: int,
        patience: float,
        *,
        on_loss: Callable[[int], None],
        on_stop: Callable[[], object],
        on_hangup: Callable[[], object] | None = None,
    ) -> None:
        """``serve`` is what a worker runs, at its place among ``count``; what replaces it has the same one.

        It ends, drained, after SIGTERM, within ``patience`` seconds or is killed.

        ``on_loss`` is told the number of a process that has died, ``on_stop`` is called before the workers drain.
        ``on_hangup`` is called for SIGHUP, which the workers get then too; None leaves that signal alone.
        """
        self._serve = serve
        self._count = count
        self._patience = patience
        self._on_loss = on_loss
        self._on_stop = on_stop
        self._on_hangup = on_hangup
        self._signals = _SIGNALS if on_hangup is None else _SIGNALS | {signal.SIGHUP}
        self._workers: list[Worker] = []
        self._lifeline = Lifeline()
        self._looked_at = time.monotonic()

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT, and return when every worker has drained.

        Raises SystemExit if a worker finds that it cannot serve, which the next one would find too.
        """
        before = signal.pthread_sigmask(signal.SIG_BLOCK, self._signals)
        try:
            for place in range(self._count):
                self._workers.append(self._begin(place))
            while (told := signal.sigtimedwait(self._signals, BEAT_SECONDS)) is None or told.si_signo not in _STOP:
                if told is not None and told.si_signo == signal.SIGHUP and self._on_hangup is not None:
                    self._on_hangup()
                    for worker in self._workers:
                        worker.hang_up()
                self._look()
        finally:
            self._on_stop()
            self._drain()
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _drain(self) -> None:
        deadline = time.monotonic() + self._patience
        for worker in self._workers:
            worker.terminate()
        for worker in self._workers:
            worker.join(max(0.0, deadline - time.monotonic()))
            if worker.exitcode is None:
                log.warning("a worker has not drained in time and is killed", worker=worker.pid)
                worker.kill()
                worker.join(BEAT_SECONDS)

    def _look(self) -> None:
        """Replace workers that have died or hang."""
        now = time.monotonic()
        # While all processes were frozen, as in a paused container, none of them was silent.
        passed, self._looked_at = min(now - self._looked_at, BEAT_SECONDS), now
        for place, worker in enumerate(self._workers):
            if worker.silence(passed) > SILENT_SECONDS:
                worker.kill()
                worker.join(BEAT_SECONDS)
            if worker.exitcode == STARTUP_FAILURE:
                raise SystemExit(STARTUP_FAILURE)
            if worker.exitcode is None or now - worker.begun < BEAT_SECONDS:  # what ends at once is begun once a second
                continue
            log.warning("a worker has ended and is replaced", worker=worker.pid, exit_code=worker.exitcode)
            self._on_loss(cast("int", worker.pid))
            self._workers[place] = self._begin(place)

    def _begin(self, place: int) -> Worker:
        return Worker(partial(self._serve, place), self._lifeline)


class Lifeline:
    """A pipe whose other end the parent alone holds, so that its workers know at once that it is gone."""

    def __init__(self) -> None:
        self._end, self._held = os.pipe()

    def let_go(self) -> None:
        """Leave the other end to the parent. In a worker that has just been forked."""
        os.close(self._held)

    def is_cut_within(self, seconds: float) -> bool:
        """Wait at most so long. Returns whether the parent is gone. In a worker."""
        waiting = select.poll()
        waiting.register(self._end, 0)  # the end of the other side is told in any case
        return bool(waiting.poll(seconds * 1000))


class Worker(ForkProcess):
    """A process that serves, begun at once. It ends, drained, when its parent is gone."""

    def __init__(self, serve: Callable[[], None], lifeline: Lifeline) -> None:
        super().__init__()
        self.begun = time.monotonic()
        self._serve = serve
        self._lifeline = lifeline
        self._beat = mmap.mmap(-1, 1)
        """Shared with the parent: changes every ``BEAT_SECONDS``."""
        self._seen = b""
        self._silence = 0.0
        self.start()

    def silence(self, passed: float) -> float:
        """Seconds without a sign of life; ``passed`` have gone by since this was asked before. For the parent."""
        seen = self._beat[:]
        self._silence = self._silence + passed if seen == self._seen else 0.0
        self._seen = seen
        return self._silence

    def hang_up(self) -> None:
        """Send it SIGHUP. For the parent, which has not waited for its end: its number is no other process's."""
        if self.exitcode is None and self.pid is not None:
            os.kill(self.pid, signal.SIGHUP)

    def run(self) -> None:
        """In the process itself: serve, with signals as they are at the start of any program."""
        self._lifeline.let_go()
        for number in _STOP:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        threading.Thread(target=self._show_life, name="parent-watch", daemon=True).start()
        self._serve()

    def _show_life(self) -> None:
        """Until the parent was killed: a worker without one must not hold the port, which the next start needs."""
        while not self._lifeline.is_cut_within(BEAT_SECONDS):
            self._beat[0] = (self._beat[0] + 1) % 256
        os.kill(os.getpid(), signal.SIGTERM)

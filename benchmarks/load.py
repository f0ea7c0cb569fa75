"""Load: client processes that start together, each with one connection."""

from __future__ import annotations

import dataclasses
import multiprocessing
import time
from multiprocessing import connection as pipes
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from multiprocessing.connection import Connection as Pipe
    from multiprocessing.synchronize import Barrier

_FORK = multiprocessing.get_context("fork")
_START_SECONDS = 60.0
TICK_SECONDS = 0.02


class LoadError(Exception):
    """A client failed; the text says how."""


@dataclasses.dataclass(frozen=True, slots=True)
class Span:
    """What the clients did: from the first start to the last end, in seconds, and the sum of their counts."""

    seconds: float
    count: int
    pace: float
    """The sum of each client's own counts per second: right also where a client counts few, and ends when it likes."""

    @property
    def rate(self) -> float:
        """Counts per second."""
        return self.count / self.seconds


def _client(work: Callable[[], int], barrier: Barrier, report: Pipe) -> None:
    try:
        barrier.wait(_START_SECONDS)
        started = time.monotonic()
        count = work()
        report.send((started, time.monotonic(), count))
    except Exception as error:  # noqa: BLE001 - whatever it is, the parent raises it
        report.send(f"{type(error).__name__}: {error}")


def together(works: Sequence[Callable[[], int]], tick: Callable[[], None] | None = None) -> Span:
    """Run each work in a process of its own, all started at one instant; call ``tick`` meanwhile, every `TICK_SECONDS`.

    A work returns what it counted. Raises `LoadError` when one of them failed.
    """
    barrier = _FORK.Barrier(len(works))
    readers: list[Pipe] = []
    processes = []
    for work in works:
        reader, writer = _FORK.Pipe(duplex=False)
        process = _FORK.Process(target=_client, args=(work, barrier, writer), daemon=True)
        process.start()
        writer.close()
        readers.append(reader)
        processes.append(process)
    try:
        return _sum(_collect(readers, tick))
    finally:
        for process in processes:
            process.kill()
            process.join()


def _collect(readers: list[Pipe], tick: Callable[[], None] | None) -> list[tuple[float, float, int]]:
    results = []
    left = list(readers)
    while left:
        if tick is not None:
            tick()
        for ready in pipes.wait(left, TICK_SECONDS if tick is not None else None):
            reader = next(each for each in left if each is ready)
            left.remove(reader)
            answer = _receive(reader)
            if isinstance(answer, str):
                raise LoadError(answer)
            results.append(answer)
    return results


def _receive(reader: Pipe) -> tuple[float, float, int] | str:
    try:
        answer: tuple[float, float, int] | str = reader.recv()
    except EOFError:
        return "a client process died"
    return answer


def _sum(results: list[tuple[float, float, int]]) -> Span:
    started = min(start for start, _, _ in results)
    ended = max(end for _, end, _ in results)
    pace = sum(count / (end - start) for start, end, count in results)
    return Span(ended - started, sum(count for _, _, count in results), pace)


def until(deadline_seconds: float, step: Callable[[int], None]) -> int:
    """Call ``step`` with 0, 1, 2, ... for so many seconds; return how often it was done within them."""
    deadline = time.monotonic() + deadline_seconds
    done = 0
    while True:
        step(done)
        if time.monotonic() > deadline:
            return done
        done += 1

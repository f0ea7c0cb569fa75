"""*Collectors*: processes that collect without end, as ``registry gc`` in a loop, to be killed and stopped."""

from __future__ import annotations

import json
import os
import signal
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

from registry.clocks import Clocks, boot_seconds
from registry.config.settings import load_settings
from registry.database.engine import Database
from registry.database.errors import DatabaseError
from registry.images.registry import Registry
from registry.maintenance.collection.budget import Stopped
from registry.maintenance.collection.collection import Collection
from registry.maintenance.collection.ledger import Ledger
from registry.maintenance.collection.survey.gc_state import CollectionRefused
from registry.storage.errors import StorageError
from tests.soak.collecting.times import CLAIM, UNCLEAR
from tests.support.processes import processes

if TYPE_CHECKING:
    import random
    from multiprocessing.context import ForkServerProcess
    from pathlib import Path
    from types import TracebackType

PAUSE = 0.4
"""Seconds between two runs of a collector."""


@dataclass(frozen=True)
class Machine:
    """Where a collector runs."""

    config: Path
    log: Path
    """A line for each run, as JSON."""
    skew: float = 0.0
    """How wrong its wall clock is."""
    endpoint: str | None = None
    """The address of the store, where it is another than the configuration has."""


class Collectors:
    """One process on each machine, from the beginning of the block to its end. For one thread."""

    def __init__(self, machines: list[Machine]) -> None:
        self._machines = machines
        self._processes: list[ForkServerProcess] = []
        self.kills = 0
        self.stops = 0

    def __enter__(self) -> Self:
        self._processes = [_started(machine) for machine in self._machines]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._processes:
            process.kill()
            process.join()

    def kill_one(self, chance: random.Random) -> None:
        """SIGKILL to a collector; another one begins at once."""
        number = chance.randrange(len(self._processes))
        self._processes[number].kill()
        self._processes[number].join()
        self._processes[number] = _started(self._machines[number])
        self.kills += 1

    def stop_one(self, chance: random.Random, seconds: float) -> None:
        """SIGSTOP to a collector, and SIGCONT after ``seconds``."""
        pid = self._processes[chance.randrange(len(self._processes))].pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        try:
            time.sleep(seconds)
        finally:
            os.kill(pid, signal.SIGCONT)
        self.stops += 1

    def check(self) -> None:
        """Raises AssertionError for a collector that has ended by itself: its log says why."""
        for machine, process in zip(self._machines, self._processes, strict=True):
            assert process.is_alive(), f"a collector has ended: {machine.log.read_text()[-3000:]}"

    def freed(self) -> int:
        """How many things all collectors have removed so far."""
        return sum(sum(run.get("removed", {}).values()) for run in self.runs())

    def runs(self) -> list[dict[str, Any]]:
        """What each run that ended has told, by machine."""
        found = []
        for machine in self._machines:
            for line in machine.log.read_text().splitlines() if machine.log.exists() else ():
                with suppress(ValueError):  # it was killed within a line
                    found.append(json.loads(line))
        return found


def _started(machine: Machine) -> ForkServerProcess:
    process = processes().Process(target=collect, args=(machine,), daemon=True)
    process.start()
    return process


def collect(machine: Machine) -> None:
    """Collect without end. What a run may meet is told; anything else ends the process."""
    import traceback

    with machine.log.open("a", encoding="utf-8", buffering=1) as log:
        try:
            while True:
                log.write(f"{json.dumps(_run(machine))}\n")
                time.sleep(PAUSE)
        except BaseException:
            log.write(f"{traceback.format_exc()}\n")
            raise


def _run(machine: Machine) -> dict[str, Any]:
    """One ``registry gc``."""
    settings = load_settings(machine.config)
    if machine.endpoint is not None:
        assert settings.storage.s3 is not None
        other = settings.storage.s3.model_copy(update={"endpoint_url": machine.endpoint})
        settings = settings.model_copy(update={"storage": settings.storage.model_copy(update={"s3": other})})
    ledger, told = Ledger(), dict[str, Any]()
    try:
        registry = _opened(Registry.open(settings), settings.database_url, machine)
        try:
            Collection(registry, settings).run(ledger)
            registry.fold_waiting()
        finally:
            registry.close()
    except (CollectionRefused, Stopped, StorageError, DatabaseError) as error:
        told["ended"] = f"{type(error).__name__}: {error}"
    told |= {"removed": dict(ledger.removed), "bytes": ledger.bytes, "problems": ledger.problems}
    return told | {"kept": {str(reason): count for reason, count in ledger.kept.items()}}


def _opened(registry: Registry, url: str, machine: Machine) -> Registry:
    """The same with the clock and the waits of a machine."""
    old = registry.backends
    clocks = Clocks(lambda: time.time() + machine.skew, boot_seconds, old.database.clocks.boot_id)
    database = Database(url, clocks=clocks)
    database.wall.read()
    old.database.close()
    policy = replace(old.policy, claim=CLAIM, unclear=UNCLEAR)
    return Registry(replace(old, database=database, policy=policy, clock=database.wall))

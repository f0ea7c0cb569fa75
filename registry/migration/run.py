"""A migration from the command to its end: what is allowed in which state, and the phases in their order."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from registry.images.core import Core
from registry.images.location_journal import Phase
from registry.migration.adopt import Pass, adopt
from registry.migration.bases import Bases
from registry.migration.bucket import opened
from registry.migration.context import Context
from registry.migration.coverage import uncovered
from registry.migration.instance import alone
from registry.migration.journal import Journal
from registry.migration.progress import silent
from registry.migration.reading import Reading
from registry.migration.report import Refused, Report
from registry.migration.requests import Tally
from registry.migration.snapshot import Snapshot
from registry.migration.workers import Workers
from registry.storage.paced import PacedDriver

if TYPE_CHECKING:
    from collections.abc import Iterator

    from registry.config import Settings
    from registry.images.location_journal import MigrationState
    from registry.migration.context import RunOptions
    from registry.migration.progress import OnProgress

_TOO_FAR = {
    Phase.ROLLING_BACK: "it is being rolled back: go on with --rollback",
    Phase.FINALIZING: "originals are being deleted: go on with --finalize",
}


def run(settings: Settings, options: RunOptions, on_progress: OnProgress = silent) -> Report:
    """Adopt what the bucket has, and go on from wherever the last run was. See Run.run.

    Raises ConfigError and BothLayouts as a review does, Refused while another instance runs, and DatabaseError.
    """
    tally, rate = Tally(), settings.migration.rate
    with opened(settings, tally.observe) as driver:
        core = Core.open(settings, driver if rate is None else PacedDriver(driver, rate))
        try:
            with alone(core.stores.database):
                return Run(core, settings, options, tally, on_progress).run()
        finally:
            core.close()


class Run:
    """One run with an open registry, in which nobody else runs a migration."""

    def __init__(
        self, core: Core, settings: Settings, options: RunOptions, tally: Tally, on_progress: OnProgress = silent
    ) -> None:
        self._core = core
        self._settings = settings
        self._options = options
        self._tally = tally
        self._on_progress = on_progress
        self._journal = Journal(core.stores.driver, clock=core.stores.clock)

    def run(self) -> Report:
        """A pass. Killed at any instant and run again, it ends as if it had not been.

        Raises Refused where the state forbids it, the plan does not cover the bucket, or another instance works on it;
        StorageError, RegistryError.
        """
        state = self._journal.resume()
        if state is not None and state.state in _TOO_FAR:
            raise Refused(f"migration {state.id} is {state.state}: {_TOO_FAR[state.state]}")
        if state is not None and state.state is Phase.FINALIZED:
            return Report(state.state)
        self._core.originals.ensure(again=True)
        with self._reading(state) as context:
            return Report() if context is None else self._adopt(context)

    def _adopt(self, context: Context) -> Pass:
        self._check_plan(context)
        return adopt(context)

    @contextmanager
    def _reading(self, state: MigrationState | None) -> Iterator[Context | None]:
        """The original as it is now; None where there is none."""
        core, driver = self._core, self._core.stores.driver
        with Snapshot() as snapshot, Workers(self._settings.migration.parallel) as workers:
            reading = Reading(snapshot, driver, workers, self._settings, self._on_progress)
            reading.list()
            layout = reading.detect(single_prefix=self._options.single_prefix)
            if layout is None:
                yield None
                return
            known = None
            if state is not None:
                suspicious = {problem.repository for problem in self._journal.problems()}
                known = Bases(core, self._journal, layout, suspicious)
            reading.read(layout, known)
            yield Context(
                core, self._settings, layout, snapshot, self._journal, self._options, self._on_progress, self._tally,
                workers, reading.problems, reading.notes,
            )  # fmt: skip

    def _check_plan(self, context: Context) -> None:
        """Raises Refused, with all that differs."""
        reviewed = self._options.plan
        if reviewed is None:
            return
        found = list(uncovered(reviewed, context))
        if found:
            raise Refused("the bucket is not as it was reviewed; look at it again with --dry-run --plan", found)

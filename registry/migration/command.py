"""Migration command: which phases are allowed in which state, and their order."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, TypeVar

from registry.images.migration_journal.documents import Phase
from registry.images.registry import Registry
from registry.maintenance.rescan import Rescan
from registry.migration.adopt.adopt import Pass, adopt
from registry.migration.adopt.baselines import Baselines
from registry.migration.consolidate.consolidate import consolidate
from registry.migration.context import Context
from registry.migration.finalize.finalize import finalize, plan_finalize
from registry.migration.journal import MigrationJournal
from registry.migration.progress import silent
from registry.migration.report import Refused, Report
from registry.migration.review.counts import Counter
from registry.migration.review.requests import Tally
from registry.migration.rollback.plan import RollbackPlan, plan_rollback
from registry.migration.rollback.rollback import rollback
from registry.migration.single_instance import exclusive_run
from registry.migration.source.bucket import opened
from registry.migration.source.inventory import Inventory
from registry.migration.source.scan import SourceScan
from registry.migration.source.zot import OURS, ZotLayout
from registry.parallel import WorkerPool
from registry.storage.middleware.rate_limit import RateLimitedDriver

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from registry.config.settings import Settings
    from registry.images.migration_journal.documents import MigrationState
    from registry.migration.context import RunOptions
    from registry.migration.finalize.plan import Finalization
    from registry.migration.progress import OnProgress
    from registry.migration.source.layout import SourceLayout

T = TypeVar("T")

_BEGUN_OTHERWISE: Final = {
    Phase.ROLLING_BACK: "it is being rolled back: go on with --rollback",
    Phase.FINALIZING: "source objects are being deleted: go on with --finalize",
}


@contextmanager
def running(settings: Settings, options: RunOptions, on_progress: OnProgress = silent) -> Iterator[Run]:
    """The right to run on the bucket in the settings, for the block.

    Raises ConfigError as a review does, Refused while another instance runs, StorageError, DatabaseError.
    """
    tally, rate = Tally(), settings.migration.rate
    with opened(settings, tally.observe) as driver:
        registry = Registry.open(settings, driver if rate is None else RateLimitedDriver(driver, rate))
        try:
            with exclusive_run(registry.backends.database):
                yield Run(registry, settings, options, tally, on_progress)
        finally:
            registry.close()


class Run:
    """One run with an open registry; no other instance runs meanwhile.

    A method that was killed and is called again ends as if it had not been killed. The methods raise Refused if the
    state forbids them or another instance works on the bucket; BothLayouts, ConfigError as a review does,
    StorageError, DatabaseError, RegistryError.
    """

    def __init__(
        self,
        registry: Registry,
        settings: Settings,
        options: RunOptions,
        tally: Tally,
        on_progress: OnProgress = silent,
    ) -> None:
        self._registry = registry
        self._settings = settings
        self._options = options
        self._tally = tally
        self._on_progress = on_progress
        self._journal = MigrationJournal(registry.backends.driver, clock=registry.backends.clock)

    def run(self) -> Report:
        """Make a pass and, if it was quiet and more than that is asked for, copy what has no copy.

        Also raises Refused if the plan does not cover the bucket, or the keys of our blobs are taken.
        """
        state = self._journal.resume()
        self._refuse(state, _BEGUN_OTHERWISE)
        if state is not None and state.state is Phase.FINALIZED:
            return self._finalized(state)
        with self._reading(state) as context:
            if context is None:
                return Report()
            self._check_plan(context)
            _check_room(context)
            found = adopt(context)
            if found.is_quiet and not self._options.adopt_only:
                _add(found, consolidate(context))
            return found

    def rollback(self) -> Report:
        """Give the bucket back to the source registry. See registry.migration.rollback.rollback."""
        return self._back(rollback, lambda state: Report(state.state))

    def plan_rollback(self) -> RollbackPlan:
        """What ``rollback`` would do now; nothing is written to the bucket."""
        return self._back(plan_rollback, lambda state: RollbackPlan(state.state))

    def _back(self, work: Callable[[Context], T], done: Callable[[MigrationState], T]) -> T:
        state = self._begun()
        if state.state is Phase.ROLLED_BACK:
            return done(state)
        with self._reading(state) as context:
            return work(_present(context))

    def finalize(self) -> Report:
        """Delete the source objects, once a pass has seen that the source registry is quiet.

        See ``registry.migration.finalize.finalize``.
        """
        state = self._begun()
        if state.state is Phase.FINALIZED:
            return self._finalized(state)
        with self._reading(state) as found:
            context = _present(found)
            if state.state is Phase.CONSOLIDATED and not (moving := adopt(context)).is_quiet:
                raise Refused("the source is written to: nothing of it may be deleted", moving.changed)
            return finalize(context)

    def plan_finalize(self) -> Finalization:
        """What ``finalize`` would delete and leave; nothing is written."""
        with self._reading(self._begun()) as context:
            return plan_finalize(_present(context))

    def _finalized(self, state: MigrationState) -> Report:
        """The report of a migration that is finalized already: what could not be migrated is still there."""
        return Report(state.state, problems=self._journal.problems())

    def _begun(self) -> MigrationState:
        state = self._journal.resume()
        if state is None:
            raise Refused("nothing was migrated here")
        return state

    def _refuse(self, state: MigrationState | None, reasons: Mapping[Phase, str]) -> None:
        if state is not None and state.state in reasons:
            raise Refused(f"migration {state.id} is {state.state}: {reasons[state.state]}")

    @contextmanager
    def _reading(self, state: MigrationState | None) -> Iterator[Context | None]:
        """The source registry as it is now; None if there is none."""
        registry, driver = self._registry, self._registry.backends.driver
        registry.source_locations.ensure(again=True)
        if state is not None:
            _fill(registry)
        with Inventory() as inventory, WorkerPool(self._settings.migration.parallel) as workers:
            reading = SourceScan(inventory, driver, workers, self._settings, self._on_progress)
            reading.list()
            layout = self._layout(reading, state)
            if layout is None:
                yield None
                return
            known = None
            if state is not None:
                suspicious = {problem.repository for problem in self._journal.problems()}
                known = Baselines(registry, self._journal, layout, suspicious)
            reading.read(layout, known)
            yield Context(
                registry, self._settings, layout, inventory, self._journal, self._options, self._on_progress,
                self._tally, workers, reading.problems, reading.notes,
            )  # fmt: skip

    def _layout(self, reading: SourceScan, state: MigrationState | None) -> SourceLayout | None:
        """The layout that is detected; while phases change the bucket, the one that the migration began with."""
        if state is not None and state.state in _BEGUN_OTHERWISE:
            return reading.known_layout(state.layout, state.prefixes)
        is_begun = state is not None and state.state is not Phase.ROLLED_BACK
        if state is not None and is_begun and state.prefixes and self._options.single_prefix:
            message = f"migration {state.id} began without --single-prefix: leave the option out, or roll back first"
            raise Refused(message)
        is_single = state is not None and state.layout == ZotLayout.kind and not state.prefixes
        found = reading.detect(single_prefix=self._options.single_prefix or is_single)
        if state is not None and is_begun and found and found.kind != state.layout:
            message = f"migration {state.id} began with the layout {state.layout}, and there is {found.kind} now"
            raise Refused(message)
        return found

    def _check_plan(self, context: Context) -> None:
        """Raises Refused, with all that differs."""
        reviewed = self._options.plan
        if reviewed is None:
            return
        counter = Counter(context.inventory, context.layout)
        found = list(reviewed.differences(self._settings, context.driver.name, context.layout.kind, counter))
        if found:
            raise Refused("the bucket is not as it was reviewed; look at it again with --dry-run --plan", found)


def _check_room(context: Context) -> None:
    """Raises Refused if the source registry has blobs at the keys of ours: copies would overwrite its stubs (M1)."""
    if context.inventory.find(f"{OURS}/index.json") is not None:
        message = f"the source has a repository called {OURS}, whose blobs lie where Stowage keeps its own"
        raise Refused(f"{message}: copy it to another name there, and delete it")


def _fill(registry: Registry) -> None:
    """Have all repositories of the storage in a new database: pushed content is copied and given back, too."""
    rescan = Rescan(registry)
    if not rescan.is_done:
        rescan.run_once()


def _present(context: Context | None) -> Context:
    if context is None:
        raise Refused("there is nothing of a source here any more")
    return context


def _add(found: Pass, copied: Report) -> None:
    """Add to the report of a pass what was copied."""
    found.state = copied.state
    found.counts |= copied.counts
    found.problems = sorted({*found.problems, *copied.problems})
    found.notes += copied.notes

"""Rollback: the source registry gets what Stowage serves, and from the cut on nothing changes any more."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from registry.database import migration_queries, repositories
from registry.images.migration_journal.documents import Phase, ReadOnly
from registry.images.source_locations import SWAPPED
from registry.migration.adopt.baselines import Baselines, content_of, source_content
from registry.migration.progress import Progress
from registry.migration.report import Problem, ProblemKind, Refused, Report, Unfinished
from registry.migration.rollback.apply import RollbackApplier
from registry.migration.rollback.target import RollbackTargets
from registry.oci.errors import ManifestInvalid
from registry.oci.index import Owner

if TYPE_CHECKING:
    from registry.migration.context import Context
    from registry.migration.rollback.apply import RepositoryResult
    from registry.migration.rollback.steps import Loss
    from registry.migration.rollback.target import RollbackTarget

REASON: Final = (
    "this registry is being given back to the one that it came from: pull from here, push there when it is up"
)
"""What clients are told that push after the cut."""
FOLD_SECONDS: Final = 30.0
"""How long it may take until changes that other processes committed before the cut are folded."""
_TOO_LATE = {Phase.FINALIZING, Phase.FINALIZED}


def rollback(context: Context) -> Report:
    """Give the bucket back. Killed at any instant and run again, it ends as if it had not been.

    No object that was in the bucket before is copied, and no blob is deleted. From the cut on no change commits, in any
    replica. Raises Refused if source blobs are deleted already, if the source registry has changed since it was
    adopted, or if it cannot represent something and that was not accepted: then no change was made. Raises Unfinished
    if it has to be run again, StorageError, DatabaseError, RegistryError.
    """
    state = context.journal.state
    check_state(context)
    if state.state is Phase.ROLLED_BACK:
        return Report(state.state)
    return _Rollback(context).run()


def check_state(context: Context) -> None:
    """Raises Refused if there is no way back any more."""
    state = context.journal.state
    if state.state in _TOO_LATE:
        raise Refused(f"migration {state.id} is {state.state}: source objects are deleted, and there is no way back")


def changed_since(context: Context, bases: Baselines) -> list[str]:
    """Repositories that the source registry has changed since they were adopted; those never adopted are left out."""
    found = {row.name for row in context.inventory.repositories()}
    names = []
    for name in sorted(found | bases.names()):
        base = bases.of(name)
        if base is not None:
            now = source_content(context.inventory, name, content_of(base))
            if now.tags != base.tags or now.manifests.keys() != base.manifests.keys():
                names.append(name)
    return names


class _Rollback:
    """One run of it."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._registry = context.registry
        self._journal = context.journal
        self._bases = Baselines(context.registry, context.journal, context.layout, ())
        self._wanting = RollbackTargets(context, self._bases)
        self._unreadable: set[Problem] = set()

    def run(self) -> Report:
        before = self._journal.state
        is_resumed = before.state is Phase.ROLLING_BACK
        if not is_resumed and (names := changed_since(self._context, self._bases)):
            raise Refused("the source has changed since it was taken: take that first, without --rollback", names)
        checked = self._check({})
        if is_resumed:
            self._registry.write_gate.note(before)
        else:
            self._cut()
        self._fold()
        try:
            self._check(checked)
        except Refused:
            if not is_resumed:  # nothing was done: they were pushed between the first look and the cut
                self._registry.write_gate.note(self._journal.move(before.state, read_only=before.read_only))
            raise
        report = self._give()
        self._swap()
        report.problems = sorted({*report.problems, *self._unreadable})
        state = self._journal.move(Phase.ROLLED_BACK, read_only=self._journal.state.read_only)
        self._registry.write_gate.note(state)
        report.state = state.state
        return report

    # ---- the cut

    def _check(self, checked: dict[str, int]) -> dict[str, int]:
        """Raises Refused if something would be lost. ``checked`` has the versions of repositories that were checked."""
        losses: list[Loss] = []
        found: dict[str, int] = {}

        def look(name: str) -> tuple[str, int, list[Loss]] | None:
            version = self._wanting.version(name)
            if version is not None and checked.get(name) == version:
                return name, version, []
            asked = self._asked(name)
            if asked is None:
                return None
            return name, asked.version, list(self._context.layout.losses(asked.wanted, self._context.inventory))

        for looked in self._context.workers.each(look, self._wanting.names()):
            if looked is not None:
                found[looked[0]] = looked[1]
                losses += looked[2]
        if losses and not self._context.options.accept_loss:
            lines = [f"{loss.repository} {loss.digest}: {loss.detail}" for loss in sorted(losses)]
            raise Refused("the source cannot have everything; --accept-loss leaves it out", lines)
        return found

    def _asked(self, name: str) -> RollbackTarget | None:
        try:
            return self._wanting.of(name)
        except ManifestInvalid as error:
            key = f"{name}/index.json"
            self._unreadable.add(Problem(ProblemKind.UNREADABLE_INDEX, name, key, "", error.message))
            return None

    def _cut(self) -> None:
        """Close the gate, in the bucket first: a database that is rebuilt from it knows, too."""
        since = datetime.fromtimestamp(self._registry.backends.clock(), UTC).isoformat(timespec="seconds")
        state = self._journal.move(Phase.ROLLING_BACK, read_only=ReadOnly(since, REASON))
        self._registry.write_gate.note(state)

    def _fold(self) -> None:
        """Have all that was committed in our indexes; changes that wait for a foreign index are in the rows alone."""
        deadline = time.monotonic() + FOLD_SECONDS
        index_file = self._registry.backends.index_file
        while names := self._unfolded():
            folded = [self._registry.folding.fold(name) for name in names]
            if not any(folded) and all(index_file.owner(name) is Owner.FOREIGN for name in names):
                return
            if time.monotonic() > deadline:
                raise Unfinished(f"changes of {', '.join(names[:3])} wait for another process; run it again")
            if not any(folded):
                time.sleep(0.05)

    def _unfolded(self) -> list[str]:
        with self._registry.backends.database.snapshot() as connection:
            return repositories.unfolded(connection, before=float("inf")).get()

    # ---- repositories

    def _give(self) -> Report:
        giving = RollbackApplier(self._context)
        names = self._wanting.names()

        def give(name: str) -> RepositoryResult | None:
            asked = self._asked(name)
            return None if asked is None else giving.give(asked)

        report = Report(counts=dict.fromkeys(("repositories", "copied", "copied_bytes", "written", "deleted"), 0))
        for done, given in enumerate(self._context.workers.each(give, names), 1):
            self._context.on_progress(Progress("giving back", done, len(names)))
            if given is not None:
                _count(report, given)
        return report

    def _swap(self) -> None:
        """Have Stowage read from the objects of the source registry from now on; ours stay."""
        after: int | None = 0
        while after is not None:
            with self._registry.backends.database.transaction() as connection:
                after = migration_queries.swap(
                    connection,
                    self._journal.id,
                    store=self._registry.backends.driver.name,
                    after=after,
                    count=SWAPPED,
                )


def _count(report: Report, given: RepositoryResult) -> None:
    counts = report.counts
    counts["repositories"] += given.is_changed
    counts["copied"] += given.copied
    counts["copied_bytes"] += given.copied_bytes
    counts["written"] += given.written
    counts["deleted"] += given.deleted
    report.problems += given.problems

"""Adopting: Stowage serves everything from the original's objects, and no byte is copied (proposal 0005)."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from registry.database import migration_queries
from registry.images.migration_journal.documents import Phase
from registry.migration.adopt.baselines import Baselines
from registry.migration.adopt.quiet import changed_during_pass
from registry.migration.adopt.repository import Outcome, RepositoryAdoption
from registry.migration.adopt.source_locations import Shards
from registry.migration.progress import Progress
from registry.migration.report import Note, Report
from registry.migration.review.counts import Counter

if TYPE_CHECKING:
    from collections.abc import Iterator

    from registry.migration.adopt.repository import AdoptionResult
    from registry.migration.context import Context
    from registry.migration.source.layout import RepositoryPath

_EXAMPLES = 5


@dataclass(slots=True)
class Pass(Report):
    """What one pass did."""

    changed: list[str] = field(default_factory=list)
    """Repositories, or keys of no repository, that the original changed meanwhile: the next pass takes them."""

    @property
    def is_quiet(self) -> bool:
        """Nobody wrote to the original: all that can be taken is."""
        return not self.changed


def adopt(context: Context) -> Pass:
    """Make one pass over the original as the context has read it, and take what changed since the last one.

    What was taken is served when this returns. Run again, after a kill too, it writes only what differs. Where the pass
    is not quiet the state stays ``adopting``, and the repositories whose index key is the original's too wait.
    Raises Refused where another instance goes on with the same migration, StorageError, DatabaseError, RegistryError.
    """
    journal = context.journal
    context.registry.write_gate.note(journal.begin(context.layout.kind, context.layout.prefixes))
    bases = Baselines(context.registry, journal, context.layout, ())
    problems = {*context.problems, *Shards(context).note()}
    moving = changed_during_pass(context, bases)
    journal.write_problems(problems)  # before a base says that its repository need not be read again
    found = Pass(notes=list(context.notes))
    kept: list[str] = []
    for taken in _take(context, bases, moving):
        problems.update(taken.problems)
        kept += [f"{taken.name}:{tag.tag}" for tag in taken.kept]
        if taken.outcome is Outcome.CHANGED:
            moving.add(taken.name)
        else:
            found.counts[taken.outcome.value] = found.counts.get(taken.outcome.value, 0) + 1
    journal.write_problems(problems)
    found.problems, found.changed = sorted(problems), sorted(moving)
    if kept:
        detail = f"both changed them, and Stowage's stay: {', '.join(kept[:_EXAMPLES])}"
        found.notes.append(Note("kept-tags", len(kept), detail))
    _end(context, found)
    return found


def _take(context: Context, bases: Baselines, moving: set[str]) -> Iterator[AdoptionResult]:
    """Take each that the original left alone, and those that are gone."""
    repositories = context.inventory.rows("SELECT name, path, index_key FROM repository ORDER BY name")
    index = context.registry.backends.layout.index
    # A registry that still writes must not find our entries in an index of its own.
    paths = [path for name, path, key in repositories if name not in moving and not (moving and key == index(name))]
    taking = RepositoryAdoption(context, bases)
    for done, taken in enumerate(context.workers.each(partial(taking.take), paths), 1):
        context.on_progress(Progress("taking", done, len(paths)))
        yield taken
    gone = _gone(context, bases, {name for name, *_ in repositories} | moving)
    yield from context.workers.each(partial(taking.drop), gone)


def _gone(context: Context, bases: Baselines, others: set[str]) -> Iterator[RepositoryPath]:
    """Repositories that were taken, and of which the listing has nothing of the original any more."""
    for name in sorted(bases.names()):
        base = None if name in others else bases.current(name) or bases.earlier(name)
        if base is None or not (base.tags or base.manifests):
            continue
        located = bases.located(base)
        ours = "kind IN ('marker', 'upload', 'our-record')" + (" OR kind = 'index'" if base.index is None else "")
        if not context.inventory.value(f"SELECT 1 FROM object WHERE repository = ? AND NOT ({ours})", located.path):
            yield located


def _end(context: Context, found: Pass) -> None:
    """Note how the pass ended, on storage first."""
    journal, backends = context.journal, context.registry.backends
    before = journal.state
    counts = Counter(context.inventory, context.layout).counts()
    phase = Phase.ADOPTING
    if found.is_quiet:
        with backends.database.autocommit() as connection:
            left = migration_queries.uncopied(connection, store=backends.driver.name, after="", count=1).get()
        phase = Phase.CONSOLIDATED if before.state is Phase.CONSOLIDATED and not left else Phase.ADOPTED
    state = journal.move(
        phase,
        read_only=None if found.is_quiet else before.read_only,
        passes=before.passes + 1,
        counts={
            "repositories": counts.repositories,
            "tags": counts.tags,
            "manifests": counts.manifests,
            "blobs": counts.blobs,
            "bytes": counts.bytes,
            "problems": len(found.problems),
        },
    )
    context.registry.write_gate.note(state)
    found.state = state.state

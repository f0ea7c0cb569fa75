"""Adoption: Stowage serves everything from the objects of the source registry, and no byte is copied."""

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
from registry.migration.source.objects import ObjectKind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from registry.migration.adopt.repository import AdoptionResult
    from registry.migration.context import Context
    from registry.migration.source.objects import RepositoryPath

_EXAMPLES = 5


@dataclass(slots=True)
class Pass(Report):
    """What one pass did."""

    changed: list[str] = field(default_factory=list)
    """Repositories, or keys outside of repositories, that the source registry changed meanwhile.

    The next pass adopts them.
    """

    @property
    def is_quiet(self) -> bool:
        """Whether the source registry changed nothing, so that all that can be adopted is."""
        return not self.changed


def adopt(context: Context) -> Pass:
    """Make one pass over the source registry as the context has read it, and adopt what changed since the last pass.

    Adopted repositories are served when this returns. Run again, after a kill too, it writes only what differs. Unless
    the pass is quiet the state stays ``adopting``, and repositories whose index has the key of ours wait.
    Raises Refused if another instance goes on with the same migration, StorageError, DatabaseError, RegistryError.
    """
    journal = context.journal
    context.registry.write_gate.note(journal.begin(context.layout.kind, context.layout.prefixes))
    bases = Baselines(context.registry, journal, context.layout, ())
    problems = {*context.problems, *Shards(context).note()}
    moving = changed_during_pass(context, bases)
    journal.write_problems(problems)  # before a baseline says that its repository need not be read again
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
    """Adopt each repository that the source registry left alone, and drop those that are gone."""
    repositories = context.inventory.repositories()
    index = context.registry.backends.layout.index
    # A registry that still writes must not find our entries in an index of its own.
    still = [
        row for row in repositories if row.name not in moving and not (moving and row.index_key == index(row.name))
    ]
    taking = RepositoryAdoption(context, bases)
    for done, taken in enumerate(context.workers.each(partial(taking.take), still), 1):
        context.on_progress(Progress("taking", done, len(still)))
        yield taken
    gone = _gone(context, bases, {row.name for row in repositories} | moving)
    yield from context.workers.each(partial(taking.drop), gone)


def _gone(context: Context, bases: Baselines, present: set[str]) -> Iterator[RepositoryPath]:
    """Repositories that were adopted and of which the listing shows nothing any more; ``present`` are there."""
    for name in sorted(bases.names() - present):
        base = bases.of(name)
        if base is None or not (base.tags or base.manifests):
            continue
        located = bases.located(base)
        ours = {ObjectKind.MARKER, ObjectKind.UPLOAD, ObjectKind.OUR_RECORD}
        if base.index is None:
            ours.add(ObjectKind.INDEX)
        if context.inventory.kinds_in(located.path) <= ours:
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

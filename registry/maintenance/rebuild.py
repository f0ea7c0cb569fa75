"""Rebuild: the cache DB from storage, online and in place (``registry rebuild``; design, promise 2)."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from itertools import chain, islice
from typing import TYPE_CHECKING, NamedTuple

import structlog

from registry.database import repositories
from registry.images.registry import Registry
from registry.maintenance.arrivals import Arrivals
from registry.maintenance.collection.survey.gc_state import CollectionRefused, GcState
from registry.maintenance.rebuild_round import RebuildRound
from registry.oci.errors import RegistryError, Unavailable
from registry.parallel import AT_ONCE, map_parallel
from registry.storage.errors import PathNotFound, PathRefused, StorageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from registry.config.settings import Settings
    from registry.images.omissions import Omission

    OnProgress = Callable[[int, int], None]
    """Called with what is done and what there is in all, as far as that is known by then."""

SMALL_INDEX = 1 << 20
"""Bytes of the largest ``index.json`` that is read beside other ones; in memory it takes some ten times as much."""

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class RebuildReport:
    """What a rebuild found."""

    repositories: int = 0
    """Repositories that storage and database now agree on."""
    removed: int = 0
    """Repositories that the database had and storage has not."""
    resumed_after: str | None = None
    """The last repository that an earlier rebuild had done, which was killed; None if this one began anew."""
    problems: list[str] = field(default_factory=list)
    """What could not be read, which is left as it was, and what storage has that is not served."""


@dataclass(frozen=True, slots=True)
class RebuildProgress:
    """How far a rebuild has come that has not ended: it runs, or it was interrupted."""

    began_at: str
    """RFC 3339 in UTC."""
    reached: str
    """The last repository that is done, in the order in which storage is walked; "" for none."""
    repositories: int
    """As in RebuildReport, by then."""
    problems: list[str]


def rebuild_progress(settings: Settings) -> RebuildProgress | None:
    """None if no rebuild is under way, and none was interrupted that the next would go on with."""
    registry = Registry.open(settings)
    try:
        found = RebuildRound.find(registry.backends)
        if found is None:
            return None
        return RebuildProgress(found.began_at, found.reached, found.repositories, found.problems)
    finally:
        registry.close()


def rebuild(settings: Settings, *, anew: bool = False, on_progress: OnProgress | None = None) -> RebuildReport:
    """Reconcile every repository that storage has, and forget those that it has not.

    Servers may run meanwhile. Killed in the middle, the same again goes on behind what is done (I8), unless it is asked
    to begin ``anew``.
    """
    registry = Registry.open(settings)
    try:
        return rebuild_registry(registry, anew=anew, on_progress=on_progress)
    finally:
        registry.close()


def rebuild_registry(registry: Registry, *, anew: bool = False, on_progress: OnProgress | None = None) -> RebuildReport:
    """As ``rebuild``, on an open registry."""
    registry.source_locations.ensure(again=True)
    current = RebuildRound.open(registry.backends, anew=anew)
    steps, seen = registry.storage_walk.steps(after=current.began_after), 0
    # An error of the walk ends it: nothing is forgotten on a partial list, and the next rebuild goes on here.
    while several := list(islice(steps, AT_ONCE)):
        if on_progress is not None:
            on_progress(seen, seen + len(several) + several[-1].ahead)
        found = _reconcile_all(registry, [step.name for step in several])
        done = [one.repository_id for one in found if one.repository_id is not None]
        current.advance(several[-1].name, done, chain.from_iterable(one.problems for one in found))
        seen += len(several)
    if on_progress is not None:
        on_progress(seen, seen)
    current.add_problems(map(str, registry.backends.omissions.of("")))
    removed = _forget_absent(registry, current.not_done())
    _note_arrivals(registry)
    current.add_problems(_take_over(registry))
    current.end()
    return RebuildReport(current.repositories, removed, current.began_after or None, current.problems)


class _Reconciled(NamedTuple):
    """What became of one repository."""

    repository_id: int | None
    """The database has it by now as storage does; None if it is not ours, or could not be read."""
    problems: list[str]


def _reconcile_all(registry: Registry, names: list[str]) -> list[_Reconciled]:
    """Side by side, but for those whose index takes much memory."""
    capabilities = registry.backends.driver.capabilities
    sizes = [0] * len(names)
    if not capabilities.stat_is_local:  # else they are read one after the other anyway
        sizes = map_parallel(capabilities, partial(_index_size, registry), names)
    small = [name for name, size in zip(names, sizes, strict=True) if size <= SMALL_INDEX]
    found = dict(zip(small, map_parallel(capabilities, partial(_reconcile, registry), small), strict=True))
    return [found.get(name) or _reconcile(registry, name) for name in names]


def _index_size(registry: Registry, name: str) -> int:
    try:
        return registry.backends.driver.stat(registry.backends.layout.index(name)).size
    except StorageError:
        return 0  # whatever it is, the reading says it


def _reconcile(registry: Registry, name: str) -> _Reconciled:
    omissions: list[Omission] = []
    try:
        row = registry.reconciliation.reconcile(name)
        if row is not None:  # what a release before this one has left out of its rows
            omissions += registry.references.complete_repository(row.id)
            omissions += registry.reconciliation.adopt_optional(row)
    except (RegistryError, StorageError) as error:
        log.warning("a repository could not be read from storage", repository=name, reason=str(error))
        return _Reconciled(None, [f"{name}: {error}"])
    omissions += registry.backends.omissions.of(name)
    return _Reconciled(None if row is None else row.id, [str(omission) for omission in dict.fromkeys(omissions)])


def _note_arrivals(registry: Registry) -> None:
    """Where no change may commit, it is done when some may again."""
    try:
        Arrivals(registry).run()
    except (Unavailable, StorageError) as error:
        log.info("what came since it was withheld is written down later", reason=str(error))


def _take_over(registry: Registry) -> list[str]:
    """Have this database collect, now that it knows all that storage has. Returns what stands against it."""
    with registry.backends.database.autocommit() as connection:
        if registry.write_gate.is_read_only(connection):
            return []  # nothing is collected, and nothing of ours is written
    try:
        GcState(registry).take_over()
    except (CollectionRefused, StorageError) as error:
        return [str(error)]
    return []


def _forget_absent(registry: Registry, names: Iterable[str]) -> int:
    """Forget those of the repositories that storage does not have."""
    removed = 0
    for name in names:
        if _is_on_storage(registry, name):
            continue
        with registry.backends.database.autocommit() as connection:
            row = repositories.find(connection, name).get()
        if row is not None and row.etag:  # without one it has never been on storage: a first push is under way
            registry.reconciliation.forget(row)
            removed += 1
    return removed


def _is_on_storage(registry: Registry, name: str) -> bool:
    """It may have been made since the walk, or be where the walk was not let in, which proves nothing (I7)."""
    try:
        registry.backends.driver.stat(registry.backends.layout.index(name))
    except PathNotFound:
        return False
    except PathRefused:
        return True
    return True

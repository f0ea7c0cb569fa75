"""Rebuild: the cache DB from storage, online and in place (``registry rebuild``; design, promise 2)."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import structlog

from registry.database import repositories
from registry.images.registry import Registry
from registry.maintenance.arrivals import Arrivals
from registry.oci.errors import RegistryError, Unavailable
from registry.parallel import AT_ONCE, map_parallel
from registry.storage.errors import PathNotFound, PathRefused, StorageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from registry.config.settings import Settings
    from registry.images.omissions import Omission

    OnProgress = Callable[[int, int], None]
    """Called with what is done and what there is in all."""


log = structlog.get_logger(__name__)


@dataclass(slots=True)
class RebuildReport:
    """What a rebuild found."""

    repositories: int = 0
    """Repositories that storage and database now agree on."""
    removed: int = 0
    """Repositories that the database had and storage has not."""
    problems: list[str] = field(default_factory=list)
    """What could not be read, which is left as it was, and what storage has that is not served."""


def rebuild(settings: Settings, *, on_progress: OnProgress | None = None) -> RebuildReport:
    """Reconcile every repository that storage has, and forget those that it has not.

    Servers may run meanwhile. Killed in the middle, the same again finishes it (I8).
    """
    registry = Registry.open(settings)
    try:
        return rebuild_registry(registry, on_progress=on_progress)
    finally:
        registry.close()


def rebuild_registry(registry: Registry, *, on_progress: OnProgress | None = None) -> RebuildReport:
    """As ``rebuild``, on an open registry."""
    report = RebuildReport()
    registry.source_locations.ensure(again=True)
    names = list(registry.storage_walk.repositories())  # an error here ends it: nothing is forgotten on a partial list
    report.problems += map(str, registry.backends.omissions.of(""))
    capabilities = registry.backends.driver.capabilities
    for done in range(0, len(names), AT_ONCE):
        if on_progress is not None:
            on_progress(done, len(names))
        for found in map_parallel(capabilities, partial(_reconcile, registry), names[done : done + AT_ONCE]):
            report.repositories += found.is_ours
            report.problems += found.problems
    if on_progress is not None:
        on_progress(len(names), len(names))
    report.removed = _forget_absent(registry, set(names))
    _note_arrivals(registry)
    return report


class _Reconciled(NamedTuple):
    """What became of one repository."""

    is_ours: bool
    """The database has it by now as storage does."""
    problems: list[str]


def _reconcile(registry: Registry, name: str) -> _Reconciled:
    omissions: list[Omission] = []
    try:
        row = registry.reconciliation.reconcile(name)
        if row is not None:  # what a release before this one has left out of its rows
            omissions += registry.references.complete_repository(row.id)
            omissions += registry.reconciliation.adopt_optional(row)
    except (RegistryError, StorageError) as error:
        return _Reconciled(is_ours=False, problems=[f"{name}: {error}"])
    omissions += registry.backends.omissions.of(name)
    return _Reconciled(row is not None, [str(omission) for omission in dict.fromkeys(omissions)])


def _note_arrivals(registry: Registry) -> None:
    """Where no change may commit, it is done when some may again."""
    try:
        Arrivals(registry).run()
    except (Unavailable, StorageError) as error:
        log.info("what came since it was withheld is written down later", reason=str(error))


def _forget_absent(registry: Registry, present: set[str]) -> int:
    removed = 0
    with registry.backends.database.autocommit() as connection:
        known = repositories.names(connection).get()
    for name in known:
        if name in present or _is_on_storage(registry, name):
            continue
        with registry.backends.database.autocommit() as connection:
            row = repositories.find(connection, name).get()
        if row is not None and row.signature:  # without one it has never been on storage: a first push is under way
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

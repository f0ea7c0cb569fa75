"""``registry rebuild``: the cache DB from storage, online and in place (design, promise 2)."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import structlog

from registry.database import repositories as repository_rows
from registry.images.registry import Registry
from registry.maintenance.arrivals import Arrivals
from registry.oci.errors import RegistryError, Unavailable
from registry.parallel import AT_ONCE, map_parallel
from registry.storage.errors import PathNotFound, PathRefused, StorageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from registry.config import Settings
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
    core = Registry.open(settings)
    try:
        return rebuild_core(core, on_progress=on_progress)
    finally:
        core.close()


def rebuild_core(core: Registry, *, on_progress: OnProgress | None = None) -> RebuildReport:
    """As ``rebuild``, on an open core."""
    report = RebuildReport()
    core.originals.ensure(again=True)
    names = list(core.repositories.on_storage())  # an error here ends it: nothing is forgotten on a partial list
    report.problems += map(str, core.stores.omissions.of(""))
    capabilities = core.stores.driver.capabilities
    for done in range(0, len(names), AT_ONCE):
        if on_progress is not None:
            on_progress(done, len(names))
        for found in map_parallel(capabilities, partial(_reconcile, core), names[done : done + AT_ONCE]):
            report.repositories += found.is_ours
            report.problems += found.problems
    if on_progress is not None:
        on_progress(len(names), len(names))
    report.removed = _forget_absent(core, set(names))
    _note_arrivals(core)
    return report


class _Reconciled(NamedTuple):
    """What became of one repository."""

    is_ours: bool
    """The database has it by now as storage does."""
    problems: list[str]


def _reconcile(core: Registry, name: str) -> _Reconciled:
    omissions: list[Omission] = []
    try:
        row = core.reconciliation.reconcile(name)
        if row is not None:  # what a release before this one has left out of its rows
            omissions += core.references.complete_repository(row.id)
            omissions += core.reconciliation.adopt_optional(row)
    except (RegistryError, StorageError) as error:
        return _Reconciled(is_ours=False, problems=[f"{name}: {error}"])
    omissions += core.stores.omissions.of(name)
    return _Reconciled(row is not None, [str(omission) for omission in dict.fromkeys(omissions)])


def _note_arrivals(core: Registry) -> None:
    """Where no change may commit, it is done when some may again."""
    try:
        Arrivals(core).run()
    except (Unavailable, StorageError) as error:
        log.info("what came since it was withheld is written down later", reason=str(error))


def _forget_absent(core: Registry, present: set[str]) -> int:
    removed = 0
    with core.stores.database.look() as connection:
        known = repository_rows.names(connection)
    for name in known:
        if name in present or _is_on_storage(core, name):
            continue
        with core.stores.database.look() as connection:
            row = repository_rows.find(connection, name)
        if row is not None and row.signature:  # without one it has never been on storage: a first push is under way
            core.reconciliation.forget(row)
            removed += 1
    return removed


def _is_on_storage(core: Registry, name: str) -> bool:
    """It may have been made since the walk, or be where the walk was not let in, which proves nothing (I7)."""
    try:
        core.stores.driver.stat(core.stores.layout.index(name))
    except PathNotFound:
        return False
    except PathRefused:
        return True
    return True

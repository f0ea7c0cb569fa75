"""``registry rebuild``: the cache DB from storage, online and in place (design, promise 2)."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from registry.database import repositories as repository_rows
from registry.images.core import Core
from registry.images.several import AT_ONCE, map_several
from registry.oci.errors import RegistryError
from registry.oci.name import parse_name
from registry.storage.errors import PathNotFound, StorageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from registry.config import Settings

    OnProgress = Callable[[int, int], None]
    """Called with what is done and what there is in all."""


@dataclass(slots=True)
class RebuildReport:
    """What a rebuild found."""

    repositories: int = 0
    """Repositories that storage and database now agree on."""
    removed: int = 0
    """Repositories that the database had and storage has not."""
    problems: list[str] = field(default_factory=list)
    """What could not be read; it is left as it was."""


def rebuild(settings: Settings, *, on_progress: OnProgress | None = None) -> RebuildReport:
    """Reconcile every repository that storage has, and forget those that it has not.

    Servers may run meanwhile. Killed in the middle, the same again finishes it (I8).
    """
    core = Core.open(settings)
    try:
        return rebuild_core(core, on_progress=on_progress)
    finally:
        core.close()


def rebuild_core(core: Core, *, on_progress: OnProgress | None = None) -> RebuildReport:
    """As ``rebuild``, on an open core."""
    report = RebuildReport()
    core.originals.ensure(again=True)
    names = list(core.repositories.on_storage())  # an error here ends it: nothing is forgotten on a partial list
    capabilities = core.stores.driver.capabilities
    for done in range(0, len(names), AT_ONCE):
        if on_progress is not None:
            on_progress(done, len(names))
        for found in map_several(capabilities, partial(_reconcile, core), names[done : done + AT_ONCE]):
            if isinstance(found, str):
                report.problems.append(found)
            else:
                report.repositories += found
    if on_progress is not None:
        on_progress(len(names), len(names))
    report.removed = _forget_absent(core, set(names))
    return report


def _reconcile(core: Core, name: str) -> bool | str:
    """Whether it is one of ours, as the database has it by now; or what is wrong with it."""
    try:
        return core.reconciliation.reconcile(parse_name(name)) is not None
    except (RegistryError, StorageError) as error:
        return f"{name}: {error}"


def _forget_absent(core: Core, present: set[str]) -> int:
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


def _is_on_storage(core: Core, name: str) -> bool:
    """It may have been made since the walk."""
    try:
        core.stores.driver.stat(core.stores.layout.index(name))
    except PathNotFound:
        return False
    return True

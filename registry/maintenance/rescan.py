"""Rescan: a walk for layouts that other tools placed, while the registry runs.

Tests: ``tests/images/test_foreign_index.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from registry.database import stores
from registry.oci.errors import RegistryError

if TYPE_CHECKING:
    from registry.images.registry import Registry

log = structlog.get_logger(__name__)


class Rescan:
    """Walks storage and touches every repository, so that new ones are in the catalog.

    A failing store ends a walk (I7); what concerns one directory or repository does not.
    """

    def __init__(self, registry: Registry) -> None:
        self._database = registry.backends.database
        self._clock = registry.backends.clock
        self._source_locations = registry.source_locations
        self._repositories = registry.repositories
        self._storage_walk = registry.storage_walk

    @property
    def is_done(self) -> bool:
        """Whether storage was walked once with this database."""
        with self._database.autocommit() as connection:
            return stores.is_reached(connection, stores.STORAGE_READ).get()

    def run_once(self) -> None:
        """Fill a new database, behind the open port."""
        found = self.run()
        with self._database.transaction() as connection:
            stores.reach(connection, stores.STORAGE_READ, now=self._clock())
        log.info("a new database was filled from storage", repositories=found)

    def run(self) -> int:
        """Returns how many repositories storage has."""
        self._source_locations.ensure(again=True)
        found = 0
        for name in self._storage_walk.repositories():
            try:
                found += self._repositories.touch(name) is not None
            except RegistryError as error:
                log.debug("a repository was passed over", repository=name, reason=error.message)
        return found

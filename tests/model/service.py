"""A whole registry in this process: storage, database, core and application, which can be taken apart and rebuilt."""

from __future__ import annotations

import shutil
import tempfile
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from registry.config.sections import DatabaseSettings, StorageSettings
from registry.config.settings import Settings
from registry.images.records.folding import ABANDONED_SECONDS
from registry.images.registry import Registry
from registry.maintenance.rebuild import rebuild_registry
from registry.maintenance.rescan import Rescan
from registry.server.application import create_application
from registry.server.observability import ProcessMetrics
from registry.storage.factory import open_driver
from registry.storage.memory import MemoryDriver
from tests.model.caller import Caller, Reply

if TYPE_CHECKING:
    from collections.abc import Mapping

    from registry.api.context import ApiContext
    from registry.storage.driver import StorageDriver


class Service(ABC):
    """One storage; the database and everything in memory come and go."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="stowage-model-"))
        self.settings = Settings(
            storage=StorageSettings(root_directory=self.directory / "root", fsync=False),
            database=DatabaseSettings(url=f"sqlite:///{self.directory / 'cache.db'}"),
        )
        self._elapsed = 0.0
        self._open()

    @abstractmethod
    def _driver(self) -> StorageDriver:
        """The storage, opened again."""

    def _open(self) -> None:
        self.driver = self._driver()
        self.registry = Registry.open(self.settings, driver=self.driver)
        object.__setattr__(self.registry.backends, "clock", lambda: time.time() + self._elapsed)
        # The schedule of background work begins with the lifespan, which is not sent: the tests decide what runs when.
        application = create_application(self.registry, self.settings, ProcessMetrics(None, None))
        self._context: ApiContext = cast("Any", application)._application.state.context
        self._caller = Caller(application)

    def _close(self) -> None:
        self._context.close()
        self._caller.close()
        self.registry.close()

    def call(self, method: str, target: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> Reply:
        """One request."""
        return self._caller.call(method, target, body, headers)

    def fold(self) -> None:
        """Fold what this core has recorded."""
        self.registry.fold_waiting()

    def settle(self) -> None:
        """Let so much time pass that whatever waits is done, also what another process would have left behind."""
        self.rescan()
        self._elapsed += 2 * ABANDONED_SECONDS
        self.registry.fold_waiting()
        self.registry.blob_deletion.finish_abandoned()

    def rescan(self) -> None:
        """Find the repositories that storage has."""
        Rescan(self.registry).run()

    def rebuild(self) -> None:
        """``registry rebuild`` beside the running registry."""
        report = rebuild_registry(self.registry)
        assert not report.problems, report

    def restart(self) -> None:
        """Nothing in memory survives."""
        self._close()
        self._open()

    def lose_database(self) -> None:
        """Nothing in the database survives either."""
        self._close()
        for path in self.directory.glob("cache.db*"):
            path.unlink()
        self._open()

    def end(self) -> None:
        """Free everything."""
        self._close()
        shutil.rmtree(self.directory)


class LocalService(Service):
    """On a directory."""

    def _driver(self) -> StorageDriver:
        return open_driver(self.settings)


class MemoryService(Service):
    """On a dictionary, which is kept when the service is opened again."""

    _kept: StorageDriver | None = None

    def _driver(self) -> StorageDriver:
        self._kept = self._kept or MemoryDriver()
        return self._kept

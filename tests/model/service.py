"""A whole registry in this process: storage, database, core and application, which can be taken apart and rebuilt."""

from __future__ import annotations

import shutil
import tempfile
import time
from abc import ABC, abstractmethod
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from registry.clocks import Clocks, boot_seconds
from registry.config.retention_sections import RetentionSettings
from registry.config.sections import DatabaseSettings, GcSettings, StorageSettings
from registry.config.settings import Settings
from registry.database import manifests, memberships, repositories
from registry.database.engine import Database
from registry.images.records.folding import ABANDONED_SECONDS
from registry.images.registry import Registry
from registry.maintenance.collection.collection import Collection
from registry.maintenance.collection.ledger import Ledger
from registry.maintenance.collection.survey.gc_state import meet
from registry.maintenance.rebuild import rebuild_registry
from registry.maintenance.rescan import Rescan
from registry.maintenance.retention.run import RetentionRun
from registry.server.application import create_application
from registry.server.observability import ProcessMetrics
from registry.storage.factory import open_driver
from registry.storage.memory import MemoryDriver
from tests.model import ages
from tests.model.caller import Caller, Reply

if TYPE_CHECKING:
    from collections.abc import Mapping

    from registry.api.context import ApiContext
    from registry.config.retention_sections import RetentionRule
    from registry.maintenance.retention.report import Summary
    from registry.storage.driver import StorageDriver


class Service(ABC):
    """One storage; the database and everything in memory come and go."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="stowage-model-"))
        self.settings = Settings(
            storage=StorageSettings(
                root_directory=self.directory / "root", fsync=False, upload_expiry=ages.UPLOAD_EXPIRY
            ),
            gc=GcSettings(lease=ages.LEASE, grace=ages.GRACE, undelete_window=ages.WINDOW),
            database=DatabaseSettings(url=f"sqlite:///{self.directory / 'cache.db'}"),
        )
        self._elapsed = 0.0
        self._open()

    @abstractmethod
    def _driver(self) -> StorageDriver:
        """The storage, opened again."""

    def _open(self) -> None:
        self.driver = self._driver()
        opened = Registry.open(self.settings, driver=self.driver)
        opened.backends.database.close()
        clocks = Clocks(self.now, lambda: boot_seconds() + self._elapsed)
        database = Database(self.settings.database_url, clocks=clocks)
        self.registry = Registry(replace(opened.backends, database=database, clock=self.now))
        meet(self.registry)
        # The schedule of background work begins with the lifespan, which is not sent: the tests decide what runs when.
        application = create_application(self.registry, self.settings, ProcessMetrics(None, None))
        self._context: ApiContext = cast("Any", application)._application.state.context
        self._caller = Caller(application)

    def _close(self) -> None:
        self._context.close()
        self._caller.close()
        self.registry.close()

    def now(self) -> float:
        """Seconds since the epoch, of this registry."""
        return time.time() + self._elapsed

    def pass_time(self, seconds: float) -> None:
        """Let nothing happen for so long."""
        self._elapsed += seconds

    def collect(self, *, untagged_after: float | None, with_found: bool = False) -> Ledger:
        """``registry gc``. Raises CollectionRefused."""
        gc = self.settings.gc.model_copy(update={"untagged_after": untagged_after, "rate": None})
        ledger = Ledger()
        Collection(self.registry, self.settings.model_copy(update={"gc": gc})).run(ledger, with_found=with_found)
        return ledger

    def retain(self, rule: RetentionRule) -> Summary:
        """``registry retention --apply``."""
        return RetentionRun(self.registry, RetentionSettings(rules=(rule,), max_share=1.0), applies=True).finish()

    def has(self, name: str, digest: str, *, as_manifest: bool = False) -> bool:
        """Whether a repository has this by its rows, which no lease is renewed for."""
        with self.registry.backends.database.autocommit() as connection:
            row = repositories.find(connection, name).get()
            if row is None:
                return False
            if as_manifest:
                return manifests.by_digest(connection, row.id, digest).get() is not None
            return memberships.find(connection, row.id, digest).get() is not None

    @abstractmethod
    def stored(self) -> dict[str, set[str]]:
        """The digests of all bytes on storage, by repository; by an empty name where they share them."""

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

    def stored(self) -> dict[str, set[str]]:
        """See Service; what is in the trash is there too."""
        found = defaultdict[str, set[str]](set)
        root = self.settings.storage.root_directory
        for path in root.rglob("blobs/*/*"):
            found[str(path.parents[2].relative_to(root))].add(f"{path.parent.name}:{path.name}")
        return dict(found)

    def _driver(self) -> StorageDriver:
        return open_driver(self.settings)


class MemoryService(Service):
    """On a dictionary, which is kept when the service is opened again."""

    _kept: MemoryDriver | None = None

    def pass_time(self, seconds: float) -> None:
        """See Service; the store has a clock of its own."""
        super().pass_time(seconds)
        assert self._kept is not None
        for key, (data, stat) in list(self._kept._objects.items()):
            self._kept._objects[key] = data, stat._replace(modified=stat.modified - seconds)

    def stored(self) -> dict[str, set[str]]:
        """See Service."""
        assert self._kept is not None
        blobs = (key.split("/")[-2:] for key in list(self._kept._objects) if key.startswith("storage/blobs/"))
        return {"": {f"{algorithm}:{encoded}" for algorithm, encoded in blobs}}

    def _driver(self) -> StorageDriver:
        self._kept = self._kept or MemoryDriver()
        return self._kept

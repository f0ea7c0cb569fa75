"""Registry: everything below the HTTP edge and the commands, put together from settings.

Tests: ``tests/images/test_crash.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from registry.database.engine import Database
from registry.database.schema import upgrade_database
from registry.images.backends import Backends, Policy
from registry.images.blob_deletion import BlobDeletion
from registry.images.blob_locations import BlobLocations
from registry.images.blobs import Blobs
from registry.images.manifests import Manifests
from registry.images.publication.blob_publication import BlobPublication
from registry.images.pulls import Pulls
from registry.images.records.change_history import ChangeHistory
from registry.images.records.folding import Folding
from registry.images.records.reconciliation import Reconciliation
from registry.images.records.storage_walk import StorageWalk
from registry.images.references import References
from registry.images.repositories import Repositories
from registry.images.source_locations import SourceLocations
from registry.images.trash.purge import Purge
from registry.images.trash.restoration import Restoration
from registry.images.uploads.uploads import Uploads
from registry.images.write_gate import WriteGate
from registry.oci.errors import RegistryError
from registry.oci.immutable_tags import ImmutableTags
from registry.oci.quotas import Quotas
from registry.storage.errors import StorageError
from registry.storage.factory import open_driver

if TYPE_CHECKING:
    from registry.config.access_sections import AccessSettings
    from registry.config.settings import Settings
    from registry.storage.driver import StorageDriver

log = structlog.get_logger(__name__)


class Registry:
    """The registry without its edge. Synchronous; any thread."""

    def __init__(self, backends: Backends) -> None:
        self.backends = backends
        self.write_gate = WriteGate(backends)
        self.source_locations = SourceLocations(backends, self.write_gate)
        self.blob_locations = BlobLocations(backends)
        self.blob_deletion = BlobDeletion(backends)
        self.reconciliation = Reconciliation(backends, self.write_gate, self.source_locations)
        self.repositories = Repositories(backends, self.write_gate, self.source_locations, self.reconciliation)
        self.storage_walk = StorageWalk(backends, self.write_gate, self.source_locations)
        self.folding = Folding(backends, self.reconciliation)
        self.blob_publication = BlobPublication(backends, self.write_gate, self.folding)
        self.references = References(backends, self.write_gate, self.folding)
        self.blobs = Blobs(backends, self.repositories, self.blob_publication, self.references)
        self.uploads = Uploads(backends, self.repositories, self.blob_publication)
        self.manifests = Manifests(backends, self.repositories, self.blob_publication)
        self.pulls = Pulls(backends)
        self.change_history = ChangeHistory(backends, self.repositories)
        self.restoration = Restoration(backends, self.repositories, self.blob_publication, self.manifests)
        self.purge = Purge(backends, self.repositories, self.blob_publication, self.folding)

    @classmethod
    def open(cls, settings: Settings, driver: StorageDriver | None = None) -> Registry:
        """Open storage and database, bringing the schema up to date. ``driver`` replaces the configured one.

        Raises StorageError, DatabaseError.
        """
        driver = driver or open_driver(settings)
        database = Database.of(settings)
        upgrade_database(database)
        database.wall.read()
        return cls(Backends(driver, database, _policy(settings), clock=database.wall))

    def take_access(self, access: AccessSettings | None) -> None:
        """Have other rules about content from now on, also for changes that are under way."""
        self.backends.policy.immutable.take(access.immutable if access is not None else ())
        self.backends.policy.quotas.take(access.quotas if access is not None else ())

    def fold_waiting(self) -> int:
        """Fold what this process has recorded and what other processes have abandoned. Returns how many changes.

        A repository that cannot be folded is logged and tried again with the abandoned ones.
        """
        names = dict.fromkeys([*self.folding.waiting(), *self.folding.abandoned()])
        folded = 0
        for name in names:
            try:
                folded += self.folding.fold(name)
            except (RegistryError, StorageError) as error:  # other repositories need not wait for this one
                log.error(  # noqa: TRY400 - the reason says it, every few seconds
                    "index.json could not be brought up to date; its records are kept",
                    repository=name,
                    reason=str(error),
                )
        return folded

    def close(self) -> None:
        """Free connections and descriptors."""
        self.backends.driver.close()
        self.backends.database.close()


def _policy(settings: Settings) -> Policy:
    return Policy(
        lease=settings.gc.lease,
        grace=settings.gc.grace,
        undelete_window=settings.gc.undelete_window,
        dedupe=settings.storage.dedupe,
        delete=settings.storage.delete,
        manifest_bytes=settings.manifests.max_bytes,
        accept_missing_blobs=settings.manifests.missing_blobs == "accept",
        accept_missing_manifests=settings.manifests.missing_manifests == "accept",
        mirrored=frozenset(mirror.prefix for mirror in settings.mirrors),
        immutable=ImmutableTags(settings.access.immutable if settings.access is not None else ()),
        quotas=Quotas(settings.access.quotas if settings.access is not None else ()),
        pull_interval=settings.retention.pull_interval,
        upload_expiry=settings.storage.upload_expiry,
        uploads=settings.limits.uploads,
        uploads_per_address=settings.limits.uploads_per_address,
    )

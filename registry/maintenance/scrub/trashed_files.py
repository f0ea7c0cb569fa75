"""*Trashed files*: what can be restored on disk is read as well, so that a restore finds it right.

They have no rows of their own: a round reads all of them, and one that was ended reads them again. A wrong one stays
where it is, since a restore hashes what it brings back before it is served.

Tests: ``tests/maintenance/scrub/test_run.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry.database import blobs
from registry.database.collection import scrub
from registry.images.layout import TRASH
from registry.maintenance.due import SKEW
from registry.maintenance.scrub.object_check import Verdict
from registry.maintenance.scrub.quarantine import digest_of, repository_of
from registry.maintenance.scrub.report import Outcome
from registry.oci.errors import DigestInvalid
from registry.storage.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from registry.images.backends import Backends
    from registry.maintenance.scrub.findings import Findings
    from registry.maintenance.scrub.object_check import ObjectCheck
    from registry.oci.digest import Digest


class TrashedFiles:
    """For one thread."""

    def __init__(self, backends: Backends, check: ObjectCheck, findings: Findings, *, began: float) -> None:
        self._backends = backends
        self._check = check
        self._findings = findings
        self._began = began

    def work(self) -> Iterator[None]:
        """Read each; yields after each. Raises StorageError if the store fails, DatabaseError, Interrupted."""
        if not self._backends.layout.per_repository:
            return  # the trash is rows there, and the bytes are where they were
        for key, stat in self._backends.driver.list(TRASH):
            try:
                digest = digest_of(key)
            except DigestInvalid:
                continue
            self._read(key, digest, stat.size, stat.etag)
            yield

    def _until(self) -> float:
        return max(self._began, self._backends.clock()) + SKEW

    def _read(self, key: str, digest: Digest, size: int, etag: str) -> None:
        with self._backends.database.autocommit() as connection:
            blob = blobs.find(connection, digest).get()
            since, until = self._began, self._until()
            if blob is not None and scrub.is_read(connection, blob.id, etag=etag, since=since, until=until):
                return  # a name of a repository shares the bytes
        try:
            checked = self._check.check(key, digest, blob.size if blob is not None else size)
        except StorageError as error:
            self._findings.unreadable(key, error)
            return
        if checked.verdict is Verdict.RIGHT:
            self._findings.right(1)
        elif checked.verdict is Verdict.WRONG:
            repository = repository_of(key).removeprefix(f"{TRASH}/")
            blob_id = blob.id if blob is not None else 0
            self._findings.damage(blob_id, digest, key, size, Verdict.WRONG, Outcome.NOT_SERVED, None, only=repository)

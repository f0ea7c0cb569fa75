"""Blobs in each repository beside its ``index.json``: what zot writes, and what earlier layouts of ours were."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from registry.images.storage_view import MAX_INDEX
from registry.migration.original_layout import Entry, Located, ObjectKind, OriginalLayout, OriginalRepository
from registry.migration.problem import Problem, ProblemKind
from registry.oci.errors import ManifestInvalid
from registry.oci.index import FOLDED, Index
from registry.oci.record import Record
from registry.storage.errors import ObjectTooLarge, PathNotFound

if TYPE_CHECKING:
    from registry.migration.snapshot import Snapshot
    from registry.oci.digest import Digest
    from registry.storage.driver import StorageDriver

_BLOB = re.compile(r"(?:(.+)/)?blobs/(sha256/[0-9a-f]{64}|sha512/[0-9a-f]{128})")
_NAMED = re.compile(r"(.+)/(index\.json|oci-layout)")
_RECORD = re.compile(r"(.+)/\.journal/([0-9]{16})\.json")
_UPLOAD = re.compile(r"(.+)/\.(?:uploads|sync)/.+")
_LEFT = re.compile(r"(?:.+/)?_(?:trivy|cosign|notation|sessions)/.+|scheduler-state\.json")
_OURS = "storage"
_MAX_RECORD = 1 << 20


def is_ours(data: bytes) -> bool:
    """Whether an ``index.json`` is one that Stowage wrote. Raises ManifestInvalid where it is none at all."""
    return data == Index.empty().serialise() or (FOLDED.encode() in data and Index.parse(data).has_folded)


class PerRepository(OriginalLayout):
    """``{prefix}{repository}/blobs/{algorithm}/{hex}``, where ``prefix`` may be the root directory once more."""

    kind = "per-repository"
    bytes_kind = ObjectKind.BLOB
    member_kinds = (ObjectKind.BLOB,)
    has_stubs = True
    link_requests = 0

    @staticmethod
    def classify(key: str) -> Entry | None:
        """See OriginalLayout. Every key that is not ours is something here."""
        if key.startswith(f"{_OURS}/migrations/"):
            return None
        if found := _BLOB.fullmatch(key):
            path, digest = found[1] or "", found[2].replace("/", ":")
            if path == _OURS:
                return Entry(ObjectKind.OUR_BLOB, digest=digest)
            return Entry(ObjectKind.BLOB, path, digest) if path else Entry(ObjectKind.UNKNOWN)
        if found := _NAMED.fullmatch(key):
            kind = ObjectKind.INDEX if found[2] == "index.json" else ObjectKind.MARKER
            return Entry(kind, found[1])
        for pattern, kind in ((_RECORD, ObjectKind.OUR_RECORD), (_UPLOAD, ObjectKind.UPLOAD)):
            if found := pattern.fullmatch(key):
                return Entry(kind, found[1])
        return Entry(ObjectKind.LEFT if _LEFT.fullmatch(key) else ObjectKind.UNKNOWN)

    def repositories(self, snapshot: Snapshot) -> list[Located]:
        """See OriginalLayout."""
        found = snapshot.rows(
            "SELECT repository, max(kind = 'blob') FROM object WHERE kind IN ('blob', 'index') GROUP BY repository"
        )
        return [self._locate(path, has_blobs=bool(has_blobs)) for path, has_blobs in found]

    def _locate(self, path: str, *, has_blobs: bool) -> Located:
        for prefix in self.prefixes:
            if path.startswith(f"{prefix}/"):
                return Located(path.removeprefix(f"{prefix}/"), path, prefix, has_blobs)
        return Located(path, path, "", has_blobs)

    def home(self, located: Located, digest: Digest) -> str:
        """See OriginalLayout."""
        return f"{located.path}/blobs/{digest.algorithm}/{digest.encoded}"

    def read(self, located: Located, snapshot: Snapshot, driver: StorageDriver) -> OriginalRepository | None:
        """See OriginalLayout."""
        key = f"{located.path}/index.json"
        repository = OriginalRepository(located.name, located.path, located.prefix, key)

        def report(kind: ProblemKind, at: str, detail: str) -> None:
            repository.problems.append(Problem(kind, located.name, at, "", detail))

        try:
            data, stat = driver.read(key, max_bytes=MAX_INDEX)
            if not located.has_blobs and is_ours(data):
                return None
            index = Index.parse(data)
        except PathNotFound:
            report(ProblemKind.UNREADABLE_INDEX, key, "there are blobs, and no index.json that says what they are")
            return repository
        except (ManifestInvalid, ObjectTooLarge) as error:
            report(ProblemKind.UNREADABLE_INDEX, key, str(error))
            return repository
        repository.index_signature = stat.signature
        if index.has_folded:
            self._apply_records(located, index, snapshot, driver, repository)
        for name, reason in index.left_out():
            kind = ProblemKind.INVALID_TAG if name else ProblemKind.UNREADABLE_INDEX
            report(kind, key, f"{name}: {reason}" if name else reason)
        repository.tags = {tag: descriptor.digest for tag, descriptor in index.tags().items()}
        repository.manifests = dict(index.manifests())
        return repository

    def _apply_records(
        self,
        located: Located,
        index: Index,
        snapshot: Snapshot,
        driver: StorageDriver,
        repository: OriginalRepository,
    ) -> None:
        """Make the changes that an earlier layout of ours had acknowledged and not yet written into its index."""
        records = {}
        keys = snapshot.rows(
            "SELECT key FROM object WHERE repository = ? AND kind = ? AND key > ? ORDER BY key",
            located.path, ObjectKind.OUR_RECORD, f"{located.path}/.journal/{index.folded:016d}.json",
        )  # fmt: skip
        for (key,) in keys:
            try:
                data, _ = driver.read(key, max_bytes=_MAX_RECORD)
                record = Record.parse(data)
            except (PathNotFound, ValueError, ObjectTooLarge) as error:
                detail = f"a record that its index lacks cannot be read: {error}"
                repository.problems.append(Problem(ProblemKind.UNREADABLE_INDEX, located.name, key, "", detail))
                return
            records[record.sequence] = record
        for _, record in sorted(records.items()):
            record.apply(index)

"""Manifest scan: reads and hashes each manifest that repositories name once, and those that it names in turn.

Tests: ``tests/migration/source/test_zot.py``, ``tests/migration/review/test_review.py``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import orjson

from registry.migration.progress import Progress
from registry.migration.report import Problem, ProblemKind
from registry.migration.source.objects import RepositoryPath, UnreadManifest
from registry.oci import media_types
from registry.oci.digest import Digest
from registry.oci.errors import ManifestInvalid
from registry.oci.manifest import parse_manifest
from registry.storage.errors import ObjectTooLarge, PathNotFound

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from registry.migration.progress import OnProgress
    from registry.migration.source.inventory import Inventory
    from registry.migration.source.layout import SourceLayout
    from registry.oci.descriptor import Descriptor
    from registry.oci.manifest import Manifest
    from registry.parallel import WorkerPool
    from registry.storage.driver import StorageDriver

MISSING = "missing"
"""The problem noted for a manifest if no object has its bytes; the checks tell what that means."""


@dataclass(frozen=True, slots=True)
class _Wanted:
    digest: Digest
    media_type: str | None
    size: int | None
    keys: tuple[str, ...]
    """The keys where it may be, best first."""
    repository: str
    is_listed: bool
    """Whether the listing has an object with its bytes, as far as the key tells."""


@dataclass(slots=True)
class _Found:
    digest: Digest
    manifest: Manifest | None = None
    size: int = 0
    problem: str = ""
    body: bytes = b""
    modified: float = 0.0
    """When the object with the bytes was written (seconds since the epoch)."""
    at: tuple[str, str] | None = None
    """Key and etag of the object that has its bytes; None if it was not read now."""
    bad: list[str] = field(default_factory=list)
    """Keys of objects with wrong bytes."""
    problems: list[Problem] = field(default_factory=list)


class ManifestScan:
    """Fills the manifests of an inventory, with what they reference."""

    def __init__(
        self,
        inventory: Inventory,
        driver: StorageDriver,
        layout: SourceLayout,
        workers: WorkerPool,
        known: Callable[[str], bytes | None],
        *,
        max_bytes: int,
    ) -> None:
        """``max_bytes`` is the size of the largest manifest that will be served. ``known``: see Known.manifest."""
        self._inventory = inventory
        self._driver = driver
        self._layout = layout
        self._workers = workers
        self._known = known
        self._max_bytes = max_bytes

    def run(self, on_progress: OnProgress) -> list[Problem]:
        """Read all that are named; returns what is wrong with them. Raises StorageError."""
        problems: list[Problem] = []
        done = 0
        while waiting := self._inventory.unread_manifests():
            for found in self._workers.each(partial(self._read), map(self._locate, waiting)):
                self._note(found)
                problems += found.problems
                done += 1
                on_progress(Progress("manifests", done, done + len(waiting)))
            self._inventory.add_children(self._layout.member_kinds, self._layout.bytes_kind)
        return problems

    def _locate(self, unread: UnreadManifest) -> _Wanted:
        digest, media_type, size, name = unread
        found = self._inventory.with_bytes(digest, self._layout.bytes_kind)
        keys = [key for key, _ in sorted(found, key=lambda listed: listed[1] != size)]
        located = RepositoryPath(name, self._inventory.path_of(name), "")
        home = self._layout.home(located, digest)  # it may have come since the listing
        return _Wanted(digest, media_type, size, tuple(keys or [home]), name, is_listed=bool(keys))

    def _read(self, wanted: _Wanted) -> _Found:
        found = _Found(wanted.digest, problem=MISSING)
        known = self._known(wanted.digest) if wanted.is_listed else None
        if known is not None and Digest.of(known, wanted.digest.algorithm) == wanted.digest:
            self._understand(found, wanted, wanted.keys[0], known)
            return found
        for key in wanted.keys:
            try:
                body, stat = self._driver.read(key, max_bytes=self._max_bytes)
            except PathNotFound:
                continue
            except ObjectTooLarge as error:
                self._refuse(found, wanted, ProblemKind.UNREADABLE_MANIFEST, key, error.reason)
                return found
            if Digest.of(body, wanted.digest.algorithm) == wanted.digest:
                found.at, found.body, found.modified = (key, stat.etag), body, stat.modified
                self._understand(found, wanted, key, body)
                return found
            found.bad.append(key)
            if wanted.size in {None, len(body)}:  # another length is found by the sizes
                detail = "the bytes of the manifest are not those of its digest"
                found.problems.append(Problem(ProblemKind.WRONG_DIGEST, wanted.repository, key, wanted.digest, detail))
                found.problem = ProblemKind.WRONG_DIGEST
        return found

    def _understand(self, found: _Found, wanted: _Wanted, key: str, body: bytes) -> None:
        found.problem, found.size = "", len(body)
        try:
            found.manifest = parse_manifest(body, wanted.media_type)
        except ManifestInvalid as error:
            self._refuse(found, wanted, _kind_of(body, wanted.media_type), key, error.message)

    def _refuse(self, found: _Found, wanted: _Wanted, kind: ProblemKind, key: str, detail: str) -> None:
        found.problem = kind
        found.problems.append(Problem(kind, wanted.repository, key, wanted.digest, detail))

    def _note(self, found: _Found) -> None:
        self._inventory.add_bad(*found.bad)
        if found.at is not None:
            self._inventory.add_body(*found.at, found.digest, found.body, found.modified)
        if found.manifest is None:
            self._inventory.add_manifest(found.digest, "", None, found.problem, ())
        else:
            references = _references(found.manifest)
            self._inventory.add_manifest(found.digest, found.manifest.media_type, found.size, found.problem, references)


def _references(manifest: Manifest) -> Iterator[tuple[str, Descriptor]]:
    """What a manifest names, by kind: ``child``, ``blob``, or ``optional`` for a blob that need not be there (I13)."""
    needed = manifest.needed_blobs()
    required = {blob.digest for blob in needed}
    yield from (("child", child) for child in manifest.children())
    yield from (("blob", blob) for blob in needed)
    yield from (("optional", blob) for blob in manifest.named_blobs() if blob.digest not in required)


def _kind_of(body: bytes, media_type: str | None) -> ProblemKind:
    """Whether a manifest has a type that is not served, or is no manifest at all."""
    try:
        document = orjson.loads(body)
    except ValueError:
        return ProblemKind.UNREADABLE_MANIFEST
    if not isinstance(document, dict):
        return ProblemKind.UNREADABLE_MANIFEST
    declared = media_type or document.get("mediaType")
    is_known = declared is None or declared in media_types.MANIFESTS
    is_first = document.get("schemaVersion") == 1
    return ProblemKind.UNREADABLE_MANIFEST if is_known and not is_first else ProblemKind.UNSUPPORTED_MANIFEST

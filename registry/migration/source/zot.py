"""Zot's layout: blobs in each repository beside its ``index.json``, as in earlier layouts of ours."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from registry.images.index_file import MAX_INDEX
from registry.migration.report import Problem, ProblemKind
from registry.migration.rollback.steps import Write
from registry.migration.source.layout import SourceLayout
from registry.migration.source.objects import KeyInfo, ObjectKind, RepositoryPath, SourceRepository
from registry.oci.descriptor import Descriptor
from registry.oci.errors import ManifestInvalid
from registry.oci.index import LAYOUT_FILE, Index, Owner
from registry.oci.record import Record
from registry.storage.errors import ObjectTooLarge, PathNotFound

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from registry.migration.rollback.steps import SourceIndex, Step, TargetContent
    from registry.migration.source.inventory import Inventory
    from registry.oci.digest import Digest
    from registry.storage.driver import StorageDriver

_BLOB = re.compile(r"(?:(.+)/)?blobs/(sha256/[0-9a-f]{64}|sha512/[0-9a-f]{128})")
_NAMED = re.compile(r"(.+)/(index\.json|oci-layout)")
_RECORD = re.compile(r"(.+)/\.journal/([0-9]{16})\.json")
_UPLOAD = re.compile(r"(.+)/\.(?:uploads|sync)/.+")
_LEFT = re.compile(r"(?:.+/)?_(?:trivy|cosign|notation|sessions)/.+|(?:.+/)?_restore_complete|scheduler-state\.json")
OURS = "storage"
"""The directory of Stowage's blobs and migrations."""
_MAX_RECORD = 1 << 20
_NEW_INDEX = b'{"schemaVersion":2,"manifests":[]}'
"""The index that zot writes for a new repository."""


def left_out(repository: str, key: str, index: Index) -> list[Problem]:
    """A problem for each entry of an index that cannot be read; such entries stay in it."""
    return [
        Problem(
            ProblemKind.INVALID_TAG if name else ProblemKind.UNREADABLE_INDEX,
            repository,
            key,
            "",
            f"{name}: {reason}" if name else reason,
        )
        for name, reason in index.left_out()
    ]


class ZotLayout(SourceLayout):
    """``{prefix}{repository}/blobs/{algorithm}/{hex}``, where ``prefix`` may be the root directory once more."""

    kind = "per-repository"
    bytes_kind = ObjectKind.BLOB
    member_kinds = (ObjectKind.BLOB,)
    has_stubs = True
    keeps_media_types = True
    link_requests = 0

    @staticmethod
    def classify(key: str) -> KeyInfo | None:
        """See SourceLayout. Every key that is not ours is something here."""
        if key.startswith(f"{OURS}/migrations/"):
            return None
        if found := _BLOB.fullmatch(key):
            path, digest = found[1] or "", found[2].replace("/", ":")
            if path == OURS:
                return KeyInfo(ObjectKind.OUR_BLOB, digest=digest)
            return KeyInfo(ObjectKind.BLOB, path, digest) if path else KeyInfo(ObjectKind.UNKNOWN)
        if found := _NAMED.fullmatch(key):
            kind = ObjectKind.INDEX if found[2] == "index.json" else ObjectKind.MARKER
            return KeyInfo(kind, found[1])
        for pattern, kind in ((_RECORD, ObjectKind.OUR_RECORD), (_UPLOAD, ObjectKind.UPLOAD)):
            if found := pattern.fullmatch(key):
                return KeyInfo(kind, found[1])
        return KeyInfo(ObjectKind.LEFT if _LEFT.fullmatch(key) else ObjectKind.UNKNOWN)

    def repositories(self, inventory: Inventory) -> list[RepositoryPath]:
        """See SourceLayout."""
        have_blobs = set(inventory.paths(ObjectKind.BLOB))
        paths = inventory.paths(ObjectKind.BLOB, ObjectKind.INDEX)
        return [self._locate(path, has_blobs=path in have_blobs) for path in paths]

    def _locate(self, path: str, *, has_blobs: bool) -> RepositoryPath:
        for prefix in self.prefixes:
            if path.startswith(f"{prefix}/"):
                return RepositoryPath(path.removeprefix(f"{prefix}/"), path, prefix, has_blobs)
        return RepositoryPath(path, path, "", has_blobs)

    def home(self, located: RepositoryPath, digest: Digest) -> str:
        """See SourceLayout."""
        return f"{located.path}/blobs/{digest.algorithm}/{digest.encoded}"

    def read(self, located: RepositoryPath, inventory: Inventory, driver: StorageDriver) -> SourceRepository | None:
        """See SourceLayout."""
        key = f"{located.path}/index.json"
        repository = SourceRepository(located.name, located.path, located.prefix, key)

        def report(kind: ProblemKind, at: str, detail: str) -> None:
            repository.problems.append(Problem(kind, located.name, at, "", detail))

        try:
            data, stat = driver.read(key, max_bytes=MAX_INDEX)
            index = Index.parse(data)
            if not located.has_blobs and index.owner is not Owner.FOREIGN:
                return None
        except PathNotFound:
            report(ProblemKind.UNREADABLE_INDEX, key, "there are blobs, and no index.json that says what they are")
            return repository
        except (ManifestInvalid, ObjectTooLarge) as error:
            report(ProblemKind.UNREADABLE_INDEX, key, str(error))
            return repository
        repository.index_etag = stat.etag
        if index.owner is Owner.OURS:
            self._apply_records(located, index, inventory, driver, repository)
        repository.problems += left_out(located.name, key, index)
        repository.tags = {tag: descriptor.digest for tag, descriptor in index.tags().items()}
        repository.manifests = dict(index.manifests())
        return repository

    def steps(self, wanted: TargetContent, inventory: Inventory) -> Iterator[Step]:
        """See SourceLayout. Blobs are copied whole, because no key tells which stubs the source registry resolves."""
        lost = {loss.digest for loss in self.losses(wanted, inventory)}
        yield from self._copies(wanted, lost, inventory)
        document = wanted.document
        if document is None:
            return
        marker = f"{wanted.located.path}/oci-layout"
        if inventory.find(marker) is None:
            yield Write(marker, LAYOUT_FILE, "")
        data = _changed(document, wanted, lost)
        if data != document.present:
            yield Write(document.key, data, document.etag)

    def removable_keys(self, located: RepositoryPath, inventory: Inventory) -> Iterator[str]:
        """See SourceLayout. None without a prefix: our index and marker have these keys."""
        return inventory.keys_in(located.path, ObjectKind.INDEX, ObjectKind.MARKER) if located.prefix else iter(())

    def has_manifest(self, located: RepositoryPath, digest: Digest, inventory: Inventory) -> bool:
        """See SourceLayout."""
        return inventory.find(self.home(located, digest)) is not None

    def has_bytes(
        self, located: RepositoryPath, digest: Digest, size: int, inventory: Inventory, lost: Collection[str]
    ) -> bool:
        """See SourceLayout. A stub has the bytes of any other object with its digest."""
        home = self.home(located, digest)
        found = inventory.find(home)
        if found is None or found.kind != ObjectKind.BLOB:
            return False
        if found.size == size and home not in lost:
            return True
        if found.size:
            return False
        others = inventory.with_bytes(digest, ObjectKind.BLOB)
        return any(length == size and key not in lost for key, length in others)

    def _apply_records(
        self,
        located: RepositoryPath,
        index: Index,
        inventory: Inventory,
        driver: StorageDriver,
        repository: SourceRepository,
    ) -> None:
        """Make the changes that an earlier layout of ours had acknowledged and not yet written into its index."""
        records = {}
        folded = f"{located.path}/.journal/{index.folded:016d}.json"
        for key in inventory.keys_in(located.path, ObjectKind.OUR_RECORD):
            if key <= folded:
                continue
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


def _changed(document: SourceIndex, wanted: TargetContent, lost: Collection[Digest]) -> bytes:
    """The index of the source registry with what is wanted in it; the same bytes if it says that already."""
    index = Index.parse(document.data or _NEW_INDEX)
    before = index.serialise()
    _remove(index, wanted)
    _add(index, wanted, lost)
    if index.serialise() == before:
        return document.data or _NEW_INDEX
    if index.owner is Owner.OURS:
        index.folded = max(index.folded, document.sequence)
    return index.serialise()


def _remove(index: Index, wanted: TargetContent) -> None:
    for tag in wanted.gone_tags:
        index.remove_tag(tag)
    for digest in wanted.gone_manifests:
        index.remove_manifest(digest)


def _add(index: Index, wanted: TargetContent, lost: Collection[Digest]) -> None:
    implied = _below(index.manifests(), wanted)
    for digest, manifest in wanted.manifests.items():
        if digest not in implied and digest not in lost:
            index.add_manifest(Descriptor(manifest.media_type, digest, manifest.size))
    tags = index.tags()
    for tag, digest in sorted(wanted.tags.items()):
        manifest = wanted.manifests[digest]
        if digest not in lost and (tag not in tags or tags[tag].digest != digest):
            index.set_tag(tag, Descriptor(manifest.media_type, digest, manifest.size))


def _below(manifests: Collection[Digest], wanted: TargetContent) -> set[Digest]:
    """The manifests that an index.json need not list because another one in it does; other tools omit children."""
    found: set[Digest] = set()
    waiting = [digest for digest in manifests if digest in wanted.manifests]
    while waiting:
        for child in wanted.manifests[waiting.pop()].children:
            if child not in found and child in wanted.manifests:
                found.add(child)
                waiting.append(child)
    return found

"""Baselines: what an earlier pass read of the source registry, its repositories and the bytes of manifests.

Tests: ``tests/migration/adopt/test_quiet.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry.database import manifest_bodies, manifests, repositories
from registry.images.index_file import MAX_INDEX, owner_of
from registry.images.migration_journal.documents import ManifestInfo
from registry.migration.adopt.merge import Content
from registry.migration.source.objects import ObjectKind, RepositoryPath, SourceRepository
from registry.migration.source.zot import left_out
from registry.oci.descriptor import Descriptor
from registry.oci.errors import ManifestInvalid
from registry.oci.index import Index, Owner
from registry.storage.errors import ObjectTooLarge, PathNotFound

if TYPE_CHECKING:
    from collections.abc import Container

    from registry.images.migration_journal.documents import Baseline
    from registry.images.registry import Registry
    from registry.migration.journal import MigrationJournal
    from registry.migration.source.inventory import Inventory
    from registry.migration.source.layout import SourceLayout
    from registry.oci.digest import Digest


class Baselines:
    """A Known (registry.migration.source.repositories) from the journal and the database. Any thread."""

    def __init__(
        self, registry: Registry, journal: MigrationJournal, layout: SourceLayout, suspicious: Container[str]
    ) -> None:
        """``suspicious`` are the repositories in which the last pass found a problem; they are read again."""
        self._registry = registry
        self._journal = journal
        self._layout = layout
        self._suspicious = suspicious
        self._ids = journal.locations.ids()

    def current(self, name: str) -> Baseline | None:
        """The baseline of a repository in this migration; None if it was not adopted yet."""
        return self._journal.locations.base_in(self._journal.id, name)

    def of(self, name: str) -> Baseline | None:
        """The newest baseline of a repository in any migration."""
        return self.current(name) or self.earlier(name)

    def earlier(self, name: str) -> Baseline | None:
        """The newest baseline of a repository in the migrations before this one, which were rolled back."""
        for migration in reversed([known for known in self._ids if int(known) < int(self._journal.id)]):
            found = self._journal.locations.base_in(migration, name)
            if found is not None:
                return found
        return None

    def names(self) -> set[str]:
        """The names of the repositories that were adopted, in this migration or before it."""
        return {name for migration in self._ids for name in self._journal.locations.bases(migration)}

    def located(self, base: Baseline) -> RepositoryPath:
        """Where the repository of a baseline was."""
        has_prefix = self._layout.bytes_kind is ObjectKind.BLOB and base.prefix
        return RepositoryPath(base.name, f"{base.prefix}/{base.name}" if has_prefix else base.name, base.prefix)

    def repository(self, located: RepositoryPath, inventory: Inventory) -> SourceRepository | None:
        """See Known: what its baseline says, if the listing shows no change since."""
        base = self.of(located.name)
        if base is None or base.prefix != located.prefix:
            return None
        if base.overwritten and self._layout.overwrites_index(located):
            shared = self.from_shared_index(located, base, inventory)
            if shared is not None:
                return shared
        if located.name in self._suspicious:
            return None
        if base.index is not None:
            listed = inventory.find(base.index.key)
            if listed is None or listed.etag != base.index.etag:
                return None
        if inventory.fingerprint(located.path) != base.fingerprint:
            return None
        return _said(located, base)

    def manifest(self, digest: str) -> bytes | None:
        """See Known: from the database."""
        with self._registry.backends.database.autocommit() as connection:
            return manifest_bodies.find(connection, digest).get()

    def from_shared_index(
        self, located: RepositoryPath, base: Baseline, inventory: Inventory
    ) -> SourceRepository | None:
        """What the source registry says if its index and ours are one object; None if that object is not ours.

        This is what the baseline says, and entries that Stowage does not know: those that could not be adopted, and
        those that the source registry has added since, whose bytes are among its own objects.
        """
        index = self._index(located)
        if index is None:
            return None
        repository = _said(located, base)
        with self._registry.backends.database.snapshot() as connection:
            row = repositories.find(connection, located.name).get()
            known = manifests.of_repository(connection, row.id).get() if row else {}
        key = f"{located.path}/index.json"
        strange = {
            digest: descriptor
            for digest, descriptor in index.manifests().items()
            if digest not in known and digest not in base.manifests
        }
        saved = self._saved(located.name).manifests() if strange else {}
        for digest, descriptor in strange.items():
            home = self._layout.home(located, digest)
            if digest in saved or inventory.find(home) is not None:
                repository.manifests[digest] = descriptor
        new = repository.manifests.keys() - base.manifests.keys()
        repository.tags |= {tag: named.digest for tag, named in index.tags().items() if named.digest in new}
        repository.problems = left_out(located.name, key, index)
        return repository

    def _saved(self, name: str) -> Index:
        """The index of the source registry as it was when ours took its key."""
        saved = self._journal.saved_index(name)
        return Index.empty() if saved is None else Index.parse(saved)

    def _index(self, located: RepositoryPath) -> Index | None:
        """The index at the shared key if it is ours, an empty one if it is gone; None if it is not ours."""
        try:
            data, _ = self._registry.backends.driver.read(f"{located.path}/index.json", max_bytes=MAX_INDEX)
            index = Index.parse(data)
        except PathNotFound:
            return Index.empty()
        except (ManifestInvalid, ObjectTooLarge):
            return None
        if index.migration == self._journal.id or (
            index.owner is not Owner.FOREIGN and self._is_made_anew(located.name)
        ):
            return index
        return None

    def _is_made_anew(self, name: str) -> bool:
        """Whether an index of ours without the annotation replaces one that was lost, with nothing of the source.

        Otherwise it is one of an earlier layout of ours, which is the source registry here.
        """
        saved = self._journal.saved_index(name)
        return saved is not None and owner_of(saved) is Owner.FOREIGN


def _said(located: RepositoryPath, base: Baseline) -> SourceRepository:
    """What a baseline says, as a layout reads it."""
    key, etag = base.index or ("", "")
    manifests: dict[Digest, Descriptor | None] = {
        digest: Descriptor(named.media_type, digest, named.size) for digest, named in base.manifests.items()
    }
    return SourceRepository(located.name, located.path, located.prefix, key, etag, dict(base.tags), manifests)


def source_content(inventory: Inventory, name: str, base: Content) -> Content:
    """What the source registry says of a repository; ``base`` is what it said before.

    What cannot be served now stays as it was before.
    """
    tags = {
        tag.name: tag.digest if tag.is_readable else base.tags[tag.name]
        for tag in inventory.tags(name)
        if tag.is_readable or tag.name in base.tags
    }
    manifests = {}
    for digest, media_type, size in inventory.members(name):
        if media_type is not None and size is not None:
            manifests[digest] = ManifestInfo(media_type, size)
        elif digest in base.manifests:
            manifests[digest] = base.manifests[digest]
    return Content(tags, manifests)


def content_of(base: Baseline | None) -> Content:
    """What a baseline says; nothing if there is none."""
    return Content() if base is None else Content(base.tags, base.manifests)

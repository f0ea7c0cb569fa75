"""What was read of the original by an earlier pass: the bases of its repositories, and the bytes of manifests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry.database import manifest_bodies
from registry.database import manifests as manifest_rows
from registry.database import repositories as repository_rows
from registry.images.index_file import MAX_INDEX
from registry.migration.review.fingerprint import repository_fingerprint
from registry.migration.source.layout import ObjectKind, RepositoryPath, SourceRepository
from registry.migration.source.zot import is_ours, left_out
from registry.oci.descriptor import Descriptor
from registry.oci.errors import ManifestInvalid
from registry.oci.index import Index
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
        """``suspicious``: repositories of which the last pass found something wrong; they are read again."""
        self._registry = registry
        self._journal = journal
        self._layout = layout
        self._suspicious = suspicious
        self._ids = journal.locations.ids()

    def current(self, name: str) -> Baseline | None:
        """The base of a repository in this migration."""
        return self._journal.locations.base_in(self._journal.id, name)

    def earlier(self, name: str) -> Baseline | None:
        """Its newest base in a migration before this one, which a rollback has given back."""
        for migration in reversed([known for known in self._ids if int(known) < int(self._journal.id)]):
            found = self._journal.locations.base_in(migration, name)
            if found is not None:
                return found
        return None

    def names(self) -> set[str]:
        """Of the repositories that were taken, in this migration or before it."""
        return {name for migration in self._ids for name in self._journal.locations.bases(migration)}

    def located(self, base: Baseline) -> RepositoryPath:
        """Where the repository of a base was."""
        has_prefix = self._layout.bytes_kind is ObjectKind.BLOB and base.prefix
        return RepositoryPath(base.name, f"{base.prefix}/{base.name}" if has_prefix else base.name, base.prefix)

    def repository(self, located: RepositoryPath, inventory: Inventory) -> SourceRepository | None:
        """See Known: what its base says, where the listing has nothing else of it."""
        base = self.current(located.name) or self.earlier(located.name)
        if base is None or base.prefix != located.prefix:
            return None
        if base.overwritten and self._layout.overwrites_index(located):
            shared = self.shared(located, base, inventory)
            if shared is not None:
                return shared
        if located.name in self._suspicious:
            return None
        if base.index is not None:
            listed = inventory.value("SELECT signature FROM object WHERE key = ?", base.index.key)
            if listed != base.index.signature:
                return None
        if repository_fingerprint(inventory, located.path) != base.fingerprint:
            return None
        return _said(located, base)

    def manifest(self, digest: str) -> bytes | None:
        """See Known: as the database keeps it."""
        with self._registry.backends.database.autocommit() as connection:
            return manifest_bodies.find(connection, digest).get()

    def shared(self, located: RepositoryPath, base: Baseline, inventory: Inventory) -> SourceRepository | None:
        """What the original says where its index and ours are one object, as long as that is ours.

        What the base says, and beyond it entries of which Stowage knows nothing: those that could not be taken, and
        those that the original has put there since, whose bytes are the original's.
        """
        index = self._index(located)
        if index is None:
            return None
        repository = _said(located, base)
        with self._registry.backends.database.snapshot() as connection:
            row = repository_rows.find(connection, located.name).get()
            known = manifest_rows.of_repository(connection, row.id).get() if row else {}
        key = f"{located.path}/index.json"
        strange = {
            digest: descriptor
            for digest, descriptor in index.manifests().items()
            if digest not in known and digest not in base.manifests
        }
        original = self._saved(located.name).manifests() if strange else {}
        for digest, descriptor in strange.items():
            home = self._layout.home(located, digest)
            if digest in original or inventory.value("SELECT 1 FROM object WHERE key = ?", home):
                repository.manifests[digest] = descriptor
        new = repository.manifests.keys() - base.manifests.keys()
        repository.tags |= {tag: named.digest for tag, named in index.tags().items() if named.digest in new}
        repository.problems = left_out(located.name, key, index)
        return repository

    def _saved(self, name: str) -> Index:
        """The index of the original as it was when ours took its key."""
        saved = self._journal.saved_index(name)
        return Index.empty() if saved is None else Index.parse(saved)

    def _index(self, located: RepositoryPath) -> Index | None:
        """The index at the key that both have, where it is ours; empty where it is gone: None where it is not ours."""
        try:
            data, _ = self._registry.backends.driver.read(f"{located.path}/index.json", max_bytes=MAX_INDEX)
            index = Index.parse(data)
        except PathNotFound:
            return Index.empty()
        except (ManifestInvalid, ObjectTooLarge):
            return None
        if index.migration == self._journal.id or (is_ours(data) and self._is_made_anew(located.name)):
            return index
        return None

    def _is_made_anew(self, name: str) -> bool:
        """Whether an index of ours without the annotation replaces one that somebody lost: nothing of the original.

        Else it is of an earlier layout of ours, which is the original here.
        """
        saved = self._journal.saved_index(name)
        return saved is not None and not is_ours(saved)


def _said(located: RepositoryPath, base: Baseline) -> SourceRepository:
    """What a base says, as a layout reads it."""
    key, signature = base.index or ("", "")
    manifests: dict[Digest, Descriptor | None] = {
        digest: Descriptor(named.media_type, digest, named.size) for digest, named in base.manifests.items()
    }
    return SourceRepository(located.name, located.path, located.prefix, key, signature, dict(base.tags), manifests)

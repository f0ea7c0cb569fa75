"""Repository reader: what storage says of a repository, and the manifests that the database lacks.

Tests: ``tests/images/records/test_reconciliation.py``.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from registry.database import blob_locations, manifest_bodies
from registry.images.backends import MAX_MANIFEST
from registry.images.blob_locations import Location
from registry.images.manifest_store import slim
from registry.images.migration_journal.reader import MigrationJournalReader
from registry.images.omissions import Kind, Omission, shown
from registry.images.records.journal import Journal
from registry.oci.digest import Digest
from registry.oci.errors import ManifestInvalid
from registry.oci.index import Index, Owner
from registry.oci.manifest import parse_manifest
from registry.oci.media_types import INDEXES
from registry.oci.record import Record
from registry.oci.withheld import NOTHING, Lacks, Withheld
from registry.parallel import AT_ONCE, map_parallel
from registry.storage.errors import ObjectTooLarge, PathNotFound, PathRefused

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from registry.database.blob_locations import LocationRow
    from registry.database.manifests import ManifestRow
    from registry.images.backends import Backends
    from registry.oci.descriptor import Descriptor
    from registry.oci.manifest import Manifest
    from registry.storage.driver import Capabilities


BATCH_BYTES = 4 << 20
"""Bytes of manifests that are read side by side, but for a single one that is larger."""


class LoadedManifest(NamedTuple):
    """A manifest that was read and verified."""

    manifest: Manifest
    size: int
    """Bytes."""
    location: Location | None
    """The location that was hashed; None if it was the copy in the database."""
    etag: str = ""
    """The etag of the object that was hashed."""
    modified: float | None = None
    """When that was written (seconds since the epoch); None if no object was looked at."""


class _Known(NamedTuple):
    """What the database knows of a manifest that is to be read."""

    descriptor: Descriptor
    body: bytes | None
    """As it keeps it, not compared with its digest yet."""
    locations: list[Location]
    """Where the bytes may be, the best first."""
    is_timed: bool
    """Whether index or records say when it was pushed."""


@dataclass(slots=True)
class StoredRepository:
    """What storage says of a repository at one moment."""

    index: Index
    """As it is on storage, until the records are applied."""
    etag: str
    folded: int
    """The last record that the writer of ``index.json`` had seen."""
    records: dict[int, bytes]
    """Those after ``folded``."""
    modified: float = 0.0
    """When the index was written (seconds since the epoch)."""
    noted: bytes | None = None
    """The index of ours with what its records say and it did not; None if it said all."""
    withheld: Withheld = NOTHING
    """What the repository does not have, once the records are applied."""
    manifests: dict[Digest, LoadedManifest] = field(default_factory=dict)
    """Those that the database does not know."""
    missing: int = 0
    """How many are named, and not there, or not as they should be."""
    damaged: int = 0
    """How many of these are no children of an index that was put without them."""
    omissions: list[Omission] = field(default_factory=list)
    """What of it is not served."""
    is_nothing: bool = False
    """The index on storage is another registry's, and nothing of ours is beside it."""

    def missed(self, capabilities: Capabilities) -> int:
        """How many are missing that may come, or hide what they name.

        Where no other tool writes, a child that is not there was never there.
        """
        return self.missing if capabilities.external_writers else self.damaged

    def miss(self, omission: Omission | None, *, is_child: bool) -> None:
        """Note that a manifest is not there, or why it is left out."""
        self.missing += 1
        self.damaged += omission is not None or not is_child
        if omission is not None:
            self.omissions.append(omission)

    def name_unreadable(self) -> None:
        """Note which tags point at manifests that could not be read, by the index and the records after it."""
        unreadable: dict[str, list[str]] = {
            omission.what: [] for omission in self.omissions if omission.kind is Kind.UNREADABLE
        }
        if not unreadable:
            return
        tags = {tag: descriptor.digest for tag, descriptor in self.index.tags().items()}
        for line in self.records.values():
            record = Record.parse(line)
            if record.descriptor is not None:
                tags |= dict.fromkeys(record.tags, record.descriptor.digest)
        for tag, digest in tags.items():
            if digest in unreadable:
                unreadable[digest].append(tag)
        self.omissions = [
            one._replace(tags=tuple(unreadable[one.what])) if one.kind is Kind.UNREADABLE else one
            for one in self.omissions
        ]

    def withheld_with(self, more: Iterable[Record]) -> Withheld:
        """What the repository does not have, once the records are applied and ``more`` of them, which are not there."""
        records = {record.sequence: record for record in (*more, *map(Record.parse, self.records.values()))}
        lacks = Lacks(self.index.withheld)
        for sequence in sorted(records):
            lacks.change(records[sequence].withheld, records[sequence].released)
        return lacks.withheld

    @property
    def last(self) -> int:
        """The highest sequence number that storage knows."""
        return max(self.records, default=self.folded)


class RepositoryReader:
    """Any thread."""

    def __init__(self, backends: Backends) -> None:
        self._backends = backends
        self._journal = Journal(backends)
        self._locations = MigrationJournalReader(backends.driver)

    def read(self, name: str) -> StoredRepository | None:
        """The repository without its manifests; None if there is no index. Raises StorageError, ManifestInvalid."""
        try:
            data, stat = self._backends.index_file.read(name)
        except PathNotFound:
            return None
        index = Index.parse(data)
        is_nothing, is_there = False, self._backends.layout.per_repository or index.owner is not Owner.FOREIGN
        if not is_there:
            # Another registry's, not taken yet, or given back by a rollback, which kept ours.
            ours = self._locations.ours(name)
            index, is_nothing = (Index.parse(ours), False) if ours is not None else (Index.empty(), True)
        is_completed = self._journal.note(name, index)
        records = self._journal.after(name, index.folded)
        view = StoredRepository(
            index, stat.etag, index.folded, records, stat.modified, is_nothing=is_nothing and not records
        )
        view.noted = index.serialise() if is_completed and is_there else None
        view.withheld = view.withheld_with(())
        return view

    def load_manifests(
        self, name: str, known: Mapping[str, ManifestRow], view: StoredRepository, *, below: bool
    ) -> None:
        """Have in ``view`` all of ``each_manifest``."""
        view.manifests.update(self.each_manifest(name, known, view, below=below))

    def each_manifest(
        self, name: str, known: Mapping[str, ManifestRow], view: StoredRepository, *, below: bool
    ) -> Iterator[tuple[Digest, LoadedManifest]]:
        """Read, hash and parse every manifest that the database does not know, and the children of indexes.

        They are read as they are asked for: a repository may have more than there is memory for. ``below``: also the
        children of indexes that the database knows.
        """
        named = view.index.manifests()
        timed = {digest for digest in named if view.index.pushed(digest) is not None}
        for line in view.records.values():
            record = Record.parse(line)
            if record.descriptor is not None:
                named[record.descriptor.digest] = record.descriptor
                timed.add(record.descriptor.digest)
            elif record.digest is not None:
                named.pop(record.digest, None)
        # Where each repository has its own blobs, what lies there is its own, whatever a manifest once lacked.
        withheld = frozenset() if self._backends.layout.per_repository else view.withheld.manifests
        settled = {digest for digest, row in known.items() if not (below and row.media_type in INDEXES)}
        waiting = {digest: descriptor for digest, descriptor in named.items() if digest not in settled}
        view.omissions += _left_out(name, view.index)
        seen: set[Digest] = set()
        while waiting:
            seen.update(waiting)
            level, waiting = list(waiting.values()), {}
            for descriptor, loaded in self._load_all(name, level, timed):
                if not isinstance(loaded, LoadedManifest):
                    view.miss(loaded, is_child=descriptor.digest not in named)
                    continue
                if descriptor.digest not in known:
                    yield descriptor.digest, loaded
                for child in loaded.manifest.children():
                    if child.digest not in seen and child.digest not in settled and child.digest not in withheld:
                        waiting[child.digest] = child
        view.name_unreadable()

    def _load_all(
        self, name: str, descriptors: Sequence[Descriptor], timed: set[Digest]
    ) -> Iterator[tuple[Descriptor, LoadedManifest | Omission | None]]:
        """Several at once: the database is asked for them together, and storage side by side.

        ``timed`` are those of which index or records say when they were pushed.
        """
        for several in _batches(descriptors):
            known = self._look(name, several, timed)
            found = map_parallel(self._backends.driver.capabilities, partial(self._load, name), known)
            yield from zip(several, found, strict=True)

    def _load(self, name: str, known: _Known) -> LoadedManifest | Omission | None:
        """From the database or the first location that has it; else why it is left out, None if it is absent."""
        descriptor, body, omission = known.descriptor, known.body, None
        if body is not None:
            with contextlib.suppress(ManifestInvalid):
                manifest = _verified_manifest(body, descriptor)
                return LoadedManifest(manifest, len(body), None, modified=self._modified(known))
        for location in known.locations:
            try:
                body, stat = self._backends.driver.read(
                    location.key, max_bytes=max(self._backends.policy.manifest_bytes, MAX_MANIFEST)
                )
                manifest = _verified_manifest(body, descriptor)
                return LoadedManifest(manifest, len(body), location, stat.etag, stat.modified)
            except PathNotFound:
                continue  # sparse content, or named by a tool that has not written it yet
            except PathRefused as error:
                omission = Omission(Kind.UNREADABLE, name, descriptor.digest, error.reason)
            except (ManifestInvalid, ObjectTooLarge) as error:
                omission = Omission(Kind.MANIFEST, name, descriptor.digest, str(error))
        return omission

    def _modified(self, known: _Known) -> float | None:
        """When the object was written of a manifest whose bytes the database has; None where it is not needed."""
        for location in known.locations if not known.is_timed else ():
            with contextlib.suppress(PathNotFound, PathRefused):
                return self._backends.driver.stat(location.key).modified
        return None

    def _look(self, name: str, descriptors: Sequence[Descriptor], timed: set[Digest]) -> list[_Known]:
        """What the database keeps of manifests, and where their bytes may be."""
        layout, store = self._backends.layout, self._backends.driver.name
        own = [Location(layout.blob(name, descriptor.digest)) for descriptor in descriptors]
        if layout.per_repository:
            places = zip(descriptors, own, strict=True)
            return [_Known(descriptor, None, [location], descriptor.digest in timed) for descriptor, location in places]
        with self._backends.database.autocommit() as connection:
            bodies = [manifest_bodies.find(connection, descriptor.digest) for descriptor in descriptors]
            rows = [blob_locations.of_digest(connection, descriptor.digest, store=store) for descriptor in descriptors]
            return [
                _Known(descriptor, body.get(), _noted_and_own(noted.get(), location), descriptor.digest in timed)
                for descriptor, body, noted, location in zip(descriptors, bodies, rows, own, strict=True)
            ]


def _batches(descriptors: Sequence[Descriptor]) -> Iterator[list[Descriptor]]:
    """At most AT_ONCE at a time, and BATCH_BYTES."""
    several: list[Descriptor] = []
    room = BATCH_BYTES
    for descriptor in descriptors:
        room -= descriptor.size
        if several and (room < 0 or len(several) == AT_ONCE):
            yield several
            several, room = [], BATCH_BYTES - descriptor.size
        several.append(descriptor)
    if several:
        yield several


def _left_out(name: str, index: Index) -> Iterator[Omission]:
    for entry, reason in index.left_out():
        yield Omission(Kind.ENTRY, name, shown(entry) if entry else "", reason)


def _noted_and_own(rows: list[LocationRow], own: Location) -> list[Location]:
    """Those that are noted, and our own location where it is none of these."""
    noted = [Location.of(row) for row in rows]
    return noted if any(location.key == own.key for location in noted) else [*noted, own]


def _verified_manifest(body: bytes, descriptor: Descriptor) -> Manifest:
    """The manifest that ``descriptor`` names, slim: those of a whole repository are in memory together.

    Raises ManifestInvalid when the bytes are not those of its digest, or are no manifest.
    """
    if Digest.of(body, descriptor.digest.algorithm) != descriptor.digest:
        raise ManifestInvalid("its bytes are not those of its digest")
    return slim(parse_manifest(body, descriptor.media_type))

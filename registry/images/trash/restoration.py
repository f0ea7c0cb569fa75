"""Restoration: manifests of the trash are put again, with everything that they named (proposal 0013).

What it writes is what a push of the same content writes, so that no release has to know of it.
"""

from __future__ import annotations

from time import monotonic
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple

from registry.database import blobs, changes, manifests, memberships, references, tags
from registry.database.collection import purging, trash
from registry.database.statement import batches
from registry.images.publication.manifest_publication import ManifestPublication
from registry.images.publication.new_blob import NewBlob
from registry.images.records.journal import Change, Journal, PendingChange, understood
from registry.images.trash.stored_parts import LOOKS, ManifestBody, StoredBytes, StoredParts
from registry.oci.digest import Digest
from registry.oci.errors import ManifestBlobUnknown, ManifestUnknown, RequestInvalid
from registry.oci.manifest import parse_manifest
from registry.oci.tag import belongs_to_subject
from registry.storage.errors import PathNotFound

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from registry.database.collection.trash import TrashRow
    from registry.database.repositories import RepositoryRow
    from registry.database.transaction import Transaction
    from registry.images.backends import Backends
    from registry.images.blob_locations import Location
    from registry.images.manifests import Manifests
    from registry.images.publication.blob_publication import BlobPublication
    from registry.images.publication.manifest_publication import Alongside
    from registry.images.publication.new_blob import Put
    from registry.images.repositories import Repositories
    from registry.oci.change_reference import ChangeReference
    from registry.oci.record import Record
    from registry.storage.driver import ObjectStat


KEPT_BYTES: Final = 8 << 20
"""Bytes of manifests that a restore keeps from its look whether they are there; larger ones are read again."""
PAGE: Final = 100
"""Manifests of the trash that one look finds."""
SECONDS: Final = 20.0
"""How long a change of a tag is looked for: each record may be an object, and there may be millions."""
LISTED: Final = 10
"""Missing blobs that a message names."""
MOST: Final = 1000
"""Those that its detail has, at most."""
NOTHING_MOVED: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType({})


class Restored(NamedTuple):
    """A manifest that is there again, or that has tags again."""

    digest: Digest
    tags: tuple[str, ...]
    """The tags that it was given."""


class _Caller(NamedTuple):
    """The caller that asks for it."""

    actor: str
    address: str | None


class Restoration:
    """Any thread, any process. Killed in the middle, the same again goes on: what is there already stays."""

    def __init__(
        self, backends: Backends, repositories: Repositories, publication: BlobPublication, manifests: Manifests
    ) -> None:
        self._backends = backends
        self._repositories = repositories
        self._publication = publication
        self._manifest_publication = ManifestPublication(backends, repositories, publication)
        self._manifests = manifests
        self._journal = Journal(backends)
        self._stored = StoredParts(backends)

    def restore(self, wanted: ChangeReference, *, actor: str, address: str | None = None) -> list[Restored]:
        """What ``wanted`` says: ``tag``, ``manifest``, or ``last``. Raises as these."""
        name = wanted.repository
        if wanted.tag is not None:
            return self.tag(name, wanted.tag, sequence=wanted.sequence, actor=actor, address=address)
        if wanted.digest is not None:
            return self.manifest(name, wanted.digest, actor=actor, address=address)
        return self.last(name, actor=actor, address=address)

    def manifest(self, name: str, digest: Digest, *, actor: str, address: str | None = None) -> list[Restored]:
        """Bring a deleted manifest back without a tag, with what was deleted in the same request or run.

        Raises ManifestUnknown where the trash does not hold it, or its bytes are not all there; NameUnknown.
        """
        repository = self._repositories.require(name)
        begun = self._record_begun(repository)
        if self._is_there(repository, digest):
            return begun
        rows = _with_last(self._batch_of(repository, digest), digest)
        return begun + self._restore(repository, rows, _Caller(actor, address), tagged=False)

    def last(self, name: str, *, actor: str, address: str | None = None) -> list[Restored]:
        """Bring back what was deleted last, with the tags that it had and that point nowhere now. Raises as above.

        Where the one before was not answered, because storage did not take a record of it, this goes on with that.
        """
        repository = self._repositories.require(name)
        begun, caller = self._record_begun(repository), _Caller(actor, address)
        last = next((row for row in self._trashed(repository) if not self._is_there(repository, row.digest)), None)
        if begun:
            rows = self._batch_of(repository, begun[-1].digest)
            if last is None or last.sequence <= rows[0].sequence:  # else it is a push of what was deleted before
                rows = _with_last(rows, rows[0].digest)
                return begun + self._restore(repository, rows, caller, tagged=True)
        if last is not None:
            rows = _with_last(self._batch_of(repository, last.digest), last.digest)
            return begun + self._restore(repository, rows, caller, tagged=True)
        raise ManifestUnknown(f"the trash holds nothing of repository {name}")

    def tag(
        self, name: str, tag: str, *, sequence: int | None = None, actor: str, address: str | None = None
    ) -> list[Restored]:
        """Make a tag what it was after the change ``sequence``, or before its last change if that is None.

        Raises ManifestUnknown where it was nothing then, or as above; TagImmutable; RequestInvalid where its last
        change is so long ago that the caller has to say which it is.
        """
        repository, caller = self._repositories.require(name), _Caller(actor, address)
        digest = self._was(repository, tag, sequence)
        begun = self._record_begun(repository)
        looks = LOOKS
        while self._is_there(repository, digest):
            looks -= 1
            try:
                found = self._manifests.find(name, digest)
                body = ManifestBody(digest, found.media_type, self._manifests.read(found))
                self._put(repository, body, (tag,), caller, _is_there_still(digest))
            except (ManifestBlobUnknown, ManifestUnknown):  # what took it meanwhile has put it into the trash
                if not looks:
                    raise
            else:
                return [*begun, Restored(digest, (tag,))]
        rows = _with_last(self._batch_of(repository, digest), digest)
        return begun + self._restore(repository, rows, caller, tagged=False, moved={digest: (tag,)})

    # ----

    def _record_begun(self, repository: RepositoryRow) -> list[Restored]:
        """Write the records of what came back from the trash and has none on storage. Raises StorageError."""
        name = repository.name
        with self._backends.database.autocommit() as connection:
            unfolded = changes.of_repository(connection, repository.id).get()
            begun = [
                (change, record.descriptor.digest, record.tags)
                for change in unfolded
                if change.state == changes.PENDING
                and (record := understood(name, change.record)).descriptor is not None
                and trash.find(connection, repository.id, record.descriptor.digest, after=self._after()).get()
            ]
        begun = [each for each in begun if not self._journal.has(name, each[0].sequence)]
        for change, _, _ in begun:
            self._publication.record(PendingChange(repository._replace(sequence=change.sequence), change.record))
        return [Restored(digest, given) for _, digest, given in begun]

    def _was(self, repository: RepositoryRow, tag: str, sequence: int | None) -> Digest:
        """The manifest of a tag at a moment of its history."""
        name, deadline = repository.name, monotonic() + SECONDS
        for record in self._journal.backwards(name, (repository.sequence if sequence is None else sequence) + 1):
            if tag not in record.tags:
                if monotonic() >= deadline:
                    raise RequestInvalid(
                        f"back to change {record.sequence} of {name} none is of the tag {tag}, and reading on takes"
                        f" long: say which change it is (`registry history {name}:{tag}` lists them)"
                    )
                continue
            if sequence is not None:
                if record.descriptor is None:
                    raise ManifestUnknown(f"the tag {tag} of {name} was removed by change {record.sequence}")
                return record.descriptor.digest
            before = _before(record, tag)
            if before is None:
                raise ManifestUnknown(f"the tag {tag} of {name} was new at its last change, {record.sequence}")
            return before
        raise ManifestUnknown(f"the history of {name} does not have the tag {tag} at that change")

    def _after(self) -> float:
        """The moment since which what was deleted can be restored."""
        return self._backends.clock() - self._backends.policy.undelete_window

    def _trashed(self, repository: RepositoryRow) -> Iterator[TrashRow]:
        """What can be restored, and what was pushed again since it was deleted, the last first."""
        before = 1 << 62
        while True:
            with self._backends.database.autocommit() as connection:
                page = trash.page(connection, repository.id, after=self._after(), before=before, count=PAGE).get()
            yield from page
            if len(page) < PAGE:
                return
            before = page[-1].sequence

    def _is_there(self, repository: RepositoryRow, digest: str) -> bool:
        with self._backends.database.autocommit() as connection:
            return manifests.by_digest(connection, repository.id, digest).get() is not None

    def _batch_of(self, repository: RepositoryRow, digest: str) -> list[TrashRow]:
        """What was deleted with a manifest, an index after what it lists. Raises ManifestUnknown."""
        after = self._after()
        with self._backends.database.autocommit() as connection:
            row = trash.find(connection, repository.id, digest, after=after).get()
            if row is None:
                days = self._backends.policy.undelete_window / 86400
                message = (
                    f"the trash of {repository.name} does not hold {digest}; it keeps what was deleted {days:g} days"
                )
                raise ManifestUnknown(message)
            return trash.of_batch(connection, repository.id, row.batch, after=after).get()

    def _restore(
        self,
        repository: RepositoryRow,
        rows: Sequence[TrashRow],
        caller: _Caller,
        *,
        tagged: bool,
        moved: Mapping[str, tuple[str, ...]] = NOTHING_MOVED,
    ) -> list[Restored]:
        """Put these again, with the tags that they had and that are free; ``moved`` are set wherever they point now."""
        going = {row.digest: row for row in self._with_children(repository, rows)}
        going = {digest: row for digest, row in going.items() if not self._is_there(repository, digest)}
        bodies = self._require_whole(repository, going)
        restored = []
        for row in going.values():
            body = bodies.pop(row.digest, None) or self._stored.manifest(repository, row)
            if body is None:
                raise _not_whole(row.digest, [row.digest])
            free = self._free(repository, [tag for tag in row.tags if tagged or belongs_to_subject(tag)])
            given = (*free, *moved.get(row.digest, ()))
            self._put_whole(repository, row, body, given, caller, going)
            restored.append(Restored(Digest(row.digest), given))
        return restored

    def _put_whole(
        self,
        repository: RepositoryRow,
        row: TrashRow,
        body: ManifestBody,
        given: Sequence[str],
        caller: _Caller,
        going: Mapping[str, TrashRow],
    ) -> None:
        """Put a manifest, and before it what it needs: again where that went because it took longer than a lease.

        Raises ManifestUnknown, naming what storage does not have any more, or where a purge has taken it meanwhile.
        """
        for look in range(1, LOOKS + 1):
            parts, missing = self._parts(repository, row, body, going)
            if missing:
                raise _not_whole(row.digest, missing)
            for part in parts:
                self._join(repository, part)
            try:
                self._put(repository, body, given, caller, _is_in_trash(row.digest))
            except ManifestBlobUnknown as error:
                if look == LOOKS:
                    message = f"{row.digest} cannot be restored: {error.message}"
                    raise ManifestUnknown(message, detail=error.detail) from error
            else:
                return

    def _require_whole(self, repository: RepositoryRow, going: Mapping[str, TrashRow]) -> dict[str, ManifestBody]:
        """Make sure that nothing of these is gone, before anything is written. The first bodies, as far as they fit.

        Manifests are hashed; of blobs it is asked whether storage has them, with the right size.
        Raises ManifestUnknown, naming all that is missing.
        """
        bodies: dict[str, ManifestBody] = {}
        lacking: list[str] = []
        missing: set[str] = set()
        room = KEPT_BYTES
        for row in going.values():
            body = self._stored.manifest(repository, row)
            lost = [row.digest] if body is None else self._parts(repository, row, body, going)[1]
            missing.update(lost)
            lacking += [row.digest] if lost else []
            if body is not None and len(body.data) <= room:
                bodies[row.digest] = body
                room -= len(body.data)
        if missing:
            raise _not_whole(lacking[-1], sorted(missing))
        return bodies

    def _put(
        self,
        repository: RepositoryRow,
        body: ManifestBody,
        given: Sequence[str],
        caller: _Caller,
        require: Alongside,
    ) -> None:
        """Write what a push of the manifest with these tags writes, if that is still as ``require`` wants it.

        The body is from before: what a purge has taken since then must not come back with it.
        """
        with self._backends.database.autocommit() as connection:
            require(connection, repository)  # before any byte is written
        change = Change.put(
            body.digest, body.media_type, len(body.data), given, actor=caller.actor, address=caller.address
        )
        manifest = parse_manifest(body.data, body.media_type)
        self._manifest_publication.publish(repository.name, body.data, manifest, body.digest, change, alongside=require)

    def _with_children(self, repository: RepositoryRow, rows: Sequence[TrashRow]) -> list[TrashRow]:
        """These, each after what it lists that was deleted by itself, and what went with that."""
        ordered: dict[str, TrashRow] = {}
        for row in rows:
            if row.digest in ordered:
                continue
            open_rows, seen = [(row, self._lost_children(repository, row))], {row.digest}
            while open_rows:
                parent, children = open_rows[-1]
                child = children.pop() if children else None
                if child is None:
                    ordered.setdefault(parent.digest, parent)
                    open_rows.pop()
                elif child.digest not in ordered and child.digest not in seen:
                    seen.add(child.digest)
                    open_rows.append((child, self._lost_children(repository, child)))
        return list(ordered.values())

    def _lost_children(self, repository: RepositoryRow, row: TrashRow) -> list[TrashRow]:
        """The manifests that it lists and that were deleted, the first one last, and what went with each by itself."""
        with self._backends.database.autocommit() as connection:
            named = trash.references(connection, repository.id, row.blob_id).get()
            children = [each.digest for each in named if each.kind in {references.MANIFEST, references.FORMER}]
            lost = [child for child in children if manifests.by_digest(connection, repository.id, child).get() is None]
            found = [trash.find(connection, repository.id, child, after=self._after()).get() for child in lost]
        lost_rows = [child for child in reversed(found) if child is not None]
        apart = (child for child in lost_rows if child.batch != row.batch)
        return [*lost_rows, *(each for child in apart for each in self._gone_with(repository, child))]

    def _gone_with(self, repository: RepositoryRow, row: TrashRow) -> list[TrashRow]:
        """What was deleted because of a manifest: it was the last of its batch then, and nothing of that lists it."""
        with self._backends.database.autocommit() as connection:
            batch = trash.of_batch(connection, repository.id, row.batch, after=self._after()).get()
            naming = purging.trash_naming(connection, repository.id, row.digest).get()
        others = [each for each in batch if each.digest != row.digest]
        is_root = len(others) < len(batch) and batch[0].digest == row.digest
        return others if is_root and not {each.digest for each in others} & set(naming) else []

    def _parts(
        self, repository: RepositoryRow, row: TrashRow, body: ManifestBody, going: Mapping[str, TrashRow]
    ) -> tuple[list[StoredBytes], list[str]]:
        """The blobs that it needs and the repository has no more; and those that storage does not have either."""
        with self._backends.database.autocommit() as connection:
            named = trash.references(connection, repository.id, row.blob_id).get()
        held = self._kept(repository, [each.digest for each in named])
        sizes = {each.digest: each.size for each in parse_manifest(body.data, body.media_type).named_blobs()}
        parts, missing = list[StoredBytes](), list[str]()
        for each in named:
            is_child, size = each.kind in {references.MANIFEST, references.FORMER}, sizes.get(Digest(each.digest))
            if each.digest in going or each.kind == trash.UNPROVEN or (is_child and each.digest in held):
                continue
            part = self._stored.find(repository, Digest(each.digest), size)
            if part is None and each.kind != references.OPTIONAL:
                missing.append(each.digest)
            elif part is not None and not (each.digest in held and self._is_served(repository, part)):
                parts.append(part)
        return parts, missing

    def _is_served(self, repository: RepositoryRow, part: StoredBytes) -> bool:
        """Whether these are the bytes that a repository serves which has the blob."""
        layout = self._backends.layout
        return not layout.per_repository or part.location.key == layout.blob(repository.name, part.digest)

    def _kept(self, repository: RepositoryRow, digests: Sequence[str]) -> set[str]:
        """Those that the repository has, each with a lease: a collection has ended a membership before, or sees it."""
        held: set[str] = set()
        for several in batches(digests):
            with self._backends.database.transaction() as connection:
                blobs.lock_all(connection, sorted(several)).get()
                blobs.lease_all(connection, several, seconds=self._backends.policy.lease)
                held |= memberships.find_all(connection, repository.id, several).get().keys()
        return held

    def _join(self, repository: RepositoryRow, part: StoredBytes) -> None:
        """Make a blob a member again. Raises ManifestUnknown where its bytes have gone meanwhile."""
        found: StoredBytes | None = part
        for _ in range(LOOKS):
            if found is None:
                break
            blob = NewBlob(repository, found.digest, found.size, self._put_from(found.location), source=found.location)
            try:
                self._publication.record(self._publication.publish(blob))
            except PathNotFound:
                found = self._stored.find(repository, part.digest, part.size)
            else:
                return
        raise ManifestUnknown(f"storage does not have {part.digest} any more; push it again")

    def _put_from(self, source: Location) -> Put:
        driver, links = self._backends.driver, self._backends.layout.per_repository

        def put(key: str, *, replace: bool) -> ObjectStat:  # noqa: ARG001 - there are no other bytes
            return driver.link(source.key, key) if links and source.key != key else driver.stat(source.key)

        return put

    def _free(self, repository: RepositoryRow, wanted: list[str]) -> list[str]:
        """Those tags that point nowhere."""
        with self._backends.database.autocommit() as connection:
            taken = {row.name for row in tags.find_all(connection, repository.id, wanted).get()} if wanted else set()
        return [tag for tag in wanted if tag not in taken]


def _is_there_still(digest: str) -> Alongside:
    """Requires that a repository has a manifest: raises ManifestUnknown."""

    def require(connection: Transaction, repository: RepositoryRow) -> None:
        if manifests.by_digest(connection, repository.id, digest).get() is None:
            raise ManifestUnknown(f"repository {repository.name} does not have {digest} any more")

    return require


def _is_in_trash(digest: str) -> Alongside:
    """Requires that the trash of a repository holds a manifest: raises ManifestUnknown."""

    def require(connection: Transaction, repository: RepositoryRow) -> None:
        if trash.find(connection, repository.id, digest, after=0.0).get() is None:
            raise ManifestUnknown(f"the trash of {repository.name} does not hold {digest} any more")

    return require


def _with_last(rows: Sequence[TrashRow], digest: str) -> list[TrashRow]:
    """These with that manifest at the end: while it is not there, the same restore again goes on."""
    return sorted(rows, key=lambda row: row.digest == digest)


def _not_whole(digest: str, missing: Sequence[str]) -> ManifestUnknown:
    named = ", ".join(missing[:LISTED]) + (f" and {len(missing) - LISTED} more" if len(missing) > LISTED else "")
    return ManifestUnknown(
        f"{digest} cannot be restored: storage does not have the right bytes of {named} any more;"
        f" push {'it' if len(missing) == 1 else 'them'} again, then restore again",
        detail={"missing": [*missing[:MOST]]},
    )


def _before(record: Record, tag: str) -> Digest | None:
    """The digest that a tag had before a record that concerns it."""
    old = record.old.get(tag)
    return None if old is None else Digest(old)

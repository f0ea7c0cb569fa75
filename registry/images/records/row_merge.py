"""Row merge: what storage says of a repository becomes rows, in one transaction.

Tests: ``tests/images/records/test_reconciliation.py``.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import structlog

from registry.database import changes, manifests, memberships, references, repositories, tags, withheld
from registry.images.records.journal import Change, understood
from registry.images.records.manifest_rows import ManifestRows
from registry.oci.digest import Digest
from registry.oci.moment import to_text, whole

if TYPE_CHECKING:
    from registry.database.manifests import ManifestRow
    from registry.database.repositories import RepositoryRow
    from registry.database.transaction import Transaction
    from registry.images.backends import Backends
    from registry.images.records.repository_reader import StoredRepository

log = structlog.get_logger(__name__)


class _Times(NamedTuple):
    """Times of a repository's manifests and tags, as the database has them."""

    pushed: dict[str, float]
    tagged: dict[str, float]


class RowMerge:
    """One merge in the caller's transaction, in which the repository is locked. For one thread.

    Its blobs are members already, and the manifests that the database does not know are in ``view``.
    """

    def __init__(
        self, backends: Backends, connection: Transaction, repository: RepositoryRow, view: StoredRepository
    ) -> None:
        self._backends = backends
        self._connection = connection
        self._repository = repository
        self._id = repository.id
        self._view = view
        self.sequence = max(repository.sequence, view.last)
        """The last number of the repository once this is done."""
        # A number is committed before its record is written: only a copy that is older has not reached it by now.
        self.is_behind = view.last > repository.sequence
        """The database is an older copy: storage decides everything (I11)."""

    def run(self) -> None:
        """Take what storage has that the rows have not."""
        self._apply_records()
        ManifestRows(self._backends, self._connection, self._id, self._view).write(self._view.manifests)
        if self.is_behind:
            changes.remove_all(self._connection, self._id)
            self._drop_absent()
            self._correct_times()
        self._write_tags()
        self._end()

    def end_reading(self) -> None:
        """Say that a repository was read whose manifests and tags are rows by now; see ``FirstReading``."""
        changes.remove_all(self._connection, self._id)
        self._end()

    def _end(self) -> None:
        connection, repository, view = self._connection, self._repository, self._view
        self._write_withheld()
        repositories.set_reconciled(
            connection,
            repository.id,
            sequence=self.sequence,
            folded=view.folded,
            etag=view.etag,
            missing=view.missed(self._backends.driver.capabilities),
        )
        now = self._backends.clock()
        for number, line in view.records.items():
            changes.add(connection, repository.id, number, line, state=changes.RECORDED, now=now)

    def put_back(self) -> None:
        """Record again what another tool's index has lost."""
        listed_tags, listed = self._view.index.tags(), self._view.index.manifests()
        known = manifests.of_repository(self._connection, self._id).get()
        lost_tags: dict[str, list[str]] = {}
        for tag in tags.of_repository(self._connection, self._id).get().values():
            if tag.name not in listed_tags:
                lost_tags.setdefault(tag.digest, []).append(tag.name)
        lost = [digest for digest in known if Digest(digest) not in listed]
        if not (lost_tags or lost):
            return
        pushed = manifests.pushed_at(self._connection, self._id)
        tagged = tags.updated_at(self._connection, self._id)
        times = _Times(pushed.get(), tagged.get())
        for digest in dict.fromkeys([*lost_tags, *lost]):
            self._record_again(known[digest], lost_tags.get(digest, []), times)

    def _apply_records(self) -> None:
        """Make the view's index what it will be when everything is folded.

        That includes changes that are committed and whose records another worker is only about to write: without them
        a tag or manifest that is being deleted would be found in the index, and taken for another tool's.
        """
        lines = dict(self._view.records)
        if not self.is_behind:
            unfolded = changes.of_repository(self._connection, self._id).get()
            lines |= {change.sequence: change.record for change in unfolded if change.sequence > self._view.folded}
        records = [understood(self._repository.name, lines[sequence]) for sequence in sorted(lines)]
        for record in records:
            record.apply(self._view.index)
        left = self._view.index.manifests()
        for record in records:
            if record.operation == "delete" and record.digest is not None and record.digest not in left:
                self._view.manifests.pop(record.digest, None)

    def _correct_times(self) -> None:
        """Take the times of manifests that an older copy of the database knows, and that were pushed again since."""
        known = manifests.of_repository(self._connection, self._id).get().values()
        said = ((row.blob_id, self._view.index.pushed(Digest(row.digest))) for row in known)
        manifests.set_pushed(self._connection, self._id, [(blob, at) for blob, at in said if at is not None])

    def _write_tags(self) -> None:
        """Take the tags of the index, in which the records of ours are applied."""
        ours = tags.of_repository(self._connection, self._id).get()
        known = manifests.of_repository(self._connection, self._id).get()
        for tag, descriptor in self._view.index.tags().items():
            row, target = ours.get(tag), known.get(descriptor.digest)
            is_there = row is not None and row.digest == descriptor.digest
            if target is None or (is_there and not self.is_behind):
                continue
            tagged_at = self._view.index.tagged(tag) or self._tagged_at(descriptor.digest)
            tags.put(self._connection, self._id, tag, target.blob_id, sequence=self._view.last, now=tagged_at)
            if row is not None and not is_there:
                log.warning(
                    "another tool moved a tag", repository=self._repository.name, tag=tag, digest=descriptor.digest
                )

    def _tagged_at(self, digest: Digest) -> float:
        """When another tool set a tag, as far as files tell: with its manifest, or later with the index."""
        loaded = self._view.manifests.get(digest)
        return whole(self._view.modified if loaded is None or loaded.modified is None else loaded.modified)

    def _write_withheld(self) -> None:
        """Have as rows what storage says, with the changes that are not there yet."""
        said = self._view.index.withheld
        if self.is_behind:
            withheld.remove_all(self._connection, self._id)
        noted = [row for row in withheld.of_repository(self._connection, self._id).get() if row.released is None]
        known = withheld.collected(noted)
        withheld.add(self._connection, self._id, said - known)
        withheld.remove(self._connection, self._id, known - said)

    def _drop_absent(self) -> None:
        """The database is behind storage: what storage does not have is gone."""
        listed_tags = self._view.index.tags()
        for tag in tags.of_repository(self._connection, self._id).get().values():
            if tag.name not in listed_tags:
                tags.remove(self._connection, self._id, tag.name)
        listed = self._listed()
        for manifest in manifests.of_repository(self._connection, self._id).get().values():
            if manifest.digest not in listed:
                manifests.remove(self._connection, self._id, manifest.blob_id)
                memberships.remove(self._connection, self._id, manifest.blob_id)

    def _listed(self) -> set[str]:
        """The manifests of the index and everything below them."""
        listed: set[str] = set()
        waiting: list[str] = list(self._view.index.manifests())
        while waiting:
            digest = waiting.pop()
            if digest not in listed:
                listed.add(digest)
                waiting.extend(references.children_of(self._connection, self._id, digest).get())
        return listed

    def _record_again(self, manifest: ManifestRow, tags: list[str], times: _Times) -> None:
        change = Change.put(Digest(manifest.digest), manifest.media_type, manifest.size, tags, actor="reconciliation")
        pushed, tagged = to_text(times.pushed[manifest.digest]), {tag: to_text(times.tagged[tag]) for tag in tags}
        replace(change, pushed=pushed, tagged=tagged).allot(self._connection, self._repository, self._backends.clock())

"""*Closure* of a manifest that is out of use: all that goes with it, because only it needs that (lifecycle 4.9).

Tests: ``tests/maintenance/collection/test_run.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from registry.database import references
from registry.database.collection import closures
from registry.images.trash import attachments
from registry.images.trash.attachments import Attachment

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from registry.database.collection.closures import ClosureRow
    from registry.database.repositories import RepositoryRow
    from registry.database.transaction import Transaction
    from registry.oci.immutable_tags import ImmutableTags

    MayGo = Callable[[ClosureRow], bool]
    """Whether a manifest may go, by its lease and its times."""


class Closure(NamedTuple):
    """A manifest that nothing needs, and what goes with it. Empty if it is not there, or may not go."""

    attached: list[Attachment]
    """What is attached to any of ``listed``; what lists one of these, or is attached to it, comes before it."""
    listed: list[Attachment]
    """The manifest, and what only it lists; what lists something comes before it."""
    staying: set[str]
    """What is attached to any of ``listed`` and stays."""

    @property
    def all(self) -> list[Attachment]:
        """In the order in which they are deleted."""
        return [*self.attached, *self.listed]


def of_unused(
    connection: Transaction,
    repository: RepositoryRow,
    digest: str,
    immutable: ImmutableTags,
    may_go: MayGo,
    *,
    gone: Collection[str] = (),
    alone: bool = False,
    staying: Collection[str] = (),
) -> Closure:
    """``digest``, which nothing needs, with what it lists and nothing else needs, and what is attached to any of these.

    ``gone``: digests that count as gone already. ``alone``: without what it lists. ``staying``: what was seen to stay,
    which is not looked at.
    """
    rows = listed(connection, repository.id, digest, may_go, gone=gone, alone=alone)
    stay = set(staying)
    attached = _attached(connection, repository, rows, immutable, may_go, stay)
    if attached is None:
        return Closure([], [], set())
    return Closure(attached, [Attachment(each, ()) for each in rows], stay)


def listed(
    connection: Transaction,
    repository_id: int,
    digest: str,
    may_go: MayGo,
    *,
    gone: Collection[str] = (),
    alone: bool = False,
) -> dict[str, ClosureRow]:
    """As ``of_unused``, without what is attached."""
    root = closures.find(connection, repository_id, digest).get()
    if root is None or not may_go(root):
        return {}
    going = _Going(connection, repository_id, root, _ids(connection, repository_id, gone))
    while not alone and going.extend(may_go):
        pass
    former = _former(connection, repository_id, going.rows)
    if not all(may_go(row) for row in former):
        return {}
    return {row.digest: row for row in [*former, *going.rows.values()]}


class _Going:
    """Manifests that go, to which each round adds what only they need."""

    def __init__(self, connection: Transaction, repository_id: int, root: ClosureRow, gone: list[int]) -> None:
        self._connection = connection
        self._repository_id = repository_id
        self.rows = {root.digest: root}
        self._ids = {root.blob_id, *gone}
        self._new = [root]
        self._refused: dict[str, ClosureRow] = {}
        """Children that something else needs."""
        self._waiting: dict[int | str, list[str]] = {}
        """Those of them to look at again when a manifest goes, by its id, or by its digest if it is their subject."""

    def extend(self, may_go: MayGo) -> bool:
        """Add the children that nothing else needs. False when there are none."""
        candidates: dict[str, ClosureRow] = {}
        for parent in self._new:
            for waiting in (*self._waiting.pop(parent.blob_id, ()), *self._waiting.pop(parent.digest, ())):
                candidates[waiting] = self._refused.pop(waiting)
            for child in closures.children(self._connection, self._repository_id, parent.blob_id).get():
                is_known = child.digest in self.rows or child.digest in self._refused
                if not is_known and not child.is_tagged and may_go(child):
                    candidates[child.digest] = child
        self._new = []
        for child in candidates.values():
            needed_by = self._needed_by(child)
            if needed_by is None:
                self._new.append(child)
            else:
                self._refused[child.digest] = child
                self._waiting.setdefault(needed_by, []).append(child.digest)
        for child in self._new:
            self.rows[child.digest] = child
        self._ids |= {child.blob_id for child in self._new}
        return bool(self._new)

    def _needed_by(self, child: ClosureRow) -> int | str | None:
        """Something that does not go and needs it: the digest of its subject, or the id of what lists it."""
        if child.subject is not None and child.subject not in self.rows:
            return child.subject
        others = closures.listed_by(self._connection, self._repository_id, child.digest).get() - self._ids
        return min(others, default=None)


def _ids(connection: Transaction, repository_id: int, digests: Collection[str]) -> list[int]:
    rows = [closures.find(connection, repository_id, digest).get() for digest in digests]
    return [row.blob_id for row in rows if row is not None]


def _former(connection: Transaction, repository_id: int, going: Mapping[str, ClosureRow]) -> list[ClosureRow]:
    """The lists of referrers without a tag that list any of those: they go before them."""
    found: dict[str, ClosureRow] = {}
    for digest in going:
        for index in references.formerly_listed_by(connection, repository_id, digest).get():
            row = closures.find(connection, repository_id, index).get() if index not in going else None
            if row is not None:
                found[index] = row
    return list(found.values())


def is_unused(connection: Transaction, repository_id: int, digest: str) -> bool:
    """Whether a manifest is there, has no tag, and nothing lists it or has it attached."""
    row = closures.find(connection, repository_id, digest).get()
    if row is None or row.is_tagged or row.subject is not None:
        return False
    return not closures.listed_by(connection, repository_id, digest).get()


def may_go_too(connection: Transaction, repository_id: int, attached: Attachment, may_go: MayGo) -> bool:
    """Whether something that is attached may go, by its own lease and times; what is gone already may."""
    row = closures.find(connection, repository_id, attached.digest).get()
    return row is None or may_go(row)


def _attached(
    connection: Transaction,
    repository: RepositoryRow,
    going: Mapping[str, ClosureRow],
    immutable: ImmutableTags,
    may_go: MayGo,
    staying: set[str],
) -> list[Attachment] | None:
    """What is attached to these; None where something of that may not go yet. What stays is added to ``staying``.

    Without what it is attached to it would stay for good: its tags keep it, and no rule of retention counts them.
    """
    ordered: dict[str, Attachment] = {}
    seen = frozenset(staying)  # what stays with one of these may go with another
    for digest in going:
        found = attachments.of_manifest(connection, repository.id, repository.name, digest, immutable, staying=seen)
        staying |= found.staying
        for attached in found.going:
            if attached.digest in going:
                continue
            if not may_go_too(connection, repository.id, attached, may_go):
                return None
            ordered.setdefault(attached.digest, attached)
    return list(ordered.values())

"""Manifest deletion: a manifest goes into the trash, with its tags and with what is attached to it (proposal 0013).

Tests: ``tests/images/trash/test_attachments.py``, ``tests/images/test_manifests.py``.
"""

from __future__ import annotations

import contextlib
from dataclasses import replace
from math import inf
from typing import TYPE_CHECKING, NamedTuple

from registry.database import blobs, manifests, memberships, references, tags, withheld
from registry.database.collection import trash
from registry.database.statement import batches
from registry.images.records.journal import Change, PendingChange
from registry.images.trash import attachments, closure
from registry.images.trash.attachments import MoreAttached
from registry.oci.digest import Digest
from registry.oci.errors import ManifestUnknown, Unsupported

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

    from registry.database.manifests import ManifestRow
    from registry.database.repositories import RepositoryRow
    from registry.database.transaction import Transaction
    from registry.images.backends import Backends
    from registry.images.publication.blob_publication import BlobPublication
    from registry.images.repositories import Repositories
    from registry.images.trash.attachments import Attachment
    from registry.images.trash.closure import Closure, MayGo

    IsDue = Callable[[Transaction, RepositoryRow], bool]
    """Whether what was found still goes, in a transaction that has locked the repository."""


AT_ONCE = 16
"""Attached manifests that one transaction deletes: it locks a database in a file."""
ATTEMPTS = 5
"""How often more than that may be attached to a manifest while it is deleted; then all goes in one transaction."""


class Removal(NamedTuple):
    """What an untag or a delete did."""

    tags: Mapping[str, str]
    """The tags that went, with the digest that each had."""


class _Wanted(NamedTuple):
    """What a caller wants to delete."""

    digest: Digest
    actor: str
    address: str | None
    only: Collection[str] | None
    """The tags that it may have at most; None for any."""
    forced: bool

    def change(self, digest: Digest, old: dict[str, str], *, root: Digest | None = None) -> Change:
        """The deletion of a manifest that goes with it, or of itself, with the tags that it has."""
        return Change("delete", digest, None, tuple(old), self.actor, old, address=self.address, root=root)


class _Unused(NamedTuple):
    """What a collection wants to delete; see ``ManifestDeletion.collect``."""

    digest: str
    actor: str
    cause: str
    may_go: MayGo
    is_due: IsDue
    alone: bool = False
    """Without what it lists."""

    def change(self, going: Attachment, *, root: Digest | None = None) -> Change:
        """The deletion of a manifest of its closure."""
        old = dict.fromkeys(going.tags, going.digest)
        return Change("delete", Digest(going.digest), None, going.tags, self.actor, old, cause=self.cause, root=root)


class _Plan(NamedTuple):
    """What goes with a manifest that is deleted."""

    former: list[str]
    """Lists of its referrers that were replaced, and that list it."""
    tags: dict[str, str]
    """Its own."""
    attached: list[Attachment]
    staying: set[str]
    """What is attached to it and stays."""
    batch: int | None
    """That of what went with it already, also by a deletion that was killed; None for nothing."""


class ManifestDeletion:
    """Any thread, any process."""

    def __init__(self, backends: Backends, repositories: Repositories, publication: BlobPublication) -> None:
        self._backends = backends
        self._repositories = repositories
        self._publication = publication

    def delete(
        self,
        name: str,
        digest: Digest,
        *,
        actor: str,
        address: str | None,
        only: Collection[str] | None,
        forced: bool,
    ) -> Removal | None:
        """As ``Manifests.delete``, wherever clients may delete."""
        repository = self._repositories.require(name)
        wanted = _Wanted(digest, actor, address, only, forced=forced)
        staying: Collection[str] = ()
        for attempt in range(ATTEMPTS):
            with contextlib.suppress(MoreAttached):
                return self._delete(repository, wanted, staying, most=inf if attempt == ATTEMPTS - 1 else AT_ONCE)
            staying = self._delete_attached(repository, wanted)
        raise AssertionError

    def _delete(
        self, repository: RepositoryRow, wanted: _Wanted, staying: Collection[str], *, most: float
    ) -> Removal | None:
        """Delete it with all that goes with it, in one transaction. Raises MoreAttached, with nothing deleted.

        What was seen to stay is not looked at again: that is done without a lock, and may be thousands.
        """
        with self._backends.database.transaction() as connection:
            self._repositories.lock(connection, repository, forced=wanted.forced)
            plan = self._plan(connection, repository, wanted, most=most, staying=staying)
            if plan is None:
                return None
            changes = (wanted.change(each, old) for each, old in _once(plan, wanted.digest))
            allotted = self._remove_all(connection, repository, changes, plan.batch)
        for pending in allotted:
            self._publication.record(pending)
        return Removal(plan.tags)

    def preview(
        self, connection: Transaction, repository: RepositoryRow, digest: Digest
    ) -> list[tuple[Digest, tuple[str, ...]]]:
        """What ``delete`` would delete, in its order, each with its tags. Raises as that does."""
        wanted = _Wanted(digest, "", None, None, forced=False)
        plan = self._plan(connection, repository, wanted, most=inf)
        return [] if plan is None else [(each, tuple(old)) for each, old in _once(plan, digest)]

    def _plan(
        self,
        connection: Transaction,
        repository: RepositoryRow,
        wanted: _Wanted,
        *,
        most: float,
        staying: Collection[str] = (),
    ) -> _Plan | None:
        """What goes with it; None if it has a tag that it may not have. Raises MoreAttached."""
        plan = self._plan_of_itself(connection, repository, wanted)
        if plan is None or wanted.forced:
            return plan
        immutable, name = self._backends.policy.immutable, repository.name
        found = attachments.of_manifest(
            connection, repository.id, name, wanted.digest, immutable, most=most, staying=staying
        )
        return plan._replace(attached=found.going, staying=found.staying)

    def _plan_of_itself(self, connection: Transaction, repository: RepositoryRow, wanted: _Wanted) -> _Plan | None:
        """As ``_plan``, without what is attached. Raises ManifestUnknown, Unsupported, TagImmutable."""
        row = _required(connection, repository, wanted.digest)
        former = _former(connection, repository.id, wanted.digest, forced=wanted.forced)
        begun = trash.begun(connection, repository.id, wanted.digest)
        tagged = {tag.name: tag.digest for tag in tags.of_manifest(connection, repository.id, row.blob_id).get()}
        if wanted.only is not None and not tagged.keys() <= set(wanted.only):
            return None
        if not wanted.forced:
            self._backends.policy.immutable.check_removal(repository.name, tagged)
        return _Plan(former, tagged, [], set(), begun.get())

    def _delete_attached(self, repository: RepositoryRow, wanted: _Wanted) -> Collection[str]:
        """Delete what is attached, some in each transaction, and leave what has changed meanwhile; what stays.

        The manifest goes last, and notes the batch with the first: killed between, the same delete again goes on.
        """
        with self._backends.database.autocommit() as connection:
            plan = self._plan(connection, repository, wanted, most=inf)
        attached = [] if plan is None else plan.attached
        staying = set[str]() if plan is None else plan.staying
        going = {each.digest for each in attached}
        for start in range(0, len(attached), AT_ONCE):
            with self._backends.database.transaction() as connection:
                self._repositories.lock(connection, repository)
                current = self._plan_of_itself(connection, repository, wanted)
                if current is None:
                    break
                # One after the other: whether one may go is seen when what comes before it is gone.
                changes = (
                    wanted.change(Digest(each.digest), dict.fromkeys(each.tags, each.digest), root=wanted.digest)
                    for each in attached[start : start + AT_ONCE]
                    if attachments.is_as_it_was(connection, repository.id, each, going)
                )
                allotted = self._remove_all(connection, repository, changes, current.batch)
                if allotted and current.batch is None:
                    trash.begin(connection, repository.id, wanted.digest, batch=allotted[0].repository.sequence)
            for pending in allotted:
                self._publication.record(pending)
        return staying

    def collect(
        self,
        repository: RepositoryRow,
        digest: str,
        *,
        actor: str,
        cause: str,
        may_go: MayGo,
        is_due: IsDue,
        may_go_on: IsDue,
    ) -> Iterator[list[str]]:
        """Delete an unused manifest with its closure, as one batch; yields the digests that went in each transaction.

        ``is_due`` is asked once the repository and the manifests are locked. Nothing goes if more would by then.
        Where it lists more than AT_ONCE it goes first, and then each that it lists, in a transaction of its own, while
        ``may_go_on`` says so: what is left when that is ended at any instant is out of use by itself.
        Raises Unavailable.
        """
        wanted = _Unused(digest, actor, cause, may_go, is_due)
        with self._backends.database.snapshot() as connection:
            found = self._closure(connection, repository, digest, may_go)
        if len(found.listed) <= AT_ONCE:
            yield self._collect(repository, wanted, found, None)[0]
            return
        gone, batch = self._collect_alone(repository, wanted, None)
        yield gone
        for each in found.listed if digest in gone else ():

            def is_due_too(connection: Transaction, locked: RepositoryRow, listed: str = each.digest) -> bool:
                return may_go_on(connection, locked) and closure.is_unused(connection, locked.id, listed)

            yield self._collect_alone(repository, wanted._replace(digest=each.digest, is_due=is_due_too), batch)[0]

    def _collect_alone(
        self, repository: RepositoryRow, wanted: _Unused, batch: int | None
    ) -> tuple[list[str], int | None]:
        """As ``_collect``, without what the manifest lists."""
        wanted = wanted._replace(alone=True)
        with self._backends.database.snapshot() as connection:
            found = self._closure(connection, repository, wanted.digest, wanted.may_go, alone=True)
        return self._collect(repository, wanted, found, batch)

    def _collect(
        self, repository: RepositoryRow, wanted: _Unused, found: Closure, batch: int | None
    ) -> tuple[list[str], int | None]:
        """Delete a closure; what went, and the batch."""
        seen, before = {each.digest for each in found.all}, list[str]()
        if len(found.attached) > AT_ONCE:
            before, batch = self._collect_attached(repository, wanted, found, batch)
        with self._backends.database.transaction() as connection:
            locked = self._repositories.lock(connection, repository)
            for several in batches(sorted(seen.difference(before))):
                blobs.lock_all(connection, several).get()
            # What stays is not looked at again: it may be thousands, and pushes wait.
            going = self._closure(
                connection, repository, wanted.digest, wanted.may_go, alone=wanted.alone, staying=found.staying - seen
            ).all
            if not wanted.is_due(connection, locked) or not {each.digest for each in going} <= seen:
                return before, batch
            if batch is None:
                batch = trash.begun(connection, repository.id, wanted.digest).get()
            allotted = self._remove_all(connection, repository, map(wanted.change, going), batch)
        for pending in allotted:
            self._publication.record(pending)
        if batch is None and allotted:
            batch = allotted[0].repository.sequence
        return [*before, *(each.digest for each in going)], batch

    def _collect_attached(
        self, repository: RepositoryRow, wanted: _Unused, found: Closure, batch: int | None
    ) -> tuple[list[str], int | None]:
        """As ``_delete_attached``, for ``collect``, until something has changed; what went, and the batch."""
        going, listed = {each.digest for each in found.all}, [each.digest for each in found.listed]
        gone = list[str]()
        for start in range(0, len(found.attached), AT_ONCE):
            several = found.attached[start : start + AT_ONCE]
            with self._backends.database.transaction() as connection:
                locked = self._repositories.lock(connection, repository)
                blobs.lock_all(connection, sorted({*(each.digest for each in several), *listed[:AT_ONCE]})).get()
                still = closure.listed(connection, repository.id, wanted.digest, wanted.may_go, alone=wanted.alone)
                may_go = (closure.may_go_too(connection, repository.id, each, wanted.may_go) for each in several)
                if list(still) != listed or not wanted.is_due(connection, locked) or not all(may_go):
                    break
                if batch is None:
                    batch = trash.begun(connection, repository.id, wanted.digest).get()
                allotted = list[PendingChange]()
                for each in several:
                    if attachments.is_as_it_was(connection, repository.id, each, going):
                        change = wanted.change(each, root=Digest(wanted.digest))
                        allotted += self._remove_all(connection, repository, [change], batch)
                        batch = allotted[0].repository.sequence if batch is None else batch
                        gone.append(each.digest)
                if batch is not None:
                    trash.begin(connection, repository.id, wanted.digest, batch=batch)
            for pending in allotted:
                self._publication.record(pending)
        return gone, batch

    def closure(
        self,
        connection: Transaction,
        repository: RepositoryRow,
        digest: str,
        may_go: MayGo,
        *,
        gone: Collection[str] = (),
    ) -> list[Attachment]:
        """What ``collect`` deletes; see ``registry.images.trash.closure``."""
        return self._closure(connection, repository, digest, may_go, gone=gone).all

    def _closure(
        self,
        connection: Transaction,
        repository: RepositoryRow,
        digest: str,
        may_go: MayGo,
        *,
        gone: Collection[str] = (),
        alone: bool = False,
        staying: Collection[str] = (),
    ) -> Closure:
        immutable = self._backends.policy.immutable
        return closure.of_unused(
            connection, repository, digest, immutable, may_go, gone=gone, alone=alone, staying=staying
        )

    def _remove_all(
        self, connection: Transaction, repository: RepositoryRow, changes: Iterable[Change], batch: int | None = None
    ) -> list[PendingChange]:
        """Remove what each of ``changes`` deletes; the first of several is the batch of all, unless that has begun."""
        allotted: list[PendingChange] = []
        for change in changes:
            allotted.append(self._remove(connection, repository, replace(change, batch=batch)))
            batch = allotted[0].repository.sequence if batch is None else batch
        return allotted

    def _remove(self, connection: Transaction, repository: RepositoryRow, change: Change) -> PendingChange:
        row = _required(connection, repository, change.digest or "")
        unnamed = withheld.named_by_it_alone(connection, repository.id, row.blob_id).get()
        lacked = tuple(map(Digest, trash.lacked(connection, repository.id, row.blob_id).get()))
        now = self._backends.clock()
        pending = replace(change, released=unnamed, lacked=lacked).allot(connection, repository, now)
        sequence = pending.repository.sequence
        trash.keep(
            connection,
            repository.id,
            row.blob_id,
            sequence=sequence,
            batch=sequence if change.batch is None else change.batch,
            now=now,
            tags=change.tags,
        )
        withheld.remove(connection, repository.id, unnamed)
        manifests.remove(connection, repository.id, row.blob_id)
        memberships.remove(connection, repository.id, row.blob_id)
        return pending


def _former(connection: Transaction, repository_id: int, digest: str, *, forced: bool) -> list[str]:
    """The former fallback indexes that go before it. Raises Unsupported where something that stays lists it."""
    former = references.formerly_listed_by(connection, repository_id, digest).get()
    listed_by = references.referenced_by(connection, repository_id, digest).get()
    if forced or any(references.referenced_by(connection, repository_id, index).get() for index in former):
        listed_by += former
    if listed_by:
        message = f"the manifest is listed by {', '.join(listed_by)}; delete that first"
        raise Unsupported(message, detail={"manifests": list(listed_by)}, headers={"Allow": "GET, HEAD, PUT"})
    return former


def _once(plan: _Plan, digest: Digest) -> Iterator[tuple[Digest, dict[str, str]]]:
    """Each digest that goes with that one, where it stands first, with all tags that it has."""
    going = [(Digest(index), dict[str, str]()) for index in plan.former]
    going += [(Digest(each.digest), dict.fromkeys(each.tags, each.digest)) for each in plan.attached]
    going.append((digest, plan.tags))
    tagged: dict[Digest, dict[str, str]] = {}
    for each, old in going:
        tagged.setdefault(each, {}).update(old)
    yield from tagged.items()


def _required(connection: Transaction, repository: RepositoryRow, digest: str) -> ManifestRow:
    """Raises ManifestUnknown."""
    row = manifests.by_digest(connection, repository.id, digest).get()
    if row is None:
        raise ManifestUnknown(f"repository {repository.name} has no manifest {digest}")
    return row

"""*Attachments*: the manifests that belong to another one, and go with it: its referrers, and what its tags name.

Signatures, SBOMs and attestations name a subject, or have a tag that begins with its digest; the list of referrers that
some clients keep has such a tag too. One that a user has tagged by another name, or that a manifest lists which stays,
belongs to itself.
"""

from __future__ import annotations

from collections import deque
from math import inf
from typing import TYPE_CHECKING, NamedTuple

from registry.database import manifests, references, tags
from registry.oci.tag import attachment_prefix

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from registry.database.transaction import Transaction
    from registry.oci.immutable_tags import ImmutableTags


class MoreAttached(Exception):
    """More is attached to a manifest than the caller wants to know of."""


class Attachment(NamedTuple):
    """A manifest that goes with another."""

    digest: str
    tags: tuple[str, ...]
    """Its tags, each beginning with the digest of what it is attached to."""
    own: tuple[str, ...] = ()
    """What is attached to it in turn, also what stays."""


class Attached(NamedTuple):
    """What is attached to a manifest."""

    going: list[Attachment]
    """What goes with it; what lists one of these, or is attached to it, comes before it."""
    staying: set[str]
    """What stays."""


def of_manifest(
    connection: Transaction,
    repository_id: int,
    name: str,
    digest: str,
    immutable: ImmutableTags,
    *,
    most: float = inf,
    staying: Collection[str] = (),
) -> Attached:
    """What is attached to ``digest``, directly or not.

    The repository is called ``name``; where it is not locked, see ``is_as_it_was``. A manifest with an immutable tag
    stays, with what only it has; so does what is in ``staying``, which is not looked at. Raises MoreAttached if there
    are more than ``most``, those that stay among them.
    """
    direct = _attached_to(connection, repository_id, digest)
    found = _reachable(connection, repository_id, digest, direct, staying, most)
    listed_by = {each: references.referenced_by(connection, repository_id, each).get() for each in found}
    going = _Going(digest, direct, found, listed_by)
    going.leave(each for each, attached in found.items() if immutable.keeps(name, attached.tags))
    return Attached(
        _ordered({each: attached for each, attached in found.items() if each in going.digests}, listed_by),
        {*staying, *found}.difference(going.digests),
    )


def is_as_it_was(connection: Transaction, repository_id: int, attached: Attachment, going: Collection[str]) -> bool:
    """Whether nothing has changed of what ``of_manifest`` has found that says that ``attached`` goes.

    It is there, with these tags, and what is ``going`` and lists it, or is attached to it, is gone already.
    """
    row = manifests.by_digest(connection, repository_id, attached.digest).get()
    if row is None:
        return False
    names = tuple(tag.name for tag in tags.of_manifest(connection, repository_id, row.blob_id).get())
    staying = set(attached.own).difference(going)
    return (
        names == attached.tags
        and not references.referenced_by(connection, repository_id, attached.digest).get()
        and staying.issuperset(_own(connection, repository_id, attached.digest))
    )


def _reachable(
    connection: Transaction,
    repository_id: int,
    digest: str,
    direct: Collection[str],
    staying: Collection[str],
    most: float,
) -> dict[str, Attachment]:
    """What is attached ``direct`` to it, and what is attached to that in turn."""
    found: dict[str, Attachment] = {}
    waiting = [direct]
    while waiting:
        for each in waiting.pop():
            if each == digest or each in found or each in staying:
                continue
            row = manifests.by_digest(connection, repository_id, each).get()
            if row is not None:
                names = tuple(tag.name for tag in tags.of_manifest(connection, repository_id, row.blob_id).get())
                if len(found) >= most:
                    raise MoreAttached
                found[each] = Attachment(each, names, tuple(_own(connection, repository_id, each)))
                waiting.append(found[each].own)
    return found


def _attached_to(connection: Transaction, repository_id: int, subject: str) -> list[str]:
    """The referrers of a manifest, and what has a tag that begins with its digest."""
    attached = manifests.with_subject(connection, repository_id, subject).get()
    named = tags.beginning(connection, repository_id, attachment_prefix(subject)).get()
    return [*attached, *(row.digest for row in named)]


def _own(connection: Transaction, repository_id: int, digest: str) -> list[str]:
    """What is attached to an attachment, and lists of its referrers that were replaced."""
    attached = _attached_to(connection, repository_id, digest)
    return attached + references.formerly_listed_by(connection, repository_id, digest).get()


class _Going:
    """The manifests of a graph that go: each belongs to these alone, and is reached through these."""

    def __init__(
        self,
        digest: str,
        direct: Collection[str],
        found: Mapping[str, Attachment],
        listed_by: Mapping[str, Collection[str]],
    ) -> None:
        self.digests = {digest, *found}
        """At first all; those that stay leave them."""
        self._root = digest
        self._direct = direct
        self._found = found
        self._listed_by = listed_by
        by_prefix = {attachment_prefix(each): each for each in self.digests}
        lengths = {len(prefix) for prefix in by_prefix}
        self._owners = {
            each: [
                {by_prefix[tag[:length]] for length in lengths if tag[:length] in by_prefix} for tag in attached.tags
            ]
            for each, attached in found.items()
        }
        self._dependent: dict[str, list[str]] = {}
        for each in found:
            for other in {*listed_by[each], *set[str]().union(*self._owners[each])}:
                self._dependent.setdefault(other, []).append(each)

    def leave(self, staying: Iterable[str]) -> None:
        """Let these stay, and whatever does not belong to the rest alone."""
        waiting = [*staying, *(each for each in self._found if not self._belongs(each))]
        while waiting:
            while waiting:
                left = waiting.pop()
                if left in self.digests:
                    self.digests.remove(left)
                    waiting += (each for each in self._dependent.get(left, ()) if not self._belongs(each))
            waiting = list(self.digests - self._reached())

    def _belongs(self, digest: str) -> bool:
        """Whether each of its tags begins with the digest of one that goes, and nothing that stays lists it."""
        listed_by = self._listed_by[digest]
        return (
            len(listed_by) < references.LISTED
            and self.digests.issuperset(listed_by)
            and not any(self.digests.isdisjoint(owners) for owners in self._owners[digest])
        )

    def _reached(self) -> set[str]:
        """What is reached through those that go."""
        reached, waiting = {self._root}, [each for each in self._direct if each in self.digests]
        while waiting:
            each = waiting.pop()
            if each not in reached:
                reached.add(each)
                waiting += (other for other in self._found[each].own if other in self.digests)
        return reached


def _ordered(going: Mapping[str, Attachment], listed_by: Mapping[str, Collection[str]]) -> list[Attachment]:
    """Each after what lists it and what is attached to it; where these go round in a circle, as they are."""
    before = {each: {*listed_by[each], *attached.own} & going.keys() - {each} for each, attached in going.items()}
    after: dict[str, list[str]] = {}
    for each, several in before.items():
        for other in several:
            after.setdefault(other, []).append(each)
    ordered: dict[str, Attachment] = {}
    ready = deque(each for each, several in before.items() if not several)
    while len(ordered) < len(going):
        if not ready:
            ready.extend(each for each in going if each not in ordered)
        each = ready.popleft()
        if each not in ordered:
            ordered[each] = going[each]
            for other in after.get(each, ()):
                before[other].discard(each)
                if not before[other]:
                    ready.append(other)
    return list(ordered.values())

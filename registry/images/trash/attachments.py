"""*Attachments*: the manifests that belong to another one, and go with it: its referrers, and what its tags name.

Signatures, SBOMs and attestations name a subject, or have a tag that begins with its digest; the list of referrers that
some clients keep has such a tag too. One that a user has tagged by another name, or that a manifest lists which stays,
belongs to itself.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, NamedTuple

from registry.database import manifests, references, tags
from registry.oci.tag import attachment_prefix

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

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


def of_manifest(
    connection: Transaction,
    repository_id: int,
    name: str,
    digest: str,
    immutable: ImmutableTags,
    *,
    most: float = inf,
) -> list[Attachment]:
    """What is attached to ``digest``, directly or not; what lists one of these, or is attached to it, comes before it.

    The repository is called ``name``; where it is not locked, see ``is_as_it_was``. A manifest with an immutable tag
    stays, with what only it has. Raises MoreAttached if there are more than ``most``.
    """
    stay: set[str] = set()
    while True:
        found = _reachable(connection, repository_id, digest, stay, most)
        listed_by = {each: references.referenced_by(connection, repository_id, each).get() for each in found}
        going = {digest, *found}
        prefixes = {attachment_prefix(each) for each in going}
        kept = {
            attached.digest
            for attached in found.values()
            if immutable.keeps(name, attached.tags)
            or not _is_owned(attached, prefixes)
            or _is_listed_elsewhere(listed_by[attached.digest], going)
        }
        if not kept:
            return _ordered(found, listed_by)
        stay |= kept


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
    connection: Transaction, repository_id: int, digest: str, stay: Collection[str], most: float
) -> dict[str, Attachment]:
    found: dict[str, Attachment] = {}
    waiting = [digest]
    while waiting:
        subject = waiting.pop()
        if subject == digest:
            attached = _attached_to(connection, repository_id, subject)
        else:
            attached = _own(connection, repository_id, subject)
            found[subject] = found[subject]._replace(own=tuple(attached))
        for each in attached:
            if each == digest or each in found or each in stay:
                continue
            row = manifests.by_digest(connection, repository_id, each).get()
            if row is not None:
                names = tuple(tag.name for tag in tags.of_manifest(connection, repository_id, row.blob_id).get())
                found[each] = Attachment(each, names)
                if len(found) > most:
                    raise MoreAttached
                waiting.append(each)
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


def _is_owned(attached: Attachment, prefixes: Collection[str]) -> bool:
    """Whether each of its tags begins with one of these."""
    lengths = {len(prefix) for prefix in prefixes} if attached.tags else set[int]()
    return all(any(tag[:length] in prefixes for length in lengths) for tag in attached.tags)


def _is_listed_elsewhere(listed_by: Collection[str], digests: Collection[str]) -> bool:
    return len(listed_by) >= references.LISTED or any(index not in digests for index in listed_by)


def _ordered(found: dict[str, Attachment], listed_by: Mapping[str, Collection[str]]) -> list[Attachment]:
    waiting, ordered = dict(found), list[Attachment]()
    while waiting:
        first = [
            attached
            for attached in waiting.values()
            if not any(before in waiting for before in (*listed_by[attached.digest], *attached.own))
        ]
        for attached in first or list(waiting.values()):
            ordered.append(waiting.pop(attached.digest))
    return ordered

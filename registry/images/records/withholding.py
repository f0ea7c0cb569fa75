"""Withholding: what a manifest names and its repository lacks stays withheld until a record says that it came (I12)."""

from __future__ import annotations

from dataclasses import replace
from time import monotonic
from typing import TYPE_CHECKING

from registry.database import changes, withheld
from registry.images.records.journal import Change, PendingChange
from registry.oci.digest import Digest
from registry.oci.errors import ManifestBlobUnknown
from registry.oci.moment import to_text
from registry.oci.withheld import Withheld

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from registry.database.references import IncompleteRow
    from registry.database.repositories import RepositoryRow
    from registry.database.transaction import Transaction
    from registry.database.withheld import WithheldRow
    from registry.images.repository_memory import RepositoryMemory
    from registry.oci.manifest import Manifest

MOST = 25_000
"""References of one manifest that may be withheld: what one of 4 MiB names, and some 2 MB of a record.

Images have tens of layers, and indexes tens of entries, but there are artifacts with a layer for each of their files.
"""
MOST_IN_REPOSITORY = 100_000
"""References that may be withheld in one repository: some 8 MB of its index.json, which each fold writes."""
COUNTED_SECONDS = 60.0
"""How long a process goes on from what it has counted: to count costs as much as a repository withholds."""
_PART = 1000
"""References in one record about a manifest that was put long ago."""
ABSENCE = "absence"
"""The actor of a record that says what a manifest lacks which a release before this one has put."""
ACTOR = "arrival"
"""The actor of a record that says that a withheld blob has come."""


def named(manifest: Manifest, own: Digest | None = None) -> Withheld:
    """What ``manifest`` names, as what it names it; and its own digest, which is a blob and a manifest once it is put.

    The bytes of an entry that came as a blob do not make it a manifest: what it names in turn was not looked at.
    """
    itself = frozenset() if own is None else frozenset({own})
    blobs = frozenset(blob.digest for blob in manifest.named_blobs())
    return Withheld(blobs | itself, frozenset(child.digest for child in manifest.children()) | itself)


def lacking(manifest: Manifest, members: Collection[str], manifests: Collection[str]) -> Withheld:
    """What ``manifest`` names and its repository, with these blobs and manifests, does not have."""
    every = named(manifest)
    return Withheld(
        frozenset(blob for blob in every.blobs if blob not in members),
        frozenset(child for child in every.manifests if child not in manifests),
    )


def require_room(
    connection: Transaction,
    repository: RepositoryRow,
    lacks: Withheld,
    rows: Collection[WithheldRow],
    memory: RepositoryMemory,
) -> None:
    """Raises ManifestBlobUnknown where more would be withheld than may be. The repository is locked.

    ``rows``: of what is withheld, or just released, those that the manifest names; these count once. What all
    processes withhold in COUNTED_SECONDS may come on top.
    """
    if len(lacks) > MOST:
        raise _no_room(lacks, len(lacks), f"its manifest names, and at most {MOST}")
    new = len(lacks - withheld.collected(row for row in rows if row.released is None))
    if not new:
        return
    now = monotonic()
    with memory.of(repository.name) as notes:
        at, count = notes.withheld
    if at is None or now - at >= COUNTED_SECONDS or count + new > MOST_IN_REPOSITORY:
        at, count = now, withheld.count(connection, repository.id).get()
    if count + new > MOST_IN_REPOSITORY:
        raise _no_room(lacks, count + new, f"its manifests name, and at most {MOST_IN_REPOSITORY}")
    with memory.of(repository.name) as notes:
        notes.withheld = at, count + new


def _no_room(lacks: Withheld, count: int, most: str) -> ManifestBlobUnknown:
    message = f"the repository would lack {count} of what {most} may be missing"
    return ManifestBlobUnknown(message, detail={"missing": sorted(lacks.blobs | lacks.manifests)[:100]})


def withhold(
    connection: Transaction, repository: RepositoryRow, manifest: IncompleteRow, lacks: Withheld, now: float
) -> list[PendingChange]:
    """Write down what a manifest that was put long ago lacks, in records of a bounded size.

    In the caller's transaction, with the repository locked alone. What is returned has to be recorded.
    """
    withheld.add(connection, repository.id, lacks)
    put = Change.put(Digest(manifest.digest), manifest.media_type, manifest.size, (), actor=ABSENCE)
    return [
        replace(put, withheld=part, pushed=to_text(manifest.pushed_at)).allot(connection, repository, now)
        for part in _parts(lacks)
    ]


def _parts(lacks: Withheld) -> Iterator[Withheld]:
    """The same references, at most _PART in each part."""
    blobs, manifests, most = sorted(lacks.blobs), sorted(lacks.manifests), _PART // 2
    for start in range(0, max(len(blobs), len(manifests)), most):
        yield Withheld(frozenset(blobs[start : start + most]), frozenset(manifests[start : start + most]))


def release(connection: Transaction, repository: RepositoryRow, row: WithheldRow, now: float) -> PendingChange | None:
    """Write down that a blob has come, which is a member by now; ``row`` withholds it, or did until a moment ago.

    In the caller's transaction, with the repository locked. What is returned has to be recorded before the client hears
    that the blob is there. None if nothing has to be: no manifest names it.
    """
    if row.released is not None:  # by a push whose record may not be on storage yet
        line = changes.find(connection, repository.id, row.released).get()
        return None if line is None else PendingChange(repository._replace(sequence=row.released), line)
    naming = withheld.naming(connection, repository.id, row.digest).get()
    if naming is None:
        return None
    released = Withheld(blobs=frozenset({Digest(row.digest)}))
    change = Change.put(Digest(naming.digest), naming.media_type, naming.size, (), actor=ACTOR)
    allotted = replace(change, released=released, pushed=to_text(naming.pushed_at)).allot(connection, repository, now)
    withheld.release(connection, repository.id, released, sequence=allotted.repository.sequence)
    return allotted

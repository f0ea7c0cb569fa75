"""Referrers: a page of the manifests that name a subject, bounded in entries and in bytes.

Tests: ``tests/api/http/test_pagination.py``, ``tests/images/test_manifests.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

import orjson

from registry.database import manifests

if TYPE_CHECKING:
    from registry.database.manifests import ReferrerRow
    from registry.database.transaction import Transaction
    from registry.oci.digest import Digest

_BATCH: Final = 64
"""Rows that are read at once: with the annotations of each at most 4 MiB of ASCII, whatever the size of a page."""


class Referrers(NamedTuple):
    """A page."""

    descriptors: list[bytes]
    """JSON objects, by digest."""
    last: str
    """The digest of the last one; empty when there is none."""
    more: bool
    """Whether another page follows."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which page of them."""

    artifact_type: str | None
    """None for every type."""
    last: str
    """The digest after which it begins; empty for the first."""
    count: int
    """Entries at most."""
    max_bytes: int
    """Bytes of its entries together, unless the first is larger."""


NONE: Final = Referrers([], "", more=False)


def page(connection: Transaction, repository_id: int, subject: Digest, asked: Wanted) -> Referrers:
    """The descriptors of a page."""
    found: list[bytes] = []
    size, shown = 0, asked.last
    while True:
        wanted = min(_BATCH, asked.count + 1 - len(found))
        rows = manifests.referrers(
            connection, repository_id, subject, artifact_type=asked.artifact_type, last=shown, count=wanted
        ).get()
        for row in rows:
            descriptor = _descriptor(row)
            size += len(descriptor)
            if len(found) == asked.count or (found and size > asked.max_bytes):
                return Referrers(found, shown, more=True)
            found.append(descriptor)
            shown = row.digest
        if len(rows) < wanted:
            return Referrers(found, shown, more=False)


def _descriptor(row: ReferrerRow) -> bytes:
    """As the list has it. Annotations that the row does not have are in the manifest alone."""
    descriptor: dict[str, object] = {"mediaType": row.media_type, "digest": row.digest, "size": row.size}
    if row.artifact_type is not None:
        descriptor["artifactType"] = row.artifact_type
    annotations = orjson.loads(row.annotations or "{}")
    if annotations:
        descriptor["annotations"] = annotations
    return orjson.dumps(descriptor)

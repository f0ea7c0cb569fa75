"""Named digests: what manifests name that has no row of its own, as far as can be said in a few MiB.

A repository that was half read, and one with sparse content, name digests of which no blob is known. There may be
millions of them, and an index over all references would cost every push a write for each of its layers. So they are
gathered by one pass over the references, in a filter that may say yes by mistake, and never no.

Tests: ``tests/maintenance/collection/steps/test_orphans.py``.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

from registry.database.collection import orphans

if TYPE_CHECKING:
    from collections.abc import Iterator

    from registry.database.engine import Database

BYTES: Final = 4 << 20
"""Memory of the filter: with a million digests it is wrong about one in 5,000, with ten million about every third."""
PAGE: Final = 1000
_HASHES: Final = 4


class NamedDigests:
    """A filter of digests. For one thread."""

    def __init__(self) -> None:
        self._bits = bytearray(BYTES)

    @classmethod
    def read(cls, database: Database) -> NamedDigests:
        """Those of all repositories. Raises DatabaseError."""
        made, last = cls(), -1
        while True:
            with database.autocommit() as connection:
                ids = orphans.repositories(connection, after=last, count=PAGE).get()
            if not ids:
                return made
            for repository_id in ids:
                made._read(database, repository_id)
            last = ids[-1]

    def add(self, digest: str) -> None:
        """From now on this one is named."""
        for place in _places(digest):
            self._bits[place >> 3] |= 1 << (place & 7)

    def __contains__(self, digest: str) -> bool:
        """Whether it is named, or seems so."""
        return all(self._bits[place >> 3] & (1 << (place & 7)) for place in _places(digest))

    def _read(self, database: Database, repository_id: int) -> None:
        after = ""
        while True:
            with database.autocommit() as connection:
                found = orphans.rowless(connection, repository_id, after=after, count=PAGE).get()
            for digest in found:
                self.add(digest)
            if len(found) < PAGE:
                return
            after = found[-1]


def _places(digest: str) -> Iterator[int]:
    """The bits of a digest."""
    spread = hashlib.blake2b(digest.encode(), digest_size=8 * _HASHES).digest()
    for start in range(0, len(spread), 8):
        yield int.from_bytes(spread[start : start + 8], "big") % (BYTES * 8)

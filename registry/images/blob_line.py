"""A line of the journal of migrations: where a blob is (proposal 0005)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import orjson

from registry.images.journal_document import flag, number, text, understanding
from registry.oci.digest import Digest

if TYPE_CHECKING:
    from collections.abc import Iterable

PLACES: Final = 3
"""Places that a line of blobs names at most."""


class Place(NamedTuple):
    """An object of the original with the bytes of a blob."""

    key: str
    signature: str
    verified: bool
    """We have hashed the object with this signature."""


class BlobLine(NamedTuple):
    """Where a blob is, the original's places at most PLACES of them, by key."""

    digest: Digest
    size: int
    """Bytes."""
    places: tuple[Place, ...]
    copy: str | None = None
    """The signature of our verified copy at ``storage/blobs/``, if there is one."""

    def serialise(self) -> bytes:
        """One line of a shard, line feed included."""
        document = {
            "digest": str(self.digest),
            "size": self.size,
            "at": [{"key": at.key, "signature": at.signature, "verified": at.verified} for at in self.places],
            "copy": None if self.copy is None else {"signature": self.copy},
        }
        return orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE)

    @classmethod
    def parse(cls, line: bytes, key: str = "") -> BlobLine:
        """Read a line of a shard. Raises UnknownJournal."""
        with understanding(key):
            document = orjson.loads(line)
            copy = document["copy"]
            return cls(
                Digest.parse(text(document["digest"])),
                number(document["size"]),
                tuple(
                    Place(text(at["key"]), text(at["signature"]), verified=flag(at["verified"]))
                    for at in document["at"]
                ),
                None if copy is None else text(copy["signature"]),
            )


def shard_of(digest: Digest) -> str:
    """The name of the shard that a blob is in: ``sha256-ab``."""
    return f"{digest.algorithm}-{digest.encoded[:2]}"


def serialise_shard(lines: Iterable[BlobLine]) -> bytes:
    """The content of a shard: one line for each digest, sorted."""
    return b"".join(line.serialise() for line in sorted(lines))

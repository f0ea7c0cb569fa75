"""What an S3 bucket holds of an upload: kept with its session, so that any process can go on.

Tests: ``tests/storage/s3/test_multipart.py``.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import orjson


class Part(NamedTuple):
    """What the store said of a part that it has."""

    tag: str
    crc32c: str = ""
    """As it was sent; empty where none was."""


@dataclasses.dataclass
class S3UploadState:
    """Whole parts first, then pieces, then the tail of the session."""

    target: str = ""
    """Where the parts go; empty: there are none."""
    multipart: str = ""
    """The store's name of the multipart upload."""
    part_size: int = 0
    tags: list[str] = dataclasses.field(default_factory=list)
    """ETags of the parts."""
    checked: bool = False
    """Each part was sent with a CRC-32C."""
    sums: list[str] = dataclasses.field(default_factory=list)
    """Checksums of the parts, in the same order; empty ones if ``checked`` is not set."""
    pieces: list[tuple[str, int]] = dataclasses.field(default_factory=list)
    """Keys and sizes of what comes after the parts."""
    readable: bool = False
    """Parts are objects of their own, so that every process can read them; there is no multipart upload."""
    segments: list[tuple[str, int]] = dataclasses.field(default_factory=list)
    """Names, below the prefix of the upload, and sizes of such parts."""
    spent: bool = False
    """There have been pieces that are in parts now; their objects are still there."""

    @classmethod
    def parse(cls, note: str) -> S3UploadState:
        """From a state."""
        if not note:
            return cls()
        plan = cls(**orjson.loads(note))
        plan.pieces = [(key, size) for key, size in plan.pieces]
        plan.segments = [(name, size) for name, size in plan.segments]
        plan.sums = plan.sums or [""] * len(plan.tags)
        return plan

    def note(self) -> str:
        """For a state."""
        if not self.target and not self.pieces and not self.readable:
            return ""
        noted = dataclasses.asdict(self) | ({} if self.checked else {"sums": []})
        if not self.readable:  # a release before this one knows no such field
            del noted["readable"], noted["segments"]
        return orjson.dumps(noted).decode()

    def begin_part(self) -> int:
        """The number of one more part, which is not there yet."""
        self.tags.append("")
        self.sums.append("")
        return len(self.tags)

    def end_part(self, number: int, part: Part) -> None:
        """It is there now."""
        self.tags[number - 1], self.sums[number - 1] = part

    @property
    def parts(self) -> list[Part]:
        """Those that are there."""
        return list(map(Part, self.tags, self.sums))

    @property
    def in_parts(self) -> int:
        """Bytes in whole parts."""
        return len(self.tags) * self.part_size + sum(size for _, size in self.segments)

    @property
    def in_pieces(self) -> int:
        """Bytes in pieces."""
        return sum(size for _, size in self.pieces)

    @property
    def size(self) -> int:
        """Bytes in the store."""
        return self.in_parts + self.in_pieces

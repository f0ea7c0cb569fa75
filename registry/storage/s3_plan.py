"""What an S3 bucket holds of an upload: kept with its session, so that any process can go on."""

from __future__ import annotations

import dataclasses

import orjson


@dataclasses.dataclass
class Plan:
    """Whole parts first, then pieces, then the tail of the session."""

    target: str = ""
    """Where the parts go; empty: there are none."""
    multipart: str = ""
    """The store's name of the multipart upload."""
    part_size: int = 0
    tags: list[str] = dataclasses.field(default_factory=list)
    """Of the parts."""
    pieces: list[tuple[str, int]] = dataclasses.field(default_factory=list)
    """Keys and sizes of what comes after the parts."""
    spent: bool = False
    """There have been pieces that are in parts now; their objects are still there."""

    @classmethod
    def parse(cls, note: str) -> Plan:
        """From a state."""
        if not note:
            return cls()
        plan = cls(**orjson.loads(note))
        plan.pieces = [(key, size) for key, size in plan.pieces]
        return plan

    def note(self) -> str:
        """For a state."""
        return orjson.dumps(dataclasses.asdict(self)).decode() if self.target or self.pieces else ""

    @property
    def in_parts(self) -> int:
        """Bytes in whole parts."""
        return len(self.tags) * self.part_size

    @property
    def in_pieces(self) -> int:
        """Bytes in pieces."""
        return sum(size for _, size in self.pieces)

    @property
    def size(self) -> int:
        """Bytes in the store."""
        return self.in_parts + self.in_pieces

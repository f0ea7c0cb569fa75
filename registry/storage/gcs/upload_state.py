"""Upload state: the parts of an upload in the bucket, kept with its session, so that any process can go on.

Tests: ``tests/storage/gcs/test_upload.py``.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import orjson

MOST_SOURCES = 32
"""Objects that one request composes."""


class Part(NamedTuple):
    """Some of the bytes."""

    name: str
    """The name of its object, below the prefix of the upload."""
    size: int
    level: int
    """How often its bytes have been composed."""


@dataclasses.dataclass
class GCSUploadState:
    """Parts in the order of their bytes; after them comes the tail of the session."""

    parts: list[Part] = dataclasses.field(default_factory=list)
    spent: bool = False
    """There are, or have been, objects that are in ``parts`` no more."""

    @classmethod
    def parse(cls, note: str) -> GCSUploadState:
        """From a state."""
        if not note:
            return cls()
        document = orjson.loads(note)
        return cls([Part(*part) for part in document["parts"]], document["spent"])

    def note(self) -> str:
        """For a state: empty where the store holds nothing."""
        if not self.parts and not self.spent:
            return ""
        return orjson.dumps({"parts": [[*part] for part in self.parts], "spent": self.spent}).decode()

    @property
    def size(self) -> int:
        """Bytes in the store."""
        return sum(part.size for part in self.parts)

    def due(self) -> int:
        """How many parts at the end are to become one now, so that there are never many; 0: none.

        32 of one level become one of the next: after 1,024 parts there are 1, after 1,023 there are 62.
        """
        last = self.parts[-MOST_SOURCES:]
        return MOST_SOURCES if len(last) == MOST_SOURCES and last[0].level == last[-1].level else 0

    def merge(self, count: int, name: str) -> None:
        """The last ``count`` parts have been composed into an object of this name."""
        merged = self.parts[-count:]
        size, level = sum(part.size for part in merged), max(part.level for part in merged)
        self.parts[-count:] = [Part(name, size, level + 1)]
        self.spent = True

    def cut(self, offset: int) -> tuple[Part, int] | None:
        """Drop all parts that reach beyond ``offset``.

        Returns the one that begins before it, if there is one, and how many of its bytes lie before it.
        """
        while self.parts and self.size > offset:
            dropped = self.parts.pop()
            self.spent = True
            if self.size < offset:
                return dropped, offset - self.size
        return None

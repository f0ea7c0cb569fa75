"""``state.json`` of a migration: how far it is, and whether changes may commit (proposal 0005)."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

import orjson

from registry.images.journal_document import VERSION, number, text, understanding, versioned


class Phase(enum.StrEnum):
    """How far a migration is."""

    ADOPTING = "adopting"
    ADOPTED = "adopted"
    CONSOLIDATED = "consolidated"
    ROLLING_BACK = "rolling-back"
    ROLLED_BACK = "rolled-back"
    FINALIZING = "finalizing"
    FINALIZED = "finalized"


@dataclass(frozen=True, slots=True)
class ReadOnly:
    """Why no change may commit, and from when on."""

    since: str
    """RFC 3339 in UTC."""
    reason: str
    """For clients."""


@dataclass(frozen=True, slots=True)
class MigrationState:
    """What ``state.json`` of a migration says."""

    id: str
    """``0001``, ``0002``, ..."""
    revision: int
    """Raised by one with each write of it."""
    state: Phase
    layout: str
    """The kind of the original's layout."""
    prefixes: tuple[str, ...]
    """Below which no repository of ours may be."""
    passes: int
    began: str
    changed: str
    """RFC 3339 in UTC, as ``began``."""
    writer: str
    """The process that wrote it: host, process id, and a number by chance."""
    read_only: ReadOnly | None = None
    counts: dict[str, int] = field(default_factory=dict, hash=False)

    def serialise(self) -> bytes:
        """The content of ``state.json``."""
        read_only = self.read_only
        document = {
            "version": VERSION,
            "id": self.id,
            "revision": self.revision,
            "state": self.state,
            "layout": self.layout,
            "prefixes": list(self.prefixes),
            "passes": self.passes,
            "began": self.began,
            "changed": self.changed,
            "writer": self.writer,
            "read_only": None if read_only is None else {"since": read_only.since, "reason": read_only.reason},
            "counts": self.counts,
        }
        return orjson.dumps(document)

    @classmethod
    def parse(cls, data: bytes, key: str = "") -> MigrationState:
        """Read a ``state.json``; ``key`` names it in messages. Raises UnknownJournal."""
        with understanding(key):
            document = versioned(data)
            shut = document["read_only"]
            return cls(
                id=text(document["id"]),
                revision=number(document["revision"]),
                state=Phase(document["state"]),
                layout=text(document["layout"]),
                prefixes=tuple(text(prefix) for prefix in document["prefixes"]),
                passes=number(document["passes"]),
                began=text(document["began"]),
                changed=text(document["changed"]),
                writer=text(document["writer"]),
                read_only=None if shut is None else ReadOnly(text(shut["since"]), text(shut["reason"])),
                counts={text(name): number(count) for name, count in document["counts"].items()},
            )

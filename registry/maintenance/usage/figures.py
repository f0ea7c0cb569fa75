"""*Figures*: what is told of the usage of a repository, or of several together.

Tests: ``tests/maintenance/usage/test_repository_usage.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from registry.oci.quotas import shown

if TYPE_CHECKING:
    from collections.abc import Iterator

    from registry.database.usage.blobs import BlobUse
    from registry.maintenance.usage.places import Taken


@dataclass(slots=True)
class Figures:
    """All in bytes."""

    logical: int = 0
    """Every manifest, and every blob as often as a manifest names it: what it would take without sharing."""
    stored: int = 0
    """What is on storage, each blob once: members and what the trash needs."""
    own: int = 0
    """The members that no other repository has."""
    unreferenced: int = 0
    """What no manifest names, and no run of the collection has found yet."""
    doomed: int = 0
    """What no manifest names, since a moment that is written down."""
    trash: int = 0
    """What no manifest names, and the trash needs."""
    frees: int = 0
    """What would leave storage, as it is now, with everything that is counted here."""

    quarantine: int = 0
    """What is on storage and is not served any more, since it was found wrong; no part of any other figure."""

    @property
    def dedupe(self) -> float | None:
        """How often a byte on storage is used; None where there is none."""
        return round(self.logical / self.stored, 3) if self.stored else None

    def add(self, use: BlobUse, taken: Taken) -> None:
        """Count a blob."""
        self.stored += taken.bytes
        self.frees += taken.freed
        if use.is_member and not use.elsewhere:
            self.own += taken.bytes
        if use.is_member and use.is_named:
            return
        if use.in_trash:
            self.trash += taken.bytes
        elif use.is_doomed:
            self.doomed += taken.bytes
        else:
            self.unreferenced += taken.bytes

    def document(self, *, knows_others: bool = True) -> dict[str, Any]:
        """As a JSON value; without ``knows_others`` nothing that says what other repositories have."""
        return {
            "logical": self.logical,
            "stored": self.stored,
            "own": self.own if knows_others else None,
            "waiting": {"unreferenced": self.unreferenced, "doomed": self.doomed, "trash": self.trash},
            "quarantine": self.quarantine,
            "dedupe": self.dedupe,
            "frees": self.frees if knows_others else None,
        }

    def lines(self) -> Iterator[str]:
        """The same for a person."""
        yield f"  logical       {shown(self.logical)}"
        yield f"  stored        {shown(self.stored)}" + (f", dedupe {self.dedupe}" if self.dedupe is not None else "")
        yield f"  own           {shown(self.own)}"
        for name in ("unreferenced", "doomed", "trash", "quarantine"):
            if getattr(self, name):
                yield f"  {name:13} {shown(getattr(self, name))}"
        yield f"  frees         {shown(self.frees)}"

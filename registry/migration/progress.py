"""How far a phase has come."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Progress:
    """One moment of one phase."""

    phase: str
    """A word for a person: ``listing``."""
    objects: int
    of: int | None = None
    """None while nobody knows."""
    bytes: int = 0
    of_bytes: int = 0


OnProgress = Callable[[Progress], None]
"""Called often, in the thread that does the work; it is to return at once."""


def silent(_progress: Progress) -> None:
    """Nobody is told."""

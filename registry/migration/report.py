"""How a part of a migration ended: what was done and what is wrong, or why it was not done."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from registry.migration.problems import Note, Problem


@dataclass(slots=True)
class Report:
    """What a run, or one phase of it, did. With problems the exit code is 1: all else works."""

    state: str = ""
    """Of the migration, now."""
    counts: dict[str, int] = field(default_factory=dict)
    """What was done, by a word for each: ``copied``, ``copied_bytes``."""
    problems: list[Problem] = field(default_factory=list)
    """Sorted; what could not be migrated, and stays as it is."""
    notes: list[Note] = field(default_factory=list)


class Refused(Exception):
    """Going on would lose something, or the state of the migration forbids it: exit code 3, nothing was done."""

    def __init__(self, reason: str, names: Iterable[str] = ()) -> None:
        super().__init__(reason)
        self.names = list(names)
        """What it is about: repositories, keys, or losses, for a person to read."""


class Unfinished(Exception):
    """The same command has to be run again, now or when the reason says: exit code 4."""

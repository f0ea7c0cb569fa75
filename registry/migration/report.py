"""Report: how a part of a migration ended, with its problems and notes, or why it was not done.

Tests: ``tests/migration/test_command.py``.
"""

from __future__ import annotations

import enum
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable


class ProblemKind(enum.StrEnum):
    """The kinds of problems, as docs/migration.md explains them; each of them is exit code 1."""

    MISSING_BLOB = "missing-blob"
    TRUNCATED_BLOB = "truncated-blob"
    WRONG_DIGEST = "wrong-digest"
    STUB_WITHOUT_BYTES = "stub-without-bytes"
    SIZE_CONFLICT = "size-conflict"
    DANGLING_LINK = "dangling-link"
    UNREADABLE_LINK = "unreadable-link"
    UNREADABLE_INDEX = "unreadable-index"
    UNREADABLE_MANIFEST = "unreadable-manifest"
    UNSUPPORTED_MANIFEST = "unsupported-manifest"
    INVALID_NAME = "invalid-name"
    INVALID_TAG = "invalid-tag"
    NAME_COLLISION = "name-collision"
    UNKNOWN_OBJECT = "unknown-object"


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """Content that cannot be migrated as it is. Ordered, so that the same bucket gives the same list."""

    kind: ProblemKind
    repository: str
    """Its name; empty if the object belongs to none, or to several."""
    key: str
    """The key below the root; empty if no object is there."""
    digest: str
    """The digest of the content; empty if there is none."""
    detail: str
    """What was found, for a person."""

    def document(self) -> dict[str, str]:
        """The problem as a line of a plan, or of a migration's journal."""
        return {"problem": self.kind, **{name: value for name, value in asdict(self).items() if name != "kind"}}

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> Problem:
        """The problem of such a line. Raises ValueError."""
        try:
            values = {name: str(document[name]) for name in ("repository", "key", "digest", "detail")}
            return cls(ProblemKind(document["problem"]), **values)
        except KeyError as error:
            raise ValueError(f"a problem without {error}") from error


@dataclass(frozen=True, slots=True)
class Note:
    """A fact for the operator that prevents no migration."""

    kind: str
    """``two-prefixes`` or ``unlinked``."""
    count: int
    detail: str
    """For a person, with examples."""


@dataclass(slots=True)
class Report:
    """What a run, or one phase of it, did. With problems the exit code is 1: all else works."""

    state: str = ""
    """The state of the migration."""
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
        """The repositories, keys, or losses that it is about, for a person."""


class Unfinished(Exception):
    """The same command has to be run again, now or when the reason says: exit code 4."""

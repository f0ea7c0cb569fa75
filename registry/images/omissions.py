"""Omissions: what storage has and the registry does not serve. Each is said once, counted, and listed by a rebuild."""

from __future__ import annotations

import enum
import threading
from typing import TYPE_CHECKING, NamedTuple

import structlog
from cachetools import LRUCache

from registry.oci.escaping import quoted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

LISTED = 1000
"""Omissions of one place that are listed; more are told by their number."""
REMEMBERED = 100_000
"""Omissions that a process remembers, so that it says each once; some 500 bytes each at most."""

LINK = "is a symbolic link, which is not followed"
"""The reason of what was left out without a look at where it leads."""

log = structlog.get_logger(__name__)


class Kind(enum.StrEnum):
    """What is left out; the label of a metric."""

    DIRECTORY = "directory"
    """A directory that is not walked: whether there are repositories in it is not known."""
    REPOSITORY = "repository"
    """A repository that is not served at all."""
    ENTRY = "entry"
    """An entry of an ``index.json``, or its reference name."""
    MANIFEST = "manifest"
    """A manifest whose bytes are not those of its digest, or are no manifest."""
    UNREADABLE = "unreadable"
    """A manifest that storage does not let the registry read, so that it may be right."""
    BLOB = "blob"
    UPLOAD = "upload"
    """An abandoned upload that cannot be removed."""


class Source(enum.Enum):
    """Which look found it: the next one of the same kind replaces what it found."""

    WALK = "walk"
    """For repositories, over all of storage."""
    TOUCH = "touch"
    """At a repository as a whole."""
    CONTENT = "content"
    """At what a repository holds."""
    REFERENCES = "references"
    """At what manifests name that a release before this one has put."""
    UPLOADS = "uploads"
    """For abandoned uploads."""
    REMOVAL = "removal"
    """For deletions that a killed process began."""


class Omission(NamedTuple):
    """One thing that is left out."""

    kind: Kind
    where: str
    """The repository, or the directory."""
    what: str
    """The digest, tag or name that is concerned, safe to log; empty for all of it."""
    reason: str
    tags: tuple[str, ...] = ()
    """The tags that point at it, if it is an unreadable manifest."""

    def __str__(self) -> str:
        return ": ".join(filter(None, (self.where, self.what, self.reason)))


class Omissions:
    """What one process has found. Any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._found: LRUCache[tuple[Source, str], tuple[str, tuple[Omission, ...]]] = LRUCache(REMEMBERED, _size)
        self.count: Callable[[str], object] = str
        """Hears of the kind of each that is said."""

    def note(self, source: Source, where: str, found: Sequence[Omission], *, version: str = "") -> None:
        """Replace what ``source`` found at ``where``, and say what is new in it.

        ``version`` is that of what was looked at; in another version everything is new.
        """
        key, listed = (source, where), _listed(where, found)
        with self._lock:
            before = self._found.pop(key, None)
            if listed:
                self._found[key] = version, listed
        known = frozenset(before[1]) if before is not None and before[0] == version else frozenset()
        for omission in listed:
            if omission not in known:
                self.count(str(omission.kind))
                log.warning(
                    "something on storage is not served",
                    kind=str(omission.kind),
                    place=omission.where,
                    what=omission.what,
                    reason=omission.reason,
                )

    def of(self, where: str) -> list[Omission]:
        """What was found last at a repository or a directory."""
        with self._lock:
            return [omission for source in Source for omission in self._found.get((source, where), ("", ()))[1]]

    def unreadable(self, repository: str, reference: str) -> Omission | None:
        """The manifest with this digest or tag, where storage did not let it be read."""
        for omission in self.of(repository):
            if omission.kind is Kind.UNREADABLE and (reference == omission.what or reference in omission.tags):
                return omission
        return None


def shown(text: str) -> str:
    """A name that another tool wrote, as an omission has it."""
    return quoted(text)


def _listed(where: str, found: Sequence[Omission]) -> tuple[Omission, ...]:
    """The first ones without repetition, and how many more there are."""
    unique = list(dict.fromkeys(found))
    if len(unique) <= LISTED:
        return tuple(unique)
    more = Omission(unique[LISTED].kind, where, "", f"and {len(unique) - LISTED} more")
    return (*unique[:LISTED], more)


def _size(value: tuple[str, tuple[Omission, ...]]) -> int:
    return len(value[1])

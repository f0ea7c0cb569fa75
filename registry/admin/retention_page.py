"""*Retention page*: a part of what rules decide, bounded in tags and bytes however many tags a repository has.

A page ends after any tag; the next one goes on there. What is decided is the same wherever pages end, since each looks
at all of the repositories that it has tags of.

Tests: ``tests/admin/test_retention.py``.
"""

from __future__ import annotations

from itertools import chain
from time import monotonic
from typing import TYPE_CHECKING, Final, NamedTuple

import orjson

from registry.maintenance.retention.report import entry_of, problem_of
from registry.maintenance.retention.run import RetentionRun
from registry.oci.errors import PaginationInvalid
from registry.oci.name import is_name
from registry.oci.tag import is_tag

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from registry.config.retention_sections import RetentionSettings
    from registry.images.registry import Registry
    from registry.maintenance.retention.plan import RepositoryPlan

MOST_TAGS: Final = 10_000
"""Tags of a page."""
MOST_BYTES: Final = 4 << 20
"""Bytes of their entries, but for a part of the last one."""
SECONDS: Final = 5.0
"""Seconds after which a page ends with the repository that it is at: each may cost a look at storage."""


class Position(NamedTuple):
    """The last that a page tells of."""

    repository: str
    tag: str = ""
    """"" for all of it."""

    @classmethod
    def parse(cls, text: str) -> Position:
        """A repository, or a tag of one. Raises PaginationInvalid."""
        repository, colon, tag = text.partition(":")
        if colon and not (is_name(repository) and is_tag(tag)):
            raise PaginationInvalid("last names neither a repository nor a tag of one")
        return cls(repository, tag)

    def __str__(self) -> str:
        """As ``parse`` reads it."""
        return f"{self.repository}:{self.tag}" if self.tag else self.repository


class RetentionPage(NamedTuple):
    """A part of the decisions."""

    document: bytes
    """A JSON object."""
    last: Position | None
    """Where the next one goes on; None if there is none."""


class RetentionPages:
    """For one page, in one thread."""

    def __init__(
        self, registry: Registry, retention: RetentionSettings, is_visible: Callable[[str], bool], *, only: str
    ) -> None:
        """``only`` names a repository that is asked for, or is ""."""
        self._run = RetentionRun(registry, retention, applies=False)
        self._is_visible = is_visible
        self._only = only
        self._deadline = monotonic() + SECONDS
        self._parts: list[bytes] = []
        self._tags_left = MOST_TAGS
        self._bytes_left = MOST_BYTES
        self._problems: list[str] = []

    def read(self, last: Position, count: int) -> RetentionPage:
        """The decisions for at most ``count`` repositories after ``last``. Raises DatabaseError.

        There may be none after the ``last`` that the answer names.
        """
        following = self._fill(last, count) if count else None
        named = orjson.dumps(None if following is None else str(following))
        parts = (b",".join(self._parts), orjson.dumps(self._problems), named)
        return RetentionPage(b'{"tags":[%s],"problems":%s,"next":%s}' % parts, following)

    def _fill(self, last: Position, count: int) -> Position | None:
        for number, plan in enumerate(self._run.plans(self._names(last)), 1):
            after = last.tag if plan.repository == last.repository else ""
            if plan.problem is not None and not after:
                self._problems.append(problem_of(plan))
            reached = self._add(plan, after)
            if reached is not None:
                return reached
            if not self._only and (number >= count or monotonic() > self._deadline):
                return Position(plan.repository)
        return None

    def _names(self, last: Position) -> Iterator[str]:
        """The repository of ``last``, where it has more tags, and those after it."""
        if self._only:
            return filter(self._is_visible, [self._only] if is_name(self._only) else [])
        begun = [last.repository] if last.tag else []
        return filter(self._is_visible, chain(begun, self._run.names(last.repository)))

    def _add(self, plan: RepositoryPlan, after: str) -> Position | None:
        """Add the tags of a repository after that one. Returns where the page is full; None if it has them all."""
        for page in self._run.pages(plan, after):
            entries: list[bytes] = []
            for each in page:
                if self._tags_left <= 0 or self._bytes_left <= 0:
                    break
                entries.append(orjson.dumps(entry_of(plan.repository, each)))
                self._tags_left -= 1
                self._bytes_left -= len(entries[-1])
                after = each.decision.tagged.tag
            if entries:
                self._parts.append(b",".join(entries))  # each one has 4 KiB until it is copied
            if self._tags_left <= 0 or self._bytes_left <= 0:
                return Position(plan.repository, after)
        return None

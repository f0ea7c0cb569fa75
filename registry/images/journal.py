"""The records of a repository on storage: what makes a change durable before its client hears of it (I11)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from registry.images.several import map_several
from registry.oci.record import Record
from registry.storage.errors import AlreadyExists, PathNotFound

if TYPE_CHECKING:
    from collections.abc import Iterator

    from registry.images.stores import Stores

MAX_SEGMENT = 512 << 20
"""Bytes of one journal object at most; larger means that it is not ours."""

log = structlog.get_logger(__name__)


class NumberTaken(Exception):
    """Storage has another record of that number: the database that gave it is behind storage."""


class Journal:
    """Records by repository. Writing one twice is harmless: readers take each sequence number once."""

    def __init__(self, stores: Stores) -> None:
        self._driver = stores.driver
        self._layout = stores.layout

    def write(self, repository: str, sequence: int, line: bytes) -> None:
        """Make a record durable. Raises NumberTaken, where records are objects of their own."""
        key = self._layout.record(repository, sequence)
        if self._driver.capabilities.appends:
            self._driver.append(key, line)
            return
        try:
            self._driver.write(key, line, if_absent=True)
        except AlreadyExists as error:
            if self._driver.read(key, max_bytes=MAX_SEGMENT)[0] != line:
                raise NumberTaken(repository, sequence) from error

    def after(self, repository: str, sequence: int) -> dict[int, bytes]:
        """The lines of every record above ``sequence``, in the order of their numbers.

        A line that does not parse is one whose writer was killed: nobody was answered, so it is no record.
        """
        found: dict[int, bytes] = {}
        names = self._names(repository, after=sequence)
        following = [*map(self._layout.first_of, names[1:]), sequence + 1]
        wanted = [name for name, first in zip(names, following, strict=True) if first > sequence] if names else []
        for lines in map_several(self._driver.capabilities, lambda name: list(self._lines(repository, name)), wanted):
            found.update({number: line for number, line in lines if number > sequence})
        return dict(sorted(found.items()))

    def last(self, repository: str) -> int:
        """The highest sequence number that storage knows; 0 when there is none."""
        for name in reversed(self._names(repository)):
            highest = max((number for number, _ in self._lines(repository, name)), default=0)
            if highest:
                return highest
        return 0

    def has_records(self, repository: str) -> bool:
        """Whether storage has any record of a repository."""
        return next(iter(self._driver.list(self._layout.journal(repository))), None) is not None

    def _names(self, repository: str, *, after: int = 0) -> list[str]:
        prefix = self._layout.journal(repository)
        if self._driver.capabilities.appends:
            names = [child.name for child in self._driver.children(prefix) if not (child.is_prefix or child.is_link)]
        else:
            found = self._driver.list(prefix, after=self._layout.record(repository, after))
            names = [key.removeprefix(f"{prefix}/") for key, _ in found]
        return [name for name in names if self._layout.first_of(name) >= 0]

    def _lines(self, repository: str, name: str) -> Iterator[tuple[int, bytes]]:
        try:
            data, _ = self._driver.read(f"{self._layout.journal(repository)}/{name}", max_bytes=MAX_SEGMENT)
        except PathNotFound:
            return
        for line in data.splitlines():
            try:
                yield Record.parse(line).sequence, line + b"\n"
            except ValueError:
                log.warning("a journal line is cut short and was skipped", repository=repository, journal=name)

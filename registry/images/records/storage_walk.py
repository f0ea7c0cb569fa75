"""Storage walk: the repositories that storage has, found by their directories.

Tests: ``tests/images/records/test_withholding.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry.images.omissions import LINK, Kind, Omission, Source, shown
from registry.images.records.journal import Journal
from registry.oci.name import is_name
from registry.storage.errors import PathRefused, StorageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from registry.images.backends import Backends
    from registry.images.source_locations import SourceLocations
    from registry.images.write_gate import WriteGate
    from registry.storage.driver import Child


class StorageWalk:
    """Any thread; each walk begins anew."""

    def __init__(self, backends: Backends, write_gate: WriteGate, source_locations: SourceLocations) -> None:
        self._backends = backends
        self._write_gate = write_gate
        self._source_locations = source_locations
        self._journal = Journal(backends)

    def repositories(self) -> Iterator[str]:
        """Walk storage for repositories, in no particular order of time.

        Also those of another registry, which have an index too; what a migration has found of these is left out. A
        directory that cannot be read is an omission of the walk, as a link is; any other error raises (I7).
        """
        self._source_locations.ensure_row()
        sources, omissions = set(self._write_gate.prefixes()), list[Omission]()
        waiting = [""]
        while waiting:
            parent = waiting.pop()
            try:
                children = list(self._backends.driver.children(parent))
            except PathRefused as error:
                omissions.append(Omission(Kind.DIRECTORY, parent, "", error.reason))
                continue
            if parent and self._is_repository(parent, children):
                yield parent
            for child in reversed(children):
                path = f"{parent}/{child.name}" if parent else child.name
                if child.is_prefix and is_name(path) and path not in sources:
                    waiting.append(path)
                omissions += self._left_out(parent, path, child)
        self._backends.omissions.note(Source.WALK, "", omissions)

    def _is_repository(self, path: str, children: Sequence[Child]) -> bool:
        names = {child.name for child in children if not child.is_link}
        if "index.json" in names or ".journal" not in names:
            return "index.json" in names
        try:
            return self._journal.has_records(path)
        except PathRefused:
            return True  # whatever it is, it is not absent: the look at it says what is wrong

    def _left_out(self, parent: str, path: str, child: Child) -> Iterator[Omission]:
        """What the walk does not enter, where an operator may think that it does."""
        if child.is_link and child.name == "index.json":
            yield Omission(Kind.REPOSITORY, parent, child.name, LINK)
        elif child.is_link and is_name(path):
            yield Omission(Kind.DIRECTORY, path, "", LINK)
        elif child.is_prefix and self._is_misnamed(path, child.name):
            reason = "has an index.json, and a name that no repository can have"
            yield Omission(Kind.DIRECTORY, shown(path), "", reason)

    def _is_misnamed(self, path: str, segment: str) -> bool:
        driver = self._backends.driver
        if not driver.capabilities.stat_is_local or segment.startswith(".") or is_name(path):
            return False
        try:
            driver.stat(self._backends.layout.index(path))
        except (StorageError, ValueError):  # nothing there, nothing that can be read, or no key at all
            return False
        return True

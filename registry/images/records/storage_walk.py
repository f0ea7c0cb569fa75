"""Storage walk: the repositories that storage has, found by their directories."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple, Self

from registry.images.omissions import LINK, Kind, Omission, Source, shown
from registry.images.records.journal import Journal
from registry.oci.name import is_name
from registry.parallel import AT_ONCE
from registry.storage.errors import PathRefused, StorageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from registry.images.backends import Backends
    from registry.images.source_locations import SourceLocations
    from registry.images.write_gate import WriteGate
    from registry.storage.driver import Child, StorageDriver

AHEAD = 8 * AT_ONCE
"""Directories that are listed before the walk enters them, at most: some on each level."""


class WalkStep(NamedTuple):
    """A repository that a walk has found."""

    name: str
    ahead: int
    """Directories that were seen by now, and that the walk has still to enter."""


class StorageWalk:
    """Any thread; each walk begins anew."""

    def __init__(self, backends: Backends, write_gate: WriteGate, source_locations: SourceLocations) -> None:
        self._backends = backends
        self._write_gate = write_gate
        self._source_locations = source_locations
        self._journal = Journal(backends)

    def repositories(self) -> Iterator[str]:
        """The names of ``steps``."""
        return (step.name for step in self.steps())

    def steps(self, *, after: str = "") -> Iterator[WalkStep]:
        """Walk storage for repositories, in the order of the segments of their names: each before those below it.

        Also those of another registry, which have an index too; what a migration has found of these is left out. A
        directory that cannot be read is an omission of the walk, as a link is; any other error raises (I7).
        With ``after`` the walk goes on behind that repository, and enters nothing that lies before it.
        """
        self._source_locations.ensure_row()
        sources, omissions = set(self._write_gate.prefixes()), list[Omission]()
        waiting, done = [""], after.split("/") if after else []
        with _Listings(self._backends.driver) as listings:
            while waiting:
                parent = waiting.pop()
                try:
                    children = listings.of(parent, waiting)
                except PathRefused as error:
                    omissions.append(Omission(Kind.DIRECTORY, parent, "", error.reason))
                    continue
                if parent and parent.split("/") > done and self._is_repository(parent, children):
                    yield WalkStep(parent, len(waiting))
                for child in reversed(children):
                    path = f"{parent}/{child.name}" if parent else child.name
                    if _is_behind(path, done):
                        continue
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


class _Listings:
    """What directories have in them; of a store over a network the next ones are asked for side by side.

    A context manager, for one thread. Each directory is listed once, in whatever order.
    """

    def __init__(self, driver: StorageDriver) -> None:
        self._driver = driver
        self._pool = None if driver.capabilities.stat_is_local else ThreadPoolExecutor(AT_ONCE, "walk")
        self._asked: dict[str, Future[list[Child]]] = {}

    def of(self, path: str, following: Sequence[str]) -> list[Child]:
        """The children of a directory; those of the last of ``following`` are likely to be wanted next."""
        if self._pool is None:
            return self._list(path)
        for each in (path, *following[: -AT_ONCE - 1 : -1]):
            if each not in self._asked and len(self._asked) < AHEAD:
                self._asked[each] = self._pool.submit(self._list, each)
        asked = self._asked.pop(path, None)
        return self._list(path) if asked is None else asked.result()

    def _list(self, path: str) -> list[Child]:
        return list(self._driver.children(path))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)


def _is_behind(path: str, done: list[str]) -> bool:
    """Whether a walk that has come to ``done`` has left the directory, with all that lies in it."""
    segments = path.split("/")
    return segments < done and segments != done[: len(segments)]

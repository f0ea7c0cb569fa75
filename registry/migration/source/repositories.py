"""Reading what each repository of the original holds: its index or its links, as far as nobody knows them already."""

from __future__ import annotations

from collections import defaultdict
from functools import partial
from typing import TYPE_CHECKING, Protocol

from registry.migration.progress import Progress
from registry.migration.report import Note, Problem, ProblemKind
from registry.migration.source.distribution import ROOT
from registry.migration.source.zot import OURS
from registry.oci.errors import NameInvalid
from registry.oci.name import parse_name

if TYPE_CHECKING:
    from registry.migration.progress import OnProgress
    from registry.migration.source.inventory import Inventory
    from registry.migration.source.layout import RepositoryPath, SourceLayout, SourceRepository
    from registry.parallel import WorkerPool
    from registry.storage.driver import StorageDriver

_EXAMPLES = 5


class Known(Protocol):
    """What was read before, so that it need not be read again."""

    def repository(self, located: RepositoryPath, inventory: Inventory) -> SourceRepository | None:
        """What a repository holds; None where that has to be read. Any thread."""
        ...

    def manifest(self, digest: str) -> bytes | None:
        """The bytes of a manifest, which the caller hashes; None where they have to be read. Any thread."""
        ...


class NothingKnown:
    """Everything has to be read: see Known."""

    def repository(self, located: RepositoryPath, inventory: Inventory) -> SourceRepository | None:  # noqa: ARG002
        """See Known."""
        return None

    def manifest(self, digest: str) -> bytes | None:  # noqa: ARG002
        """See Known."""
        return None


class RepositoryScan:
    """Fills the tables ``repository``, ``tag``, ``member`` and ``ours`` of an inventory that was listed."""

    def __init__(
        self, inventory: Inventory, driver: StorageDriver, layout: SourceLayout, workers: WorkerPool, known: Known
    ) -> None:
        self._inventory = inventory
        self._driver = driver
        self._layout = layout
        self._workers = workers
        self._known = known

    def run(self, on_progress: OnProgress) -> tuple[list[Problem], list[Note]]:
        """Read all, and return what is wrong with them. Raises StorageError."""
        inventory = self._inventory
        problems, candidates = self._candidates()
        by_name: dict[str, list[RepositoryPath]] = defaultdict(list)
        for done, (located, found) in enumerate(
            zip(candidates, self._workers.each(partial(self._read), candidates), strict=True), 1
        ):
            on_progress(Progress("repositories", done, len(candidates)))
            if found is None:
                inventory.put("ours", [(located.path,)])
                continue
            problems += found.problems
            if found.is_unreadable:
                continue
            by_name[located.name].append(located)
            if len(by_name[located.name]) == 1:
                _note(inventory, found)
        for name, places in by_name.items():
            if len(places) > 1:
                problems.append(_collision(name, places))
                _forget(inventory, name)
        return problems, _two_prefixes(by_name)

    def _candidates(self) -> tuple[list[Problem], list[RepositoryPath]]:
        problems, candidates = [], []
        for located in self._layout.repositories(self._inventory):
            problem = _name_problem(located, self._layout)
            if problem is None:
                candidates.append(located)
            elif _may_be_ours(problem, located) and self._read(located) is None:
                self._inventory.put("ours", [(located.path,)])
            else:
                problems.append(problem)
        return problems, candidates

    def _read(self, located: RepositoryPath) -> SourceRepository | None:
        known = self._known.repository(located, self._inventory)
        return self._layout.read(located, self._inventory, self._driver) if known is None else known


def _name_problem(located: RepositoryPath, layout: SourceLayout) -> Problem | None:
    """Why there can be no repository of that name here."""
    where = f"{located.prefix}/repositories/{located.path}/" if located.prefix == ROOT else f"{located.path}/"
    for prefix in layout.prefixes:
        if located.name == prefix or located.name.startswith(f"{prefix}/"):
            detail = f"its keys would lie below {prefix}/, where those of the original are"
            return Problem(ProblemKind.NAME_COLLISION, located.name, where, "", detail)
    try:
        parse_name(located.name)
    except NameInvalid as error:
        beside = " (and its blobs lie where Stowage keeps its own: no run begins)" if located.path == OURS else ""
        return Problem(ProblemKind.INVALID_NAME, located.name, where, "", error.message + beside)
    return None


def _may_be_ours(problem: Problem, located: RepositoryPath) -> bool:
    """Stowage has no repository of a name that it refuses, but may have one that only looks like the original's."""
    return problem.kind is ProblemKind.NAME_COLLISION and not located.has_blobs


def _note(inventory: Inventory, found: SourceRepository) -> None:
    inventory.put("repository", [(found.path, found.name, found.prefix, found.index_key, found.index_signature)])
    inventory.put("tag", [(found.name, tag, digest) for tag, digest in found.tags.items()])
    inventory.put(
        "member",
        [
            (found.name, digest, descriptor and descriptor.media_type, descriptor and descriptor.size)
            for digest, descriptor in found.manifests.items()
        ],
    )


def _forget(inventory: Inventory, name: str) -> None:
    inventory.do("DELETE FROM repository WHERE name = ?", name)
    inventory.do("DELETE FROM tag WHERE repository = ?", name)
    inventory.do("DELETE FROM member WHERE repository = ?", name)


def _collision(name: str, places: list[RepositoryPath]) -> Problem:
    where = " and ".join(f"{place.path}/" for place in places)
    detail = f"the repository is there twice, at {where}; neither is taken"
    return Problem(ProblemKind.NAME_COLLISION, name, f"{places[0].path}/", "", detail)


def _two_prefixes(by_name: dict[str, list[RepositoryPath]]) -> list[Note]:
    """A root that was applied twice looks like a repository below the name of the root: say what it was taken for."""
    below = [place.path for places in by_name.values() for place in places if place.prefix and place.prefix != ROOT]
    beside = [place.path for places in by_name.values() for place in places if not place.prefix]
    if not below or not beside:
        return []
    examples = ", ".join(below[:_EXAMPLES])
    detail = (
        f"repositories below a root that was applied twice ({examples}) beside others ({beside[0]}, ...); if the first "
        "are repositories of these very names, say --single-prefix"
    )
    return [Note("two-prefixes", len(below), detail)]

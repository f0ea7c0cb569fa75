"""Repository scan: reads the index or the links of each repository of the source registry, unless they are known.

Tests: ``tests/migration/source/test_zot.py``, ``tests/migration/review/test_review.py``.
"""

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
    from registry.migration.source.layout import SourceLayout
    from registry.migration.source.objects import RepositoryPath, SourceRepository
    from registry.parallel import WorkerPool
    from registry.storage.driver import StorageDriver

_EXAMPLES = 5


class Known(Protocol):
    """What was read before, so that it need not be read again."""

    def repository(self, located: RepositoryPath, inventory: Inventory) -> SourceRepository | None:
        """What a repository holds; None if that has to be read. Any thread."""
        ...

    def manifest(self, digest: str) -> bytes | None:
        """The bytes of a manifest, which the caller hashes; None if they have to be read. Any thread."""
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
    """Fills the repositories of an inventory that was listed, with their tags and manifests."""

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
        problems, candidates = self._candidates()
        by_name: dict[str, list[RepositoryPath]] = defaultdict(list)
        for done, (located, found) in enumerate(
            zip(candidates, self._workers.each(partial(self._read), candidates), strict=True), 1
        ):
            on_progress(Progress("repositories", done, len(candidates)))
            if found is None:
                self._inventory.add_ours(located.path)
                continue
            problems += found.problems
            if found.is_unreadable:
                continue
            by_name[located.name].append(located)
            if len(by_name[located.name]) == 1:
                self._inventory.add_repository(found)
        for name, paths in by_name.items():
            if len(paths) > 1:
                problems.append(_collision(name, paths))
                self._inventory.remove_repository(name)
        return problems, _two_prefixes(by_name)

    def _candidates(self) -> tuple[list[Problem], list[RepositoryPath]]:
        problems, candidates = [], []
        for located in self._layout.repositories(self._inventory):
            problem = _name_problem(located, self._layout)
            if problem is None:
                candidates.append(located)
            elif _may_be_ours(problem, located) and self._read(located) is None:
                self._inventory.add_ours(located.path)
            else:
                problems.append(problem)
        return problems, candidates

    def _read(self, located: RepositoryPath) -> SourceRepository | None:
        known = self._known.repository(located, self._inventory)
        return self._layout.read(located, self._inventory, self._driver) if known is None else known


def _name_problem(located: RepositoryPath, layout: SourceLayout) -> Problem | None:
    """Why Stowage cannot have a repository of that name; None if it can."""
    where = f"{located.prefix}/repositories/{located.path}/" if located.prefix == ROOT else f"{located.path}/"
    for prefix in layout.prefixes:
        if located.name == prefix or located.name.startswith(f"{prefix}/"):
            detail = f"its keys would lie below {prefix}/, where those of the source are"
            return Problem(ProblemKind.NAME_COLLISION, located.name, where, "", detail)
    try:
        parse_name(located.name)
    except NameInvalid as error:
        beside = " (and its blobs lie where Stowage keeps its own: no run begins)" if located.path == OURS else ""
        return Problem(ProblemKind.INVALID_NAME, located.name, where, "", error.message + beside)
    return None


def _may_be_ours(problem: Problem, located: RepositoryPath) -> bool:
    """Whether what lies there may be a repository of Stowage that only looks like one of the source registry."""
    return problem.kind is ProblemKind.NAME_COLLISION and not located.has_blobs


def _collision(name: str, paths: list[RepositoryPath]) -> Problem:
    where = " and ".join(f"{located.path}/" for located in paths)
    detail = f"the repository is there twice, at {where}; neither is taken"
    return Problem(ProblemKind.NAME_COLLISION, name, f"{paths[0].path}/", "", detail)


def _two_prefixes(by_name: dict[str, list[RepositoryPath]]) -> list[Note]:
    """A root that was applied twice looks like a repository below the name of the root: say what it was taken for."""
    every = [located for paths in by_name.values() for located in paths]
    below = [located.path for located in every if located.prefix and located.prefix != ROOT]
    beside = [located.path for located in every if not located.prefix]
    if not below or not beside:
        return []
    examples = ", ".join(below[:_EXAMPLES])
    detail = (
        f"repositories below a root that was applied twice ({examples}) beside others ({beside[0]}, ...); if the first "
        "are repositories of these very names, say --single-prefix"
    )
    return [Note("two-prefixes", len(below), detail)]

"""*Usage*: what is asked of it by name: the figures of a repository, a tag, a manifest, or of all below a prefix."""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry.maintenance.usage.range_usage import RangeUsage
from registry.maintenance.usage.repository_usage import RepositoryUsage
from registry.maintenance.usage.tag_usage import TagUsage

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from registry.database.usage.holders import Range
    from registry.images.registry import Registry
    from registry.maintenance.usage.figures import Figures
    from registry.maintenance.usage.tag_usage import TagFigures
    from registry.oci.digest import Digest


class Usage:
    """Any thread."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._range = RangeUsage(registry.backends)
        self._repository = RepositoryUsage(registry.backends)
        self._tag = TagUsage(registry.backends)

    def repository(self, name: str) -> Figures:
        """The figures of a repository. Raises NameUnknown, Unavailable, DatabaseError, StorageError."""
        row = self._registry.repositories.require(name)
        return self._repository.measure(row.id, name)

    def manifest(self, name: str, reference: Digest | str, tag: str | None) -> TagFigures:
        """Those of the manifest with this digest or tag. Raises ManifestUnknown too."""
        row = self._registry.repositories.require(name)
        found = self._registry.manifests.find(name, reference)
        return self._tag.measure(row.id, name, tag=tag, digest=found.digest)

    def repositories(self, names: Iterable[str]) -> Iterator[tuple[str, Figures]]:
        """Those of each of these repositories, as the database knows it; one that is gone meanwhile is left out."""
        for name in names:
            figures = self._repository.known(name)
            if figures is not None:
                yield name, figures

    def names(self, within: Range, last: str = "") -> Iterator[str]:
        """The names of repositories after ``last``, in byte order."""
        return self._range.names(within, last)

    def total(self, within: Range) -> Figures:
        """The figures of all repositories of a range together."""
        return self._range.measure(within)

"""Checks: compare what manifests name with what the bucket has, and report blobs that are missing or cut short.

Tests: ``tests/migration/review/test_review.py``.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from registry.migration.report import Note, Problem, ProblemKind
from registry.migration.source.manifests import MISSING
from registry.migration.source.objects import ObjectKind, RepositoryPath
from registry.oci.digest import SUPPORTED_ALGORITHMS, Digest
from registry.storage.errors import PathNotFound

if TYPE_CHECKING:
    from collections.abc import Iterator

    from registry.migration.source.inventory import Inventory
    from registry.migration.source.layout import SourceLayout
    from registry.parallel import WorkerPool
    from registry.storage.driver import ObjectStat, StorageDriver

EMPTY = tuple(str(Digest.of(b"", algorithm)) for algorithm in SUPPORTED_ALGORITHMS)
"""The digests of no bytes: their objects of 0 bytes are no stubs."""
_EXAMPLES = 3

_NAMED_BY = (
    "INSERT OR IGNORE INTO wanted SELECT m.repository, r.digest FROM member m"
    " JOIN manifest f ON f.digest = m.digest AND f.problem = '' JOIN reference r ON r.manifest = m.digest"
)
# A manifest gives its repository no right to a layer that need not be there: the repository has to have that too.
_HAS = (
    "EXISTS (SELECT 1 FROM repository p JOIN object o ON o.repository = p.path"
    " WHERE p.name = m.repository AND o.digest = r.digest AND o.kind IN ({}))"
)
_TOLD = "FROM unlinked WHERE is_elsewhere AND kind <> 'optional'"
_NAMED = """
INSERT OR IGNORE INTO named SELECT digest, min(size), max(size) FROM (
    SELECT digest, size FROM reference WHERE kind <> 'optional' OR digest IN (SELECT digest FROM wanted)
    UNION ALL SELECT digest, size FROM manifest WHERE size IS NOT NULL
    UNION ALL SELECT digest, size FROM member WHERE size IS NOT NULL) GROUP BY digest
"""


class Checks:
    """Fills the tables ``wanted``, ``named``, ``unlinked`` and ``location``, and reports what does not fit."""

    def __init__(self, inventory: Inventory, driver: StorageDriver, layout: SourceLayout, workers: WorkerPool) -> None:
        self._inventory = inventory
        self._driver = driver
        self._layout = layout
        self._workers = workers

    def gather(self) -> None:
        """Find what every repository needs, and the objects with its bytes."""
        kinds = self._layout.member_kinds
        self._inventory.do("INSERT OR IGNORE INTO wanted SELECT repository, digest FROM member")
        self._inventory.do(f"{_NAMED_BY} WHERE r.kind = 'blob'")
        self._inventory.do(
            f"{_NAMED_BY} WHERE r.kind = 'optional' AND {_HAS.format(', '.join('?' * len(kinds)))}", *kinds
        )
        self._inventory.do(_NAMED)
        self._inventory.do(
            "INSERT OR IGNORE INTO location SELECT o.digest, o.key, o.size FROM object o"
            " JOIN named n ON n.digest = o.digest"
            " WHERE o.kind = ? AND o.size IN (n.low, n.high) AND (o.size > 0 OR o.digest IN (?, ?))"
            " AND NOT EXISTS (SELECT 1 FROM bad b WHERE b.key = o.key) AND NOT EXISTS"
            " (SELECT 1 FROM manifest f WHERE f.digest = o.digest AND f.problem NOT IN ('', ?))",
            self._layout.bytes_kind, *EMPTY, MISSING,
        )  # fmt: skip
        self._set_unlinked_apart()

    def problems(self) -> Iterator[Problem]:
        """Everything that is wrong with objects; those that seem missing are looked up. Raises StorageError."""
        yield from self._conflicts()
        yield from self._sizes()
        yield from self._missing()
        yield from self._unknown()

    def notes(self) -> Iterator[Note]:
        """What is worth knowing although it is right."""
        count = self._inventory.value(f"SELECT count(*) {_TOLD}")
        if count:
            found = self._inventory.rows(f"SELECT repository, digest {_TOLD} LIMIT ?", _EXAMPLES)
            examples = ", ".join(f"{repository} {digest}" for repository, digest in found)
            detail = (
                "named by a manifest of a repository that has no link to it, as in "
                f"{examples}; the other registry answers 404 for them, and so will Stowage until they are pushed there"
            )
            yield Note("unlinked", count, detail)

    def _set_unlinked_apart(self) -> None:
        """A manifest that names what another repository has gives its own repository no right to it (I12)."""
        kinds = self._layout.member_kinds
        self._inventory.do(
            "INSERT OR IGNORE INTO unlinked SELECT m.repository, r.digest, CASE r.kind WHEN 'blob' THEN 'blob'"
            " ELSE 'optional' END, EXISTS (SELECT 1 FROM location l WHERE l.digest = r.digest) FROM member m"
            " JOIN manifest f ON f.digest = m.digest AND f.problem = '' JOIN reference r ON r.manifest = m.digest"
            f" WHERE r.kind <> 'child' AND NOT {_HAS.format(', '.join('?' * len(kinds)))} AND NOT EXISTS"
            " (SELECT 1 FROM member h WHERE h.repository = m.repository AND h.digest = r.digest)",
            *kinds,
        )
        self._inventory.do(
            "DELETE FROM wanted WHERE EXISTS (SELECT 1 FROM unlinked u WHERE u.kind = 'blob' AND u.is_elsewhere"
            " AND u.repository = wanted.repository AND u.digest = wanted.digest)"
        )
        self._inventory.do(
            "DELETE FROM location WHERE NOT EXISTS (SELECT 1 FROM wanted w WHERE w.digest = location.digest)"
        )

    def _conflicts(self) -> Iterator[Problem]:
        for digest, low, high in self._inventory.each("SELECT * FROM named WHERE low <> high"):
            detail = f"manifests give it different sizes, from {low} to {high} bytes"
            yield Problem(ProblemKind.SIZE_CONFLICT, self._affected(digest), "", digest, detail)

    def _sizes(self) -> Iterator[Problem]:
        wrong = self._inventory.each(
            "SELECT o.key, coalesce(p.name, ''), o.digest, o.size, n.low FROM object o"
            " JOIN named n ON n.digest = o.digest LEFT JOIN repository p ON p.path = o.repository"
            " WHERE o.kind = ? AND o.size NOT IN (n.low, n.high) AND NOT (? AND o.size = 0)"
            " AND EXISTS (SELECT 1 FROM wanted w WHERE w.digest = o.digest)",
            self._layout.bytes_kind, self._layout.has_stubs,
        )  # fmt: skip
        for key, repository, digest, size, named in wrong:
            kind = ProblemKind.TRUNCATED_BLOB if size < named else ProblemKind.SIZE_CONFLICT
            detail = f"the object has {size} bytes, its manifests say {named}"
            yield Problem(kind, repository or self._affected(digest), key, digest, detail)

    def _missing(self) -> Iterator[Problem]:
        nowhere = self._inventory.each(
            "SELECT w.repository, p.path, p.prefix, w.digest, coalesce(n.low, -1), coalesce("
            " (SELECT o.key FROM object o WHERE o.digest = w.digest AND o.kind = ?1 AND o.size = 0"
            "  AND o.repository = p.path), (SELECT min(o.key) FROM object o WHERE o.digest = w.digest AND o.kind = ?1"
            "  AND o.size = 0), '')"
            " FROM wanted w JOIN repository p ON p.name = w.repository LEFT JOIN named n ON n.digest = w.digest"
            " LEFT JOIN manifest f ON f.digest = w.digest WHERE coalesce(f.problem, ?2) = ?2"
            " AND NOT EXISTS (SELECT 1 FROM location l WHERE l.digest = w.digest)"
            " AND NOT EXISTS (SELECT 1 FROM object o WHERE o.digest = w.digest AND o.kind = ?1"
            "  AND (o.size > 0 OR NOT ?3))",
            self._layout.bytes_kind, MISSING, self._layout.has_stubs,
        )  # fmt: skip
        for problem, arrived in self._workers.each(partial(self._confirm), list(nowhere)):
            if problem is not None:
                yield problem
            elif arrived is not None:
                self._inventory.put("location", [arrived])

    def _confirm(self, row: tuple[str, str, str, str, int, str]) -> tuple[Problem | None, tuple[str, str, int] | None]:
        """A problem, or the location of bytes that came after the listing had passed their key."""
        repository, path, prefix, text, size, stub = row
        digest = Digest(text)
        key = self._layout.home(RepositoryPath(repository, path, prefix), digest)
        stat = self._stat(key)
        if stat is not None and stat.size == size and (size > 0 or text in EMPTY):
            return None, (text, key, size)
        if stub and self._layout.has_stubs:
            detail = "an empty object stands for it, and no object has its bytes"
            return Problem(ProblemKind.STUB_WITHOUT_BYTES, repository, stub, digest, detail), None
        detail = "a manifest names it, and no object has its bytes"
        return Problem(ProblemKind.MISSING_BLOB, repository, key, digest, detail), None

    def _stat(self, key: str) -> ObjectStat | None:
        try:
            return self._driver.stat(key)
        except PathNotFound:
            return None

    def _unknown(self) -> Iterator[Problem]:
        """One problem for each directory, however many objects are there."""
        found = self._inventory.each(
            "SELECT rtrim(key, replace(key, '/', '')), count(*), sum(size), min(key) FROM object WHERE kind = ?"
            " GROUP BY 1 ORDER BY 1",
            ObjectKind.UNKNOWN,
        )
        for directory, count, size, first in found:
            if count == 1:
                detail = f"{size} bytes that are of neither registry; they stay"
                yield Problem(ProblemKind.UNKNOWN_OBJECT, "", first, "", detail)
            else:
                detail = f"{count} objects with {size} bytes that are of neither registry, as {first}; they stay"
                yield Problem(ProblemKind.UNKNOWN_OBJECT, "", directory, "", detail)

    def _affected(self, digest: str) -> str:
        """The repositories that have a digest: the first ones, and how many more there are."""
        names = [name for (name,) in self._inventory.rows(
            f"SELECT repository FROM wanted WHERE digest = ? ORDER BY 1 LIMIT {_EXAMPLES}", digest
        )]  # fmt: skip
        more = self._inventory.value("SELECT count(*) FROM wanted WHERE digest = ?", digest) - len(names)
        return ", ".join(names) + (f" and {more} more" if more > 0 else "")

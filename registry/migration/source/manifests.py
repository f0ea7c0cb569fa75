"""Reading the manifests that repositories name: each once, hashed, and with them all that they name in turn."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import orjson

from registry.migration.progress import Progress
from registry.migration.report import Problem, ProblemKind
from registry.migration.source.layout import RepositoryPath
from registry.oci import media_types
from registry.oci.digest import Digest
from registry.oci.errors import ManifestInvalid
from registry.oci.manifest import parse_manifest
from registry.storage.errors import ObjectTooLarge, PathNotFound

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from registry.migration.progress import OnProgress
    from registry.migration.source.inventory import Inventory
    from registry.migration.source.layout import SourceLayout
    from registry.oci.descriptor import Descriptor
    from registry.oci.manifest import Manifest
    from registry.parallel import WorkerPool
    from registry.storage.driver import StorageDriver

MISSING = "missing"
"""What is noted of a manifest of which no object has the bytes; what that means follows from what is there."""


@dataclass(frozen=True, slots=True)
class _Wanted:
    digest: Digest
    media_type: str | None
    size: int | None
    keys: tuple[str, ...]
    """Where it may be, best first."""
    repository: str
    is_listed: bool
    """The listing has an object with its bytes, as far as the key tells."""


@dataclass(slots=True)
class _Found:
    digest: Digest
    manifest: Manifest | None = None
    size: int = 0
    problem: str = ""
    body: bytes = b""
    modified: float = 0.0
    """When the object with the bytes was written (seconds since the epoch)."""
    at: tuple[str, str] | None = None
    """Key and signature of the object that has its bytes; None where nobody read it now."""
    bad: list[str] = field(default_factory=list)
    """Keys of objects with other bytes than they should have."""
    problems: list[Problem] = field(default_factory=list)


class ManifestScan:
    """Fills the tables ``manifest``, ``reference``, ``body`` and, with the children of indexes, ``member``."""

    def __init__(
        self,
        inventory: Inventory,
        driver: StorageDriver,
        layout: SourceLayout,
        workers: WorkerPool,
        known: Callable[[str], bytes | None],
        *,
        max_bytes: int,
    ) -> None:
        """``max_bytes``: of the largest manifest that will be served. ``known``: see Known.manifest."""
        self._inventory = inventory
        self._driver = driver
        self._layout = layout
        self._workers = workers
        self._known = known
        self._max_bytes = max_bytes

    def run(self, on_progress: OnProgress) -> list[Problem]:
        """Read all that are named, and returns what is wrong with them. Raises StorageError."""
        problems: list[Problem] = []
        done = 0
        while waiting := self._waiting():
            for found in self._workers.each(partial(self._read), self._places(waiting)):
                self._note(found)
                problems += found.problems
                done += 1
                on_progress(Progress("manifests", done, done + len(waiting)))
            self._add_children()
        return problems

    def _waiting(self) -> list[tuple[str, str | None, int | None, str]]:
        return self._inventory.rows(
            "SELECT digest, max(media_type), max(size), min(repository) FROM member m"
            " WHERE NOT EXISTS (SELECT 1 FROM manifest f WHERE f.digest = m.digest) GROUP BY digest"
        )

    def _places(self, waiting: list[tuple[str, str | None, int | None, str]]) -> Iterator[_Wanted]:
        for text, media_type, size, repository in waiting:
            digest = Digest(text)
            keys = [
                key
                for (key,) in self._inventory.rows(
                    "SELECT key FROM object WHERE digest = ? AND kind = ? AND size > 0 ORDER BY size <> ?, key",
                    digest, self._layout.bytes_kind, -1 if size is None else size,
                )
            ]  # fmt: skip
            path = self._inventory.value("SELECT path FROM repository WHERE name = ?", repository) or repository
            home = self._layout.home(RepositoryPath(repository, path, ""), digest)  # it may have come since the listing
            yield _Wanted(digest, media_type, size, tuple(keys or [home]), repository, is_listed=bool(keys))

    def _read(self, wanted: _Wanted) -> _Found:
        found = _Found(wanted.digest, problem=MISSING)
        known = self._known(wanted.digest) if wanted.is_listed else None
        if known is not None and Digest.of(known, wanted.digest.algorithm) == wanted.digest:
            self._understand(found, wanted, wanted.keys[0], known)
            return found
        for key in wanted.keys:
            try:
                body, stat = self._driver.read(key, max_bytes=self._max_bytes)
            except PathNotFound:
                continue
            except ObjectTooLarge as error:
                self._refuse(found, wanted, ProblemKind.UNREADABLE_MANIFEST, key, error.reason)
                return found
            if Digest.of(body, wanted.digest.algorithm) == wanted.digest:
                found.at, found.body, found.modified = (key, stat.signature), body, stat.modified
                self._understand(found, wanted, key, body)
                return found
            found.bad.append(key)
            if wanted.size in {None, len(body)}:  # another length is found by the sizes
                detail = "the bytes of the manifest are not those of its digest"
                found.problems.append(Problem(ProblemKind.WRONG_DIGEST, wanted.repository, key, wanted.digest, detail))
                found.problem = ProblemKind.WRONG_DIGEST
        return found

    def _understand(self, found: _Found, wanted: _Wanted, key: str, body: bytes) -> None:
        found.problem, found.size = "", len(body)
        try:
            found.manifest = parse_manifest(body, wanted.media_type)
        except ManifestInvalid as error:
            self._refuse(found, wanted, _kind_of(body, wanted.media_type), key, error.message)

    def _refuse(self, found: _Found, wanted: _Wanted, kind: ProblemKind, key: str, detail: str) -> None:
        found.problem = kind
        found.problems.append(Problem(kind, wanted.repository, key, wanted.digest, detail))

    def _note(self, found: _Found) -> None:
        self._inventory.put("bad", [(key,) for key in found.bad])
        manifest = found.manifest
        if found.at is not None:
            self._inventory.put("hashed", [found.at])
            self._inventory.put("body", [(found.digest, found.body, found.modified)])
        media_type = manifest.media_type if manifest else ""
        self._inventory.put("manifest", [(found.digest, media_type, found.size if manifest else None, found.problem)])
        if manifest is not None:
            self._inventory.put(
                "reference",
                [
                    (found.digest, named.digest, named.size, kind, named.media_type)
                    for kind, all_named in _references(manifest)
                    for named in all_named
                ],
            )

    def _add_children(self) -> None:
        """What an index lists is of every repository that has the index (M3) and can have it.

        What lies in other repositories alone is none of this one for being listed (I12).
        """
        kinds = self._layout.member_kinds
        marks = ", ".join("?" * len(kinds))
        child = (
            "FROM member m JOIN reference r ON r.manifest = m.digest JOIN repository p ON p.name = m.repository"
            " WHERE r.kind = 'child' AND NOT EXISTS"
            " (SELECT 1 FROM member h WHERE h.repository = m.repository AND h.digest = r.digest)"
        )
        here = f"SELECT 1 FROM object o WHERE o.digest = r.digest AND o.repository = p.path AND o.kind IN ({marks})"
        anywhere = f"SELECT 1 FROM object o WHERE o.digest = r.digest AND o.kind IN ({marks}, ?)"
        self._inventory.do(
            f"INSERT OR IGNORE INTO unlinked SELECT m.repository, r.digest, 'manifest', EXISTS ({anywhere}) {child}"
            f" AND NOT EXISTS ({here})",
            *kinds, self._layout.bytes_kind, *kinds,
        )  # fmt: skip
        self._inventory.do(
            f"INSERT OR IGNORE INTO member SELECT m.repository, r.digest, r.media_type, r.size {child} AND NOT EXISTS"
            " (SELECT 1 FROM unlinked u WHERE u.repository = m.repository AND u.digest = r.digest"
            " AND u.kind = 'manifest' AND u.is_elsewhere)"
        )


def _references(manifest: Manifest) -> Iterator[tuple[str, tuple[Descriptor, ...]]]:
    """What a manifest names, by kind: ``child``, ``blob``, or ``optional`` for a blob that need not be there (I13)."""
    needed = manifest.needed_blobs()
    yield "child", manifest.children()
    yield "blob", needed
    required = {blob.digest for blob in needed}
    yield "optional", tuple(blob for blob in manifest.named_blobs() if blob.digest not in required)


def _kind_of(body: bytes, media_type: str | None) -> ProblemKind:
    """Whether a manifest is of a type that is not served, or no manifest at all."""
    try:
        document = orjson.loads(body)
    except ValueError:
        return ProblemKind.UNREADABLE_MANIFEST
    if not isinstance(document, dict):
        return ProblemKind.UNREADABLE_MANIFEST
    declared = media_type or document.get("mediaType")
    is_known = declared is None or declared in media_types.MANIFESTS
    is_first = document.get("schemaVersion") == 1
    return ProblemKind.UNREADABLE_MANIFEST if is_known and not is_first else ProblemKind.UNSUPPORTED_MANIFEST

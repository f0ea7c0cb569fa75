"""Hashing every object that has the bytes of a blob: ``--verify full``."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from registry.images.verification import hash_reader
from registry.migration.progress import Progress
from registry.migration.report import Problem, ProblemKind
from registry.oci.digest import Digest
from registry.storage.errors import PathNotFound

if TYPE_CHECKING:
    from registry.migration.progress import OnProgress
    from registry.migration.source.inventory import Inventory
    from registry.parallel import WorkerPool
    from registry.storage.driver import StorageDriver

_PLACES = " FROM place l WHERE NOT EXISTS (SELECT 1 FROM hashed h WHERE h.key = l.key)"
"""Of each manifest one object was hashed when it was read."""

_LISTED = f"SELECT l.digest, l.key, l.size{_PLACES} ORDER BY l.digest, l.key"
_OWNER = (
    "SELECT coalesce((SELECT p.name FROM object o JOIN repository p ON p.path = o.repository WHERE o.key = ?),"
    " (SELECT min(repository) FROM wanted WHERE digest = ?))"
)


def verify(
    inventory: Inventory, driver: StorageDriver, workers: WorkerPool, on_progress: OnProgress
) -> tuple[list[Problem], int]:
    """Returns what has other bytes than its name says, and how many bytes were read. Raises StorageError.

    Such an object is no place of its digest any more. Of an object some 1 MiB at a time is held.
    """
    count, size = inventory.rows(f"SELECT count(*), coalesce(sum(size), 0){_PLACES}")[0]
    problems = []
    read = 0
    hashed = workers.each(partial(_hash, driver), list(inventory.each(_LISTED)))
    for done, (digest, key, length, found) in enumerate(hashed, 1):
        read += length
        on_progress(Progress("hashing", done, count, read, size))
        if found != digest:
            what = "it went while the review ran" if found is None else f"its bytes are those of {found}"
            owner = inventory.value(_OWNER, key, digest) or ""
            problems.append(Problem(ProblemKind.WRONG_DIGEST, owner, key, digest, what))
            inventory.do("DELETE FROM place WHERE digest = ? AND key = ?", digest, key)
            inventory.put("bad", [(key,)])
    return problems, read


def _hash(driver: StorageDriver, place: tuple[str, str, int]) -> tuple[str, str, int, str | None]:
    """(digest, key, bytes read, digest of these bytes or None if the object has gone)."""
    text, key, _ = place
    try:
        with driver.open(key) as reader:
            return text, key, reader.stat.size, hash_reader(reader, Digest(text).algorithm)
    except PathNotFound:
        return text, key, 0, None

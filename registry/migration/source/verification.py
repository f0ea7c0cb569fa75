"""Verification: hashes every object with the bytes of a blob, for ``--verify full``.

Tests: ``tests/migration/review/test_review.py``.
"""

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


def verify(
    inventory: Inventory, driver: StorageDriver, workers: WorkerPool, on_progress: OnProgress
) -> tuple[list[Problem], int]:
    """Returns the objects with wrong bytes, and how many bytes were read. Raises StorageError.

    Such an object is no location of its digest any more. Objects are read in chunks of some 1 MiB.
    """
    count, size = inventory.unhashed()
    problems = []
    read = 0
    hashed = workers.each(partial(_hash, driver), list(inventory.each_unhashed()))
    for done, (digest, key, length, found) in enumerate(hashed, 1):
        read += length
        on_progress(Progress("hashing", done, count, read, size))
        if found != digest:
            what = "it went while the review ran" if found is None else f"its bytes are those of {found}"
            problems.append(Problem(ProblemKind.WRONG_DIGEST, inventory.reject(digest, key), key, digest, what))
    return problems, read


def _hash(driver: StorageDriver, location: tuple[str, str, int]) -> tuple[str, str, int, str | None]:
    """(digest, key, bytes read, digest of these bytes, or None if the object has gone)."""
    text, key, _ = location
    try:
        with driver.open(key) as reader:
            return text, key, reader.stat.size, hash_reader(reader, Digest(text).algorithm)
    except PathNotFound:
        return text, key, 0, None

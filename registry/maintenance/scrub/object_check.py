"""*Object check*: whether an object has the bytes of its digest, all of them read.

Tests: ``tests/maintenance/scrub/test_run.py``.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, NamedTuple

from registry.images.verification import hash_reader
from registry.maintenance.scrub.medium import MediumReader
from registry.maintenance.scrub.rate import RateLimitedReader
from registry.oci.digest import Digest
from registry.storage.errors import PathNotFound

if TYPE_CHECKING:
    from registry.maintenance.scrub.rate import Rate
    from registry.storage.driver import StorageDriver


class Verdict(enum.Enum):
    """What an object was found to be."""

    RIGHT = "right"
    WRONG = "wrong"
    """It has another size, or other bytes, also when it was read once more."""
    MISSING = "missing"


class Checked(NamedTuple):
    """What a check has found."""

    verdict: Verdict
    etag: str = ""
    """The version of the object that was read; empty if it is missing."""


class ObjectCheck:
    """For one thread. The bytes are those of one version of the object, whatever replaces it meanwhile."""

    def __init__(self, driver: StorageDriver, rate: Rate) -> None:
        self._driver = driver
        self._rate = rate

    def check(self, key: str, digest: str, size: int) -> Checked:
        """Read an object of ``size`` bytes. One that is wrong is read once more: memory and networks err, too.

        Raises StorageError if it cannot be read, which proves nothing, and Interrupted.
        """
        found = self._once(key, Digest(digest), size)
        return self._once(key, Digest(digest), size) if found.verdict is Verdict.WRONG else found

    def _once(self, key: str, digest: Digest, size: int) -> Checked:
        self._rate.request()
        try:
            reader = self._driver.open(key)
        except PathNotFound:
            return Checked(Verdict.MISSING)
        with RateLimitedReader(MediumReader(reader), self._rate) as paced:
            right = paced.stat.size == size and hash_reader(paced, digest.algorithm) == digest
            return Checked(Verdict.RIGHT if right else Verdict.WRONG, paced.stat.etag)

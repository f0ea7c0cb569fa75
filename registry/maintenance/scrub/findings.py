"""*Findings*: what becomes of damage that a scrub meets, and how it is told: to the report, the log and the metrics.

Tests: ``tests/maintenance/scrub/test_run.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import structlog

from registry.maintenance.scrub.affected import find_affected
from registry.maintenance.scrub.object_check import Verdict
from registry.maintenance.scrub.report import LISTED, Finding, Outcome
from registry.oci.errors import RegistryError
from registry.storage.errors import StorageError, StorageUnavailable

if TYPE_CHECKING:
    from registry.images.backends import Backends
    from registry.maintenance.scrub.report import ScrubReport

Observe = Callable[[str, int], object]
"""Called with one of the words below and how many more there are of it."""
BYTES: Final = "bytes"
RIGHT: Final = "right"
UNREADABLE: Final = "unreadable"
REPAIRED: Final = "repaired"
ROUNDS: Final = "rounds"

FAILURES: Final = 10
"""Objects in a row that cannot be read before the store is asked whether it works at all."""
MOST_FAILURES: Final = 100
"""Objects in a row that cannot be read before a scrub ends, whatever the store says of itself."""

log = structlog.get_logger(__name__)


class Findings:
    """For one thread."""

    def __init__(self, backends: Backends, report: ScrubReport, observe: Observe, *, repairs: bool) -> None:
        self._backends = backends
        self._report = report
        self._observe = observe
        self._repairs = repairs
        self._failures = 0

    def right(self, names: int) -> None:
        """An object was read whole and is right; it has so many names."""
        self._failures = 0
        self._report.objects += 1
        self._report.names += names - 1
        self._observe(RIGHT, 1)

    def share(self, names: int) -> None:
        """So many more names have the bytes of an object that was read whole and is right."""
        self._report.names += names

    def damage(
        self,
        blob_id: int,
        digest: str,
        key: str,
        size: int,
        found: Verdict,
        outcome: Outcome,
        repair: Callable[[], bool] | None,
        *,
        only: str | None = None,
    ) -> None:
        """A location is wrong or missing; ``repair`` is tried if this scrub repairs. ``only``: see find_affected."""
        self._failures = 0
        if self._repairs and repair is not None and self._repaired(key, repair):
            outcome = Outcome.REPAIRED
        affected = find_affected(self._backends.database, blob_id, digest, only=only)
        finding = Finding(digest, key, size, found, outcome, affected)
        report = self._report
        report.wrong += found is Verdict.WRONG
        report.missing += found is Verdict.MISSING
        report.repaired += outcome is Outcome.REPAIRED
        if len(report.findings) < LISTED:
            report.findings.append(finding)
        self._observe(found.value, 1)
        if outcome is Outcome.REPAIRED:
            self._observe(REPAIRED, 1)
        log.error(
            "a scrub has found a blob damaged",
            digest=digest,
            key=key,
            found=found.value,
            now=outcome.value,
            repositories=affected.in_all,
            tags=affected.tags[:10],
        )

    def unreadable(self, key: str, error: Exception) -> None:
        """An object could not be read or taken out, which proves nothing; raises StorageError if the store fails."""
        self._report.add_problem(str(error) if str(error).startswith(key) else f"{key}: {error}")
        self._observe(UNREADABLE, 1)
        self._failures += 1
        if self._failures % FAILURES == 0:
            self._backends.driver.check()
        if self._failures >= MOST_FAILURES:
            raise StorageUnavailable(key, f"the last {self._failures} objects could not be read; the store fails")

    def _repaired(self, key: str, repair: Callable[[], bool]) -> bool:
        try:
            return repair()
        except (StorageError, RegistryError) as error:
            self._report.add_problem(f"{key}: not repaired: {error}")
            return False

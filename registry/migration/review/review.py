"""Review: reads a bucket before it is migrated, and writes nothing."""

from __future__ import annotations

import datetime as dt
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from registry.migration.progress import silent
from registry.migration.review.counts import Counter, Counts, Work
from registry.migration.review.estimate import Estimator, Prices, Rate
from registry.migration.review.plan_file import Plan
from registry.migration.review.requests import Tally
from registry.migration.source.bucket import bucket_of, opened, root_of
from registry.migration.source.inventory import Inventory
from registry.migration.source.scan import SourceScan
from registry.migration.source.verification import verify
from registry.parallel import WorkerPool

if TYPE_CHECKING:
    from registry.config.settings import Settings
    from registry.migration.progress import OnProgress
    from registry.migration.source.layout import SourceLayout
    from registry.storage.driver import StorageDriver

Verify = Literal["sizes", "full"]


@dataclass(frozen=True, slots=True)
class Options:
    """The options of a review."""

    verify: Verify = "sizes"
    """``full`` hashes every object with the bytes of a blob."""
    single_prefix: bool = False
    """Whether a repository below the name of the root has that name, instead of lying below a root applied twice."""
    rate: float | None = None
    """Requests per second for which times are estimated too."""


def review(settings: Settings, options: Options, on_progress: OnProgress = silent) -> Plan:
    """Review the bucket in the settings, which may be in use meanwhile. Writes nothing; needs no database.

    Raises ConfigError (a driver that has no bucket, a bucket that cannot be used, or one without a registry's layout),
    BothLayouts, StorageError.
    """
    tally = Tally()
    with opened(settings, tally.observe) as driver:
        return Review(driver, settings, options, tally, on_progress, bucket=bucket_of(settings)).run()


class Review:
    """One review of one bucket."""

    def __init__(
        self,
        driver: StorageDriver,
        settings: Settings,
        options: Options,
        tally: Tally,
        on_progress: OnProgress = silent,
        *,
        bucket: str = "",
    ) -> None:
        """``tally`` observes ``driver``."""
        self._driver = driver
        self._settings = settings
        self._options = options
        self._tally = tally
        self._on_progress = on_progress
        self._bucket = bucket
        self._root = root_of(settings)

    def run(self) -> Plan:
        """See ``review``."""
        began = time.perf_counter()
        with Inventory() as inventory, WorkerPool(self._settings.migration.parallel) as workers:
            reading = SourceScan(inventory, self._driver, workers, self._settings, self._on_progress)
            listed = reading.list()
            has_listed = time.perf_counter()
            layout = reading.detect(single_prefix=self._options.single_prefix)
            if layout is None:
                return self._plan(None, listed, Counts(), Work(), has_listed - began, 0.0, (0, 0.0))
            reading.read(layout)
            problems = reading.problems
            has_read = time.perf_counter()
            hashed = 0
            if self._options.verify == "full":
                found, hashed = verify(inventory, self._driver, workers, self._on_progress)
                problems += found
            hashing = time.perf_counter() - has_read
            counting = Counter(inventory, layout)
            plan = self._plan(
                layout, listed, counting.counts(), counting.work(self._driver.capabilities.copy_bytes),
                has_listed - began, has_read - has_listed, (hashed, hashing),
            )  # fmt: skip
            plan.notes = reading.notes
            plan.stays = counting.stays()
            plan.problems = sorted(set(problems))
            plan.repositories = list(counting.repositories())
            plan.shards = list(counting.shards())
        return plan

    def _plan(
        self,
        layout: SourceLayout | None,
        listed: int,
        counts: Counts,
        work: Work,
        listing: float,
        reading: float,
        hashed: tuple[int, float],
    ) -> Plan:
        made = self._tally.requests
        asked = made.total - made.list
        rate = Rate(
            requests_per_second=round(asked / reading, 1) if asked and reading else None,
            seconds_per_listing=round(listing / max(1, made.list), 6),
            bytes_per_second=round(hashed[0] / hashed[1], 1) if hashed[0] and hashed[1] else None,
        )
        prices = Prices(self._settings.migration.prices)
        estimate = Estimator(work, counts, listed, prices, rate, self._options.rate).estimate(
            made,
            counts.manifest_bytes + hashed[0],
            listing + reading + hashed[1],
            self._driver.capabilities,
            link_requests=layout.link_requests if layout else 0,
        )
        return Plan(
            layout=layout.kind if layout else None,
            prefixes=layout.prefixes if layout else (),
            driver=self._driver.name,
            bucket=self._bucket,
            root=self._root,
            verify=self._options.verify,
            made=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
            listed=listed,
            counts=counts,
            stays=[],
            estimate=estimate,
            rate=rate,
            extra_bytes=work.uncopied_bytes,
            extra_price=prices.month(work.uncopied_bytes),
            freed_bytes=work.deleted_bytes,
        )

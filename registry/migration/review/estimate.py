"""Estimate: the requests of each phase of a migration, their price, and how long they take."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Final

from registry.migration.review.requests import Requests

if TYPE_CHECKING:
    from registry.config.sections import PricesSettings
    from registry.migration.review.counts import Counts, Work
    from registry.storage.driver import Capabilities

GIB: Final = 1 << 30
_DECIMALS: Final = 6
LISTED_AT_ONCE: Final = 1000
_STATE_WRITES: Final = 2
"""Writes of the migration's own state in each phase."""
_GIVEN_BACK: Final = 3
"""Writes for an index whose key is given back: ours, kept; the source registry's; its baseline."""


class Prices:
    """Prices in the currency of the table in the configuration; US dollars by default."""

    def __init__(self, settings: PricesSettings) -> None:
        self._settings = settings

    def of(self, requests: Requests, read_bytes: int = 0) -> float:
        """The price of requests, and of the bytes that leave the store for us."""
        settings = self._settings
        asked = (
            requests.list * settings.lists
            + requests.head * settings.heads
            + requests.get * settings.gets
            + requests.put * settings.puts
            + requests.copy * settings.copies
            + requests.delete * settings.deletes
        )
        return round(asked / 1000 + read_bytes / GIB * settings.gib_read, _DECIMALS)

    def month(self, size: int) -> float:
        """The price of storing so many bytes for a month."""
        return round(size / GIB * self._settings.gib_month, _DECIMALS)


@dataclass(frozen=True, slots=True)
class Rate:
    """How fast the store answers."""

    requests_per_second: float | None
    """All requests but listings, several at once; None if a review made none."""
    seconds_per_listing: float
    """Listings of up to 1,000 objects, one after the other."""
    bytes_per_second: float | None = None
    """Blobs that were hashed; None if none were, and times then leave out their reading."""

    def seconds(self, requests: Requests, read_bytes: int) -> float | None:
        """How long a phase takes; None if that is not known."""
        others = requests.total - requests.list
        if others and not self.requests_per_second:
            return None
        found = requests.list * self.seconds_per_listing + (others / (self.requests_per_second or 1))
        return round(found + (read_bytes / self.bytes_per_second if self.bytes_per_second else 0.0), 3)


@dataclass(frozen=True, slots=True)
class PhaseCost:
    """One phase, or one stage of a rollback."""

    requests: Requests
    read_bytes: int
    price: float
    seconds: float | None
    """At the rate that the review measured."""
    seconds_at_rate: float | None
    """At the rate that was asked for; None if none was."""


@dataclass(frozen=True, slots=True)
class Rollback:
    """What a rollback costs at each stage. Once source objects are deleted (finalize) there is none."""

    adopted: PhaseCost
    """From the moment that Stowage serves the bucket, if nothing was pushed to it."""
    consolidated: PhaseCost
    """When everything is copied, if nothing was pushed since: the source objects are still there."""
    pushed_blob: Requests
    """For each blob that was pushed since, in each repository; bytes stay inside the store."""
    pushed_manifest: Requests
    pushed_tag: Requests


@dataclass(frozen=True, slots=True)
class Estimate:
    """Every phase."""

    review: PhaseCost
    """What this review did."""
    adopt: PhaseCost
    """One pass; a later one reads only what is new."""
    consolidate: PhaseCost
    finalize: PhaseCost
    rollback: Rollback


class Estimator:
    """Turns counts into the costs of phases."""

    def __init__(
        self, work: Work, counts: Counts, listed: int, prices: Prices, rate: Rate, given: float | None
    ) -> None:
        """``listed`` counts the objects below the root. ``given`` is a rate of requests of all kinds per second."""
        self._work = work
        self._counts = counts
        self._listings = max(1, ceil(listed / LISTED_AT_ONCE))
        self._prices = prices
        self._rate = rate
        self._given = given

    def estimate(
        self, made: Requests, read_bytes: int, seconds: float, capabilities: Capabilities, *, link_requests: int
    ) -> Estimate:
        """See Estimate; the arguments say what the review did, and what the store is like."""
        review = PhaseCost(made, read_bytes, self._prices.of(made, read_bytes), round(seconds, 3), self._at_rate(made))
        counts, work = self._counts, self._work
        adopt = self._phase(
            Requests(
                list=2 * self._listings + counts.repositories,
                # A shard twice before it is written; of a repository its bases, and our index before and after.
                get=work.indexes + counts.manifests + 2 * work.shards + 5 * counts.repositories,
                put=work.shards + 3 * counts.repositories + work.overwritten + _STATE_WRITES,
            ),
            counts.manifest_bytes,
        )
        in_parts = work.copied_in_parts
        blobs = work.uncopied - work.uncopied_manifests
        copies = work.uncopied - len(in_parts) + sum(2 + ceil(size / capabilities.copy_part_bytes) for size in in_parts)
        manifests = self._counts.manifest_bytes if work.uncopied_manifests else 0
        consolidate = self._phase(
            Requests(
                list=self._listings,
                # A manifest was hashed before, a blob is before and after; what goes in parts is noted meanwhile.
                get=work.uncopied_manifests + 2 * blobs + len(in_parts),
                copy=copies,
                put=work.shards + len(in_parts) + _STATE_WRITES,
                delete=len(in_parts),
            ),
            manifests + 2 * max(0, work.uncopied_bytes - manifests),
        )
        finalize = self._phase(
            Requests(list=self._listings, delete=ceil(work.deleted / capabilities.delete_batch), put=_STATE_WRITES), 0
        )
        return Estimate(review, adopt, consolidate, finalize, self._rollback(link_requests))

    def _rollback(self, links: int) -> Rollback:
        back = self._phase(Requests(list=self._listings, put=_GIVEN_BACK * self._work.overwritten + _STATE_WRITES), 0)
        # In a layout without links a tag or a manifest is an entry of the index of its repository, one PUT for all.
        return Rollback(
            adopted=back,
            consolidated=back,
            pushed_blob=Requests(copy=1, put=links),
            pushed_manifest=Requests(copy=1, put=links),
            pushed_tag=Requests(put=2 * links or 1),
        )

    def _phase(self, requests: Requests, read_bytes: int) -> PhaseCost:
        seconds = self._rate.seconds(requests, read_bytes)
        return PhaseCost(requests, read_bytes, self._prices.of(requests, read_bytes), seconds, self._at_rate(requests))

    def _at_rate(self, requests: Requests) -> float | None:
        return None if self._given is None else round(requests.total / self._given, 3)

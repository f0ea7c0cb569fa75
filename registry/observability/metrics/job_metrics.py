"""Metrics of the jobs that look after content: retention, collection, usage, scrub.

Tests: ``tests/server/test_jobs.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from registry.observability.metrics.instruments import Instruments


class RetentionMetrics:
    """What scheduled runs of retention have done."""

    def __init__(self, make: Instruments) -> None:
        self.runs = make.counter("registry_retention_runs", "Scheduled runs of retention.", ["result"])
        self.removed = make.counter(
            "registry_retention_tags_removed", "Tags that scheduled runs of retention have removed."
        )
        self.last = make.latest(
            "registry_retention_last_run_timestamp_seconds", "When a scheduled run of retention last ended."
        )
        self.kept = make.latest("registry_retention_tags_kept", "Tags that the last run has kept.")
        self.excess = make.latest(
            "registry_retention_tags_in_excess", "Tags that the last run would remove if retention.mode were apply."
        )
        self.left_alone = make.latest(
            "registry_retention_repositories_left_alone",
            "Repositories that the last run has left alone, because too much would go or they could not be read.",
        )


class CollectionMetrics:
    """What scheduled collections have found, freed and kept."""

    def __init__(self, make: Instruments) -> None:
        self.runs = make.counter("registry_collection_runs", "Scheduled collections.", ["result"])
        self.freed = make.counter("registry_collection_freed_bytes", "Bytes that scheduled collections have freed.")
        self.objects = make.counter(
            "registry_collection_deleted_objects", "Objects that scheduled collections have deleted."
        )
        self.removed = make.counter(
            "registry_collection_removed", "Things that scheduled collections have removed.", ["kind"]
        )
        self.kept = make.latest(
            "registry_collection_kept",
            "Things out of use that the last collection has kept.",
            ["reason"],
        )
        self.waiting = make.latest("registry_collection_waiting", "Things out of use that a later collection removes.")
        self.waiting_bytes = make.latest(
            "registry_collection_waiting_bytes", "Bytes of things out of use that a later collection removes."
        )
        self.oldest = make.latest(
            "registry_collection_oldest_seconds", "How long the oldest thing out of use has been so, when last counted."
        )
        self.last = make.latest(
            "registry_collection_last_success_timestamp_seconds", "When a scheduled collection last ended by itself."
        )


class UsageMetrics:
    """What takes room on storage, when it was last counted."""

    def __init__(self, make: Instruments) -> None:
        self.repositories = make.latest("registry_usage_repositories", "Repositories, when usage was last counted.")
        self.logical = make.latest(
            "registry_usage_logical_bytes", "Bytes of manifests, and of blobs as often as manifests name them."
        )
        self.stored = make.latest("registry_usage_stored_bytes", "Bytes of blobs on storage, each counted once.")
        self.waiting = make.latest(
            "registry_usage_waiting_bytes",
            "Bytes of blobs on storage that no manifest names, by what they wait for.",
            ["kind"],
        )
        self.quarantine = make.latest(
            "registry_usage_quarantine_bytes", "Bytes on storage that were found wrong and are not served any more."
        )
        self.last = make.latest(
            "registry_usage_last_count_timestamp_seconds", "When usage was last counted to its end."
        )


class ScrubMetrics:
    """What scheduled scrubs have read and judged."""

    def __init__(self, make: Instruments) -> None:
        self.bytes = make.counter("registry_scrub_bytes", "Bytes that scheduled scrubs have read.")
        self.objects = make.counter("registry_scrub_objects", "Objects that scheduled scrubs have judged.", ["result"])
        self.last = make.latest(
            "registry_scrub_last_success_timestamp_seconds", "When a round of scheduled scrubbing last ended."
        )

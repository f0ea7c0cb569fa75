"""Scenarios: the work that each server does, and the figures measured."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from benchmarks.guarded_reads import guarded_reads
from benchmarks.large_blobs import disk_alone, eight_blobs, one_blob, peak
from benchmarks.many_tags import tags
from benchmarks.scale import CLIENTS
from benchmarks.servers import BEFORE, CEILING, ONE_WORKER, OURS, PEERS, UNSYNCED
from benchmarks.small_images import growth, images
from benchmarks.small_reads import small_reads

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.scale import Bench


@dataclasses.dataclass(frozen=True, slots=True)
class Setting:
    """What differs of a server over a store: whether it sends clients there, and how far away a call finds it."""

    redirect: bool = False
    delay_seconds: float = 0.0


@dataclasses.dataclass(frozen=True, slots=True)
class Scenario:
    """A scenario, the figures that it yields, the servers it is run on, and whether one round says all."""

    run: Callable[[Bench], dict[str, float]]
    figures: frozenset[str]
    servers: tuple[str, ...]
    once: bool = False
    blobs: int = 0
    setting: Setting = Setting()


_ALL = (OURS, BEFORE, *PEERS)
_WRITERS = (OURS, UNSYNCED, *PEERS, CEILING)
_PARALLEL = (OURS, ONE_WORKER, UNSYNCED, *PEERS, CEILING)
_IMAGES = (OURS, BEFORE, ONE_WORKER, UNSYNCED, *PEERS, CEILING)

SCENARIOS = (
    Scenario(
        small_reads,
        frozenset({"manifest by tag", "manifest by digest", "head blob", "head blob us", "get blob", "tags list"}),
        _ALL,
    ),
    Scenario(guarded_reads, frozenset({"token ratio", "password ratio", "logins ratio"}), (OURS,)),
    Scenario(disk_alone, frozenset({"disk alone"}), (CEILING,)),
    Scenario(one_blob, frozenset({"push one", "pull one"}), _WRITERS, blobs=1),
    Scenario(eight_blobs, frozenset({"push eight", "pull eight"}), _PARALLEL, blobs=CLIENTS),
    Scenario(images, frozenset({"images", "image processor ms"}), _IMAGES),
    Scenario(tags, frozenset({"tag few", "tag many", "tag many p99", "tag ratio"}), (OURS,), once=True),
    Scenario(peak, frozenset({"peak"}), (ONE_WORKER,), once=True, blobs=2 * CLIENTS),
    Scenario(growth, frozenset({"growth", "growth from", "growth to"}), (ONE_WORKER,), once=True),
)

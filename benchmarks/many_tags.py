"""Many tags: the cost of one more tag in a small repository and in a large one."""

from __future__ import annotations

import functools
import itertools
import time
from typing import TYPE_CHECKING

from benchmarks.content import image, push_blob, put_manifest
from benchmarks.load import together
from benchmarks.measure import percentile
from benchmarks.scale import CLIENTS

if TYPE_CHECKING:
    from benchmarks.content import Image
    from benchmarks.scale import Bench


def _variant(pushed: Image, number: int) -> bytes:
    return pushed.manifest[:-1] + b', "annotations": {"number": "%d"}}' % number


def _tag(bench: Bench, repository: str, pushed: Image, numbers: range) -> int:
    with bench.connect() as connection:
        for number in numbers:
            put_manifest(connection, repository, f"tag{number}", _variant(pushed, number))
    return len(numbers)


def _new_repository(bench: Bench, repository: str, pushed: Image, tags: int) -> None:
    with bench.connect() as connection:
        for digest, data in pushed.blobs:
            push_blob(connection, repository, digest, data)
    together(
        [functools.partial(_tag, bench, repository, pushed, range(start, tags, CLIENTS)) for start in range(CLIENTS)]
    )


def _latencies(bench: Bench, repositories: list[str], pushed: Image, first: int) -> list[float]:
    """Return the milliseconds of each PUT of a new manifest under a new tag, a hundred a second at most."""
    found = []
    with bench.connect() as connection:
        for number, repository in zip(range(bench.scale.tag_samples), itertools.cycle(repositories), strict=False):
            started = time.perf_counter()
            put_manifest(connection, repository, f"tag{first + number}", _variant(pushed, first + number))
            found.append((time.perf_counter() - started) * 1e3)
            time.sleep(0.01)
    return found


def tags(bench: Bench) -> dict[str, float]:
    """One more tag in repositories of few tags, then in one of many.

    The few are measured before the many exist, so that folding the large index is no part of their time.
    """
    pushed = image("tags")
    small = [f"bench/few{number}" for number in range(max(1, bench.scale.tag_samples // bench.scale.tags_few))]
    for repository in small:
        _new_repository(bench, repository, pushed, bench.scale.tags_few)
    time.sleep(bench.scale.settle_seconds)
    few = _latencies(bench, small, pushed, bench.scale.tags_many)
    _new_repository(bench, "bench/many", pushed, bench.scale.tags_many)
    time.sleep(bench.scale.settle_seconds)
    many = _latencies(bench, ["bench/many"], pushed, bench.scale.tags_many)
    return {
        "tag few": percentile(few, 0.5),
        "tag many": percentile(many, 0.5),
        "tag many p99": percentile(many, 0.99),
        "tag ratio": percentile(many, 0.5) / percentile(few, 0.5),
    }

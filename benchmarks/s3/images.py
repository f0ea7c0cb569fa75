"""Image pushes over a store: how many a second, how long one takes, and how often the store is called for it."""

from __future__ import annotations

import functools
import time
from collections import Counter
from statistics import median
from typing import TYPE_CHECKING

from benchmarks.content import image, push_image
from benchmarks.load import together
from benchmarks.scale import CLIENTS

if TYPE_CHECKING:
    from benchmarks.scale import Bench

_WARM = 3
_FEW = 5
"""Images pushed where a peer takes seconds for one."""
_MILLISECONDS = 1e3


def _push_for(bench: Bench, seconds: float, client: int) -> int:
    """Push images until the time is over; how many, with the last, whose end comes after it."""
    deadline = time.monotonic() + seconds
    number = 0
    with bench.connect() as connection:
        while time.monotonic() < deadline:
            made = image(f"{client}-{number}", bench.scale.layer_bytes)
            push_image(connection, f"bench/images{client}", f"tag{number}", made)
            number += 1
    return number


def _pace(bench: Bench, seconds: float) -> float:
    return together([functools.partial(_push_for, bench, seconds, client) for client in range(CLIENTS)]).pace


def near_images(bench: Bench) -> dict[str, float]:
    """Eight clients push whole images, each into its own repository, for some seconds."""
    return {"images": _pace(bench, bench.scale.image_seconds)}


def far_images(bench: Bench) -> dict[str, float]:
    """The same while the store is far away, for longer, because a peer takes seconds for one."""
    return {"far images": _pace(bench, 2 * bench.scale.image_seconds)}


def _one_after_another(bench: Bench, count: int) -> list[float]:
    """Push images by one client; the seconds that each took."""
    taken = []
    with bench.connect() as connection:
        for number in range(_WARM + count):
            if number == _WARM and bench.store is not None:
                time.sleep(bench.scale.settle_seconds)
                bench.store.reset_calls()
            made = image(f"one-{number}", bench.scale.layer_bytes)
            started = time.monotonic()
            push_image(connection, "bench/one-client", f"tag{number}", made)
            taken.append(time.monotonic() - started)
    return taken[_WARM:]


def image_calls(bench: Bench) -> dict[str, float]:
    """Images by one client: the median of their milliseconds, and the store's own count of calls for each.

    What the registry does after its answer, such as writing indexes, counts as well.
    """
    taken = _one_after_another(bench, bench.scale.image_samples)
    time.sleep(bench.scale.settle_seconds)
    calls = [] if bench.store is None else bench.store.calls()
    kinds = Counter(call.kind for call in calls)
    figures = {"image ms": median(taken) * _MILLISECONDS, "image calls": len(calls) / len(taken)}
    return figures | {f"image calls: {kind}": count / len(taken) for kind, count in kinds.most_common()}


def far_image(bench: Bench) -> dict[str, float]:
    """A few images by one client while the store is far away: the median of their milliseconds."""
    return {"far image ms": median(_one_after_another(bench, _FEW)) * _MILLISECONDS}

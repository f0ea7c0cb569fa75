"""Small images: pushes a second of a config and two small layers, and growth of memory."""

from __future__ import annotations

import functools
import itertools
import time
from typing import TYPE_CHECKING

from benchmarks.content import image, push_image
from benchmarks.load import together, until
from benchmarks.processes import MEBIBYTE, processor_seconds, resident
from benchmarks.scale import CLIENTS

if TYPE_CHECKING:
    from benchmarks.scale import Bench
    from benchmarks.wire import Connection


TAGS = 100
"""Images of each repository while memory is watched: an index is folded whole, so its size would count as growth."""


def _image(bench: Bench, client: int, connection: Connection, number: int) -> None:
    made = image(f"{client}-{number}", bench.scale.layer_bytes)
    push_image(connection, f"bench/images{client}", f"tag{number}", made)


def _image_of_many(client: int, connection: Connection, number: int) -> None:
    push_image(connection, f"bench/images{client}-{number // TAGS}", f"tag{number}", image(f"{client}-{number}"))


def _images_until(bench: Bench, client: int) -> int:
    with bench.connect() as connection:
        return until(bench.scale.image_seconds, functools.partial(_image, bench, client, connection))


def _images_between(bench: Bench, client: int, first: int, last: int) -> int:
    with bench.connect() as connection:
        for number in range(first, last):
            _image_of_many(client, connection, number)
    return last - first


def images(bench: Bench) -> dict[str, float]:
    """Eight clients push whole images, each into its own repository, for some seconds; what one costs the server."""
    before = processor_seconds(bench.running.pid)
    span = together([functools.partial(_images_until, bench, client) for client in range(CLIENTS)])
    used = processor_seconds(bench.running.pid) - before
    return {"images": span.rate, "image processor ms": used / span.count * 1e3}


def growth(bench: Bench) -> dict[str, float]:
    """Resident memory after the last image push less that after the first ones, which warm it up."""
    sizes = []
    bounds = (0, bench.scale.images_first // CLIENTS, bench.scale.images_last // CLIENTS)
    for first, last in itertools.pairwise(bounds):
        together([functools.partial(_images_between, bench, client, first, last) for client in range(CLIENTS)])
        time.sleep(bench.scale.settle_seconds)
        sizes.append(resident(bench.running.pid) / MEBIBYTE)
    return {"growth": sizes[1] - sizes[0], "growth from": sizes[0], "growth to": sizes[1]}

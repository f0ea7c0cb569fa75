"""Large blobs: one and eight at once, and the memory that they take. MB are 10^6 bytes."""

from __future__ import annotations

import functools
import hashlib
import os
import time
from typing import TYPE_CHECKING

from benchmarks.content import push_large
from benchmarks.load import together
from benchmarks.processes import MEBIBYTE, Peak
from benchmarks.scale import CLIENTS
from benchmarks.servers import CEILING
from benchmarks.wire import BUFFER_BYTES, WireError

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.content import LargeBlob
    from benchmarks.scale import Bench

_MEGABYTE = 1e6


def _push(bench: Bench, repository: str, blob: LargeBlob) -> int:
    with bench.connect() as connection:
        push_large(connection, repository, blob, bench.source.descriptor)
    return blob.size


def _pull(bench: Bench, repository: str, blob: LargeBlob) -> int:
    with bench.connect() as connection:
        length = connection.drain(f"/v2/{repository}/blobs/{blob.digest}", bytearray(BUFFER_BYTES))
    if length != blob.size:
        raise WireError(f"{blob.digest}: {length} bytes of {blob.size}")
    return length


def _verify(bench: Bench, repository: str, blob: LargeBlob) -> None:
    running = hashlib.sha256()
    with bench.connect() as connection:
        connection.drain(f"/v2/{repository}/blobs/{blob.digest}", bytearray(BUFFER_BYTES), running.update)
    if f"sha256:{running.hexdigest()}" != blob.digest and bench.running.server.name != CEILING:
        raise WireError(f"{repository}: a pull of {blob.digest} has other bytes")


def _works(
    action: Callable[[Bench, str, LargeBlob], int], bench: Bench, prefix: str, first: int
) -> list[Callable[[], int]]:
    return [
        functools.partial(action, bench, f"bench/{prefix}{number}", bench.source.blob(first + number))
        for number in range(CLIENTS)
    ]


def one_blob(bench: Bench) -> dict[str, float]:
    """One large blob, pushed and pulled by one client."""
    blob = bench.source.blob(0)
    pushed = together([functools.partial(_push, bench, "bench/one", blob)])
    pulled = together([functools.partial(_pull, bench, "bench/one", blob)])
    _verify(bench, "bench/one", blob)
    return {"push one": pushed.rate / _MEGABYTE, "pull one": pulled.rate / _MEGABYTE}


def disk_alone(bench: Bench) -> dict[str, float]:
    """A large file written and synced without any registry: what the disk gives at this time of the run."""
    size, offset = bench.source.size, 0
    started = time.monotonic()
    with (bench.running.directory / "alone").open("wb") as file:
        while offset < size:
            offset += os.sendfile(file.fileno(), bench.source.descriptor, offset, size - offset)
        os.fsync(file.fileno())
    return {"disk alone": size / (time.monotonic() - started) / _MEGABYTE}


def eight_blobs(bench: Bench) -> dict[str, float]:
    """Eight distinct large blobs, each pushed and pulled by its own client into its own repository, all at once."""
    pushed = together(_works(_push, bench, "eight", 0))
    pulled = together(_works(_pull, bench, "eight", 0))
    return {"push eight": pushed.rate / _MEGABYTE, "pull eight": pulled.rate / _MEGABYTE}


def peak(bench: Bench) -> dict[str, float]:
    """Peak resident memory while eight large blobs are pushed, and then eight more pushed while these are pulled."""
    watched = Peak(bench.running.pid)
    together(_works(_push, bench, "first", 0), watched.sample)
    together(_works(_pull, bench, "first", 0) + _works(_push, bench, "second", CLIENTS), watched.sample)
    return {"peak": watched.bytes / MEBIBYTE}

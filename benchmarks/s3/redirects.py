"""Redirects: reads of blobs that the registry redirects, its answers alone and with the bytes of the store."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from benchmarks import wrk
from benchmarks.content import image, push_image, push_large
from benchmarks.load import together
from benchmarks.wire import BUFFER_BYTES, Connection, WireError

if TYPE_CHECKING:
    from benchmarks.content import LargeBlob
    from benchmarks.scale import Bench

_REPOSITORY = "bench/redirects"
_MEGABYTE = 1e6


def _follow(bench: Bench, target: str) -> tuple[Connection, str]:
    """Ask the registry; return a connection to the host of its redirect, and the target there."""
    with bench.connect() as connection:
        place = urlsplit(connection.redirected(target))
    if place.port is None:
        raise WireError(f"{target}: redirected to {place.netloc}, which is not the store")
    return Connection(place.port, place.netloc), f"{place.path}?{place.query}"


def _pull(bench: Bench, blob: LargeBlob) -> int:
    store, target = _follow(bench, f"/v2/{_REPOSITORY}/blobs/{blob.digest}")
    with store:
        length = store.drain(target, bytearray(BUFFER_BYTES))
    if length != blob.size:
        raise WireError(f"{blob.digest}: {length} bytes of {blob.size}")
    return length


def redirects(bench: Bench) -> dict[str, float]:
    """A large blob pulled by one client from where it is sent to, and how fast a small one's redirects come."""
    pushed, blob = image("redirects"), bench.source.blob(0)
    digest, layer = pushed.blobs[1]
    small = wrk.Read("GET", f"/v2/{_REPOSITORY}/blobs/{digest}")
    with bench.connect() as connection:
        push_image(connection, _REPOSITORY, "latest", pushed)
        push_large(connection, _REPOSITORY, blob, bench.source.descriptor)
    store, target = _follow(bench, small.target)
    with store:
        if store.request("GET", target).expect(200).body != layer:
            raise WireError(f"{small.target}: not the bytes that were pushed")
    pulled = together([functools.partial(_pull, bench, blob)])
    told = wrk.rate(small, bench.running.port, bench.scale.read_seconds, bench.running.directory)
    return {"redirect pull": pulled.rate / _MEGABYTE, "redirect blob": told}

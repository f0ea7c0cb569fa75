"""Small reads: manifests, tags and blobs of 4 KiB on 16 connections."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from benchmarks import head_rate, wrk
from benchmarks.content import MANIFEST, image, push_image, put_manifest, sha256
from benchmarks.processes import processor_seconds
from benchmarks.wire import WireError

if TYPE_CHECKING:
    from benchmarks.scale import Bench


def small_reads(bench: Bench) -> dict[str, float]:
    """16 connections repeat one request; each answer's bytes are compared before."""
    repository = "bench/reads"
    pushed = image("reads")
    digest, layer = pushed.blobs[1]
    tags = [f"tag{number:03}" for number in range(bench.scale.tags_listed)]
    manifest = f"/v2/{repository}/manifests"
    by_tag = wrk.Read("GET", f"{manifest}/{tags[0]}", MANIFEST)
    by_digest = wrk.Read("GET", f"{manifest}/{sha256(pushed.manifest)}", MANIFEST)
    blob = wrk.Read("GET", f"/v2/{repository}/blobs/{digest}")
    listed = wrk.Read("GET", f"/v2/{repository}/tags/list?n={len(tags)}")
    with bench.connect() as connection:
        push_image(connection, repository, tags[0], pushed)
        for tag in tags[1:]:
            put_manifest(connection, repository, tag, pushed.manifest)
        for read, body in ((by_tag, pushed.manifest), (by_digest, pushed.manifest), (blob, layer)):
            if connection.request("GET", read.target, accept=read.accept).expect(200).body != body:
                raise WireError(f"{read.target}: not the bytes that were pushed")
        if connection.request("GET", listed.target).expect(200).body.count(b'"tag') != len(tags) + 1:
            raise WireError(f"{listed.target}: not the {len(tags)} tags that were pushed")
    rate = functools.partial(
        wrk.rate, port=bench.running.port, seconds=bench.scale.read_seconds, directory=bench.running.directory
    )
    return {
        "manifest by tag": rate(by_tag),
        "manifest by digest": rate(by_digest),
        **_heads(bench, blob.target),
        "get blob": rate(blob),
        "tags list": rate(listed),
    }


def _heads(bench: Bench, target: str) -> dict[str, float]:
    """The rate, and what one costs the server: our client needs as long for one, so the rate is also the client's."""
    before, seconds = processor_seconds(bench.running.pid), bench.scale.read_seconds
    rate = head_rate.rate(target, bench.running.port, seconds, wrk.CONNECTIONS)
    used = processor_seconds(bench.running.pid) - before
    return {"head blob": rate, "head blob us": used / (rate * seconds) * 1e6}

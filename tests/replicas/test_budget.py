"""What requests cost, counted by the store itself: calls are money, and a client waits for each."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from tests.clients.wire import Wire
from tests.replicas.conftest import Config
from tests.support.payloads import Blob, Manifest, image

if TYPE_CHECKING:
    from tests.support.access_log import Call
    from tests.support.s3_server import S3Server
    from tests.support.servers import RegistryProcess

pytestmark = [pytest.mark.stores, pytest.mark.tools("versitygw", "initdb", "pg_ctl", "postgres")]

REPO = "team/app"
CONFIG = Blob(b'{"architecture": "amd64"}')
LAYERS = [Blob(b"first layer " * 5000), Blob(b"second layer " * 20_000)]
IMAGE = image(CONFIG, LAYERS)
IMAGE_CALLS = 9
"""At most, for an image of a config and two small layers, with everything that it causes later."""
FIRST_IMAGE_CALLS = 8
"""One look at a new repository, three blobs, manifest and record, ``oci-layout`` and ``index.json``."""
FOLDED = 1.5
"""Seconds without a call after which a push has caused everything that it causes."""
PATIENCE = 120.0
"""Seconds after which the store must be as quiet as that, at the latest."""
READS = [
    (method, f"/v2/{path}")
    for method in ("GET", "HEAD")
    for path in (
        f"{REPO}/manifests/v1",
        f"{REPO}/manifests/{IMAGE.digest}",
        f"{REPO}/tags/list",
        f"{REPO}/referrers/{IMAGE.digest}",
        "_catalog",
    )
] + [("HEAD", f"/v2/{REPO}/blobs/{blob.digest}") for blob in (CONFIG, *LAYERS)]


def push_blob(begin: Wire, rest: Wire, blob: Blob, repository: str = REPO) -> None:
    """POST, PATCH, PUT, of which only the first is asked of ``begin``."""
    location = begin.request("POST", f"/v2/{repository}/blobs/uploads/").headers["location"]
    assert rest.request("PATCH", location, blob.data).status == 202
    done = begin.request("PUT", f"{location}?digest={blob.digest}")
    assert done.status == 201, done.body


def push_image(begin: Wire, rest: Wire, made: Manifest, blobs: list[Blob], repository: str = REPO) -> None:
    for blob in blobs:
        push_blob(begin, rest, blob, repository)
    answer = rest.request("PUT", f"/v2/{repository}/manifests/v1", made.data, {"Content-Type": made.media_type})
    assert answer.status == 201, answer.body


def calls(store: S3Server) -> list[str]:
    """What the store was asked for since the last time, when nothing is under way any more."""
    deadline = time.monotonic() + PATIENCE
    found: list[Call] | None = None
    while found != (now := store.calls()):
        assert time.monotonic() < deadline, f"the store is asked on and on: {now}"
        found = now
        time.sleep(FOLDED)
    store.reset_calls()
    return [f"{call.kind} {call.target}" for call in now]


def counted(server: RegistryProcess) -> Counter[str]:
    """The same by the registry's own metrics, by operation."""
    text = Wire(server.address).request("GET", "/metrics").body.decode()
    found = re.findall(r'^storage_requests_total\{driver="s3",operation="(\w+)"\} (\S+)$', text, re.MULTILINE)
    return Counter({operation: int(float(number)) for operation, number in found})


def test_an_image_costs_at_most_nine_calls_and_what_was_read_nothing(
    store: S3Server, shared_config: Config, replica: Callable[[Config], RegistryProcess]
) -> None:
    first, second = Wire(replica(shared_config).address), Wire(replica(shared_config).address)
    calls(store)
    push_image(first, second, IMAGE, [CONFIG, *LAYERS])
    made = calls(store)
    assert len(made) == FIRST_IMAGE_CALLS <= IMAGE_CALLS, made

    for method, path in READS:
        assert first.request(method, path).status == 200, path
    calls(store)
    for wire in (first, second):
        for method, path in READS:
            assert wire.request(method, path).status == 200, path
    assert calls(store) == []

    other = image(CONFIG, [*LAYERS, Blob(b"a third")])
    for wire in (first, second):
        push_blob(wire, wire, Blob(b"a third"))
        answer = wire.request("PUT", f"/v2/{REPO}/manifests/v2", other.data, {"Content-Type": other.media_type})
        assert answer.status == 201
    again = calls(store)
    assert len(again) <= 10, again


def test_a_blob_that_is_sent_to_clients_costs_one_call_and_one_that_is_redirected_none(
    store: S3Server, shared_config: Config, replica: Callable[[Config], RegistryProcess]
) -> None:
    large = Blob(b"0123456789abcdef" * 100_000)
    server = replica(shared_config)
    wire = Wire(server.address)
    push_blob(wire, wire, large)
    calls(store)
    path = f"/v2/{REPO}/blobs/{large.digest}"
    assert wire.request("GET", path).body == large.data
    part = wire.request("GET", path, headers={"Range": "bytes=100-199"})
    assert (part.status, part.body) == (206, large.data[100:200])
    assert [call.split()[0] for call in calls(store)] == ["GetObject"] * 2
    shared_config["storage"]["redirect"] = "on"
    server = replica(shared_config)
    wire = Wire(server.address)
    assert wire.request("HEAD", path).status == 200
    calls(store)
    before = counted(server)
    assert wire.request("GET", path).status == 307
    assert wire.request("HEAD", path).status == 200
    assert calls(store) == []
    assert counted(server) == before


def test_a_large_blob_costs_its_parts_and_what_moves_it_to_its_key(
    store: S3Server, shared_config: Config, replica: Callable[[Config], RegistryProcess]
) -> None:
    part = shared_config["storage"]["s3"]["part_size"] = 5 << 20
    wire = Wire(replica(shared_config).address)
    calls(store)
    push_blob(wire, wire, Blob(b"the first " * 1_000_000))
    made = calls(store)
    assert Counter(call.split()[0] for call in made if "/.probe/" in call) == {"PutObject": 2, "DeleteObject": 1}
    for rest, more in ((b"", 0), (b"a little", 0), (b"more than that" * 20_000, 2)):
        push_blob(wire, wire, Blob(b"0123456789abcdef" * (2 * part // 16) + rest))
        made = calls(store)
        parts = 3 if rest else 2
        assert len(made) == parts + 5 + more, made
        assert Counter(call.split()[0] for call in made)["UploadPart"] == parts


def test_the_metrics_count_what_the_store_counts(
    store: S3Server, shared_config: Config, replica: Callable[[Config], RegistryProcess]
) -> None:
    server = replica(shared_config)
    calls(store)
    before = counted(server)
    wire = Wire(server.address)
    push_image(wire, wire, IMAGE, [CONFIG, *LAYERS])
    made = calls(store)
    assert (counted(server) - before).total() == len(made)

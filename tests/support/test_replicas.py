"""Two replicas over one directory and one database: nginx deals requests in turn, and adds nothing to them."""

from __future__ import annotations

import hashlib
import http.client
import json
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from tests.clients.wire import Wire, until
from tests.support.payloads import Blob, image
from tests.support.replicas import Replicas

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.stores, pytest.mark.tools("nginx")]

MIB = 1 << 20
REPOSITORY = "replicas/app"


@pytest.fixture(scope="module")
def replicas(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replicas]:
    directory = tmp_path_factory.mktemp("replicas")
    storage = {"root_directory": str(directory / "storage"), "fsync": False}
    with Replicas(directory, {"storage": storage}) as running:
        yield running


@pytest.fixture
def wire(replicas: Replicas) -> Wire:
    return Wire(replicas.address)


def requests_of(replicas: Replicas) -> list[int]:
    """How many requests of the API each replica has in its own log."""
    return [replica.log_path.read_text().count('"/v2/') for replica in replicas.replicas]


def push(wire: Wire, name: str, blob: Blob) -> None:
    place = wire.request("POST", f"/v2/{name}/blobs/uploads/").headers["location"]
    mark = "&" if "?" in place else "?"
    answer = wire.request("PUT", f"{place}{mark}digest={blob.digest}", blob.data)
    assert answer.status == 201, answer.body


def test_requests_go_to_both_in_turn(replicas: Replicas, wire: Wire) -> None:
    before = requests_of(replicas)
    for number in range(10):
        assert wire.request("GET", f"/v2/none/tags/list?n={number + 1}").status == 404
    wanted = [count + 5 for count in before]
    until(lambda: requests_of(replicas) == wanted, "five lines more stand in each replica's log")
    addresses = [line.split()[0] for line in replicas.nginx.access_log.read_text().splitlines()[-10:]]
    assert len(set(addresses)) == 2
    assert all(one != other for one, other in pairwise(addresses))


def test_an_image_that_is_pushed_in_turn_is_served_by_both(replicas: Replicas, wire: Wire) -> None:
    config, layer = Blob(b"{}"), Blob(b"layer")
    made = image(config, [layer])
    for blob in (config, layer):
        push(wire, REPOSITORY, blob)
    answer = wire.request("PUT", f"/v2/{REPOSITORY}/manifests/1", made.data, {"Content-Type": made.media_type})
    assert answer.status == 201, answer.body
    for replica in replicas.replicas:
        own = Wire(replica.address)
        assert own.manifest(REPOSITORY, "1").body == made.data
        assert own.request("GET", f"/v2/{REPOSITORY}/blobs/{layer.digest}").body == layer.data


def test_a_large_upload_streams_through(replicas: Replicas) -> None:
    """In chunks of a transfer encoding, whose length is unknown before the end; nginx writes none of it to disk."""
    block = bytes(range(256)) * 4096
    count = 100
    connection = http.client.HTTPConnection(replicas.address, timeout=60)
    connection.request("POST", f"/v2/{REPOSITORY}/blobs/uploads/")
    opened = connection.getresponse()
    opened.read()
    place = opened.headers["Location"]
    connection.request("PATCH", place, (block for _ in range(count)), encode_chunked=True)
    answer = connection.getresponse()
    answer.read()
    assert answer.status == 202
    digest = hashlib.sha256()
    for _ in range(count):
        digest.update(block)
    place = answer.headers["Location"]
    mark = "&" if "?" in place else "?"
    connection.request("PUT", f"{place}{mark}digest=sha256:{digest.hexdigest()}")
    answer = connection.getresponse()
    assert answer.status == 201, answer.read()
    answer.read()
    connection.request("GET", f"/v2/{REPOSITORY}/blobs/sha256:{digest.hexdigest()}")
    answer = connection.getresponse()
    received = hashlib.sha256()
    while piece := answer.read(MIB):
        received.update(piece)
    connection.close()
    assert received.digest() == digest.digest()
    assert "buffered to a temporary file" not in replicas.nginx.log_path.read_text()


def test_a_replica_that_is_killed_costs_its_turns_until_it_is_back(replicas: Replicas, wire: Wire) -> None:
    replicas.kill(1)
    statuses = sorted(wire.request("GET", "/v2/").status for _ in range(4))
    assert statuses == [200, 200, 502, 502]
    replicas.restart(1)
    assert {wire.request("GET", "/v2/").status for _ in range(4)} == {200}
    assert replicas.answers("/livez")


def test_everything_stops_and_starts_with_its_content(replicas: Replicas, wire: Wire) -> None:
    blob = Blob(json.dumps("kept").encode())
    push(wire, REPOSITORY, blob)
    pids = list(replicas.processes())
    replicas.restart()
    assert not set(pids) & set(replicas.processes())
    assert wire.request("GET", f"/v2/{REPOSITORY}/blobs/{blob.digest}").body == blob.data
    assert replicas.memory() <= replicas.peak_memory()
    assert "replica-2" in replicas.log_tail()


def test_other_replicas_that_make_up_for_each_other_and_say_absolute_addresses(replicas: Replicas) -> None:
    config: dict[str, dict[str, object]] = {
        "storage": {"root_directory": str(replicas.directory / "storage")},
        "http": {"relative_locations": False},
    }
    with Replicas(replicas.directory / "others", config, next_upstream=True) as others:
        wire = Wire(others.address)
        opened = wire.request("POST", f"/v2/{REPOSITORY}/blobs/uploads/")
        assert opened.headers["location"].startswith(f"{others.url}/v2/")
        others.kill(0)
        assert {wire.request("GET", "/v2/").status for _ in range(4)} == {200}

"""Tags of a mirror on two replicas over PostgreSQL and S3: what the upstream is asked, and what clients get meanwhile.

These are checks 12, 13, 14, 16 and 22 of mirrors, as clients see them; each of them in detail is in ``tests/mirror``.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.clients.wire import Answer, Wire, until
from tests.mirror.hostile_mirror import APP, give, path_of, reply_all
from tests.replicas.conftest import Config
from tests.support.payloads import Blob, Manifest, image
from tests.support.servers import RegistryProcess
from tests.upstream.hostile import Handler, HostileServer, Reply, hostile_server, whole

pytestmark = [pytest.mark.stores, pytest.mark.tools("versitygw", "initdb", "pg_ctl", "postgres")]

HERE = f"/v2/docker.io/{APP}/manifests"
TTL = 2.0
THREADS = 25


class Mirrors:
    """Two replicas with a mirror of one upstream."""

    def __init__(self, directory: Path, config: Config, server: HostileServer) -> None:
        section = {
            "name": "hub",
            "prefix": "docker.io",
            "url": [server.url()],
            "namespaces": ["docker.io"],
            "ttl": TTL,
            "negative_ttl": TTL,
            "revalidate_timeout": 1,
            "read_timeout": 10,
            "proxy": None,
        }
        self.server = server
        sections: dict[str, Any] = {**config, "mirrors": [section]}
        self.replicas = [RegistryProcess(directory / name, sections) for name in ("one", "other")]
        self.wires = [Wire(replica.address) for replica in self.replicas]

    def pull(self, reference: str = "v1", replica: int = 0) -> Answer:
        return self.wires[replica].request("GET", f"{HERE}/{reference}")

    def pull_at_once(self, count: int, reference: str = "v1") -> list[Answer]:
        """So many pulls of clients that come at the same time, of both replicas in turn."""
        barrier = threading.Barrier(THREADS)

        def client(number: int) -> list[Answer]:
            barrier.wait(60)
            return [self.pull(reference, (number + each) % 2) for each in range(count // THREADS)]

        with ThreadPoolExecutor(THREADS) as pool:
            return [answer for answers in pool.map(client, range(THREADS)) for answer in answers]

    def asked(self) -> Counter[str]:
        """What the upstream was asked since the last call, by method."""
        with self.server.lock:
            seen, self.server.seen[:] = list(self.server.seen), []
        return Counter(each.method for each in seen)


@pytest.fixture(scope="module")
def upstream() -> Iterator[HostileServer]:
    with hostile_server() as server:
        yield server


@pytest.fixture
def mirrors(shared_config: Config, tmp_path: Path, upstream: HostileServer) -> Iterator[Mirrors]:
    upstream.replies.clear()
    made = Mirrors(tmp_path, shared_config, upstream)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(RegistryProcess.start, made.replicas))
    made.asked()
    yield made
    for replica in made.replicas:
        replica.stop()


def picture(text: str) -> Manifest:
    return image(Blob(b'{"os": "linux"}'), [], annotations={"text": text})


def test_a_tag_is_asked_for_once_after_its_time_whatever_number_of_clients_want_it(mirrors: Mirrors) -> None:
    old, new = picture("old"), picture("new")
    give(mirrors.server, old, "v1")
    assert {answer.body for answer in mirrors.pull_at_once(100)} == {old.data}
    assert mirrors.asked() == {"GET": 1}
    until(lambda: _is_due(mirrors), "the tag is due")
    give(mirrors.server, new, "v1")
    mirrors.asked()
    until(lambda: _has(mirrors, new), "each replica has the new manifest")
    assert {answer.body for answer in mirrors.pull_at_once(100)} == {new.data}, "none has the old one again"
    asked = mirrors.asked()
    assert asked["GET"] == 1
    assert asked["HEAD"] >= 1


def _is_due(mirrors: Mirrors) -> bool:
    """Whether the tag was asked for again."""
    mirrors.pull()
    return bool(mirrors.asked()["HEAD"])


def _has(mirrors: Mirrors, manifest: Manifest) -> bool:
    return all(mirrors.pull(replica=replica).body == manifest.data for replica in (0, 1))


def test_within_its_time_nothing_is_asked(mirrors: Mirrors) -> None:
    manifest = picture("one")
    give(mirrors.server, manifest, "v1")
    mirrors.pull()
    mirrors.asked()
    answers = mirrors.pull_at_once(50, manifest.digest)
    assert {(answer.status, answer.body) for answer in answers} == {(200, manifest.data)}
    assert mirrors.asked() == {}, "a digest is never asked for"


def _hang(handler: Handler) -> None:
    handler.hostile.ended.wait(20)


FAULTS: dict[str, Reply] = {  # all of them are in tests/mirror/test_hostile_upstream.py
    "429": whole(429, Retry_After="120"),
    "500": whole(500),
    "silence": _hang,
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_here_is_served_by_both_replicas_whatever_the_upstream_does(mirrors: Mirrors, fault: str) -> None:
    manifest = picture(fault)
    give(mirrors.server, manifest, "v1")
    mirrors.pull()
    reply_all(mirrors.server, FAULTS[fault], "v1", "v2")
    until(lambda: "warning" in mirrors.pull().headers, "the upstream was asked, in vain")
    mirrors.asked()
    for replica in (0, 1):
        answer = mirrors.pull(replica=replica)
        assert (answer.status, answer.body) == (200, manifest.data)
        assert answer.headers["x-artifact-source"] == "cache"
        assert mirrors.pull(manifest.digest, replica).status == 200
    if fault == "429":
        assert mirrors.asked() == {}
        for replica in (0, 1):
            answer = mirrors.pull("v2", replica)
            assert answer.status == 429
            assert 0 < int(answer.headers["retry-after"]) <= 120
        assert mirrors.asked() == {}, "neither replica asks during the pause"


def test_an_absent_tag_is_asked_for_once_and_found_when_it_has_come(mirrors: Mirrors) -> None:
    answers = mirrors.pull_at_once(200, "later")
    assert {answer.status for answer in answers} == {404}
    assert 1 <= mirrors.asked().total() <= 6, "once in each negative_ttl"
    manifest = picture("later")
    give(mirrors.server, manifest, "later")
    until(lambda: mirrors.pull("later").status == 200, "it is found")
    assert mirrors.pull("later", 1).body == manifest.data


def test_what_is_here_needs_no_upstream_by_its_digest(mirrors: Mirrors) -> None:
    """Check 13 of mirrors: the upstream is gone, and each replica has a blob and its manifest."""
    config = Blob(b'{"os": "linux"}')
    manifest = image(config, [], annotations={"text": "offline"})
    give(mirrors.server, manifest, "v1")
    blob = f"/v2/{APP}/blobs/{config.digest}"
    mirrors.server.replies[blob] = whole(200, config.data)
    assert mirrors.pull().status == 200
    assert mirrors.wires[1].request("GET", f"/v2/docker.io/{APP}/blobs/{config.digest}").body == config.data
    reply_all(mirrors.server, Handler.cut, "v1", manifest.digest)
    mirrors.server.replies[blob] = Handler.cut
    mirrors.asked()
    for replica, wire in enumerate(mirrors.wires):
        assert mirrors.pull(manifest.digest, replica).body == manifest.data
        assert wire.request("GET", f"/v2/docker.io/{APP}/blobs/{config.digest}").body == config.data
    assert mirrors.asked() == {}


def test_local_names_and_mirrored_ones_stay_apart(mirrors: Mirrors) -> None:
    manifest, mine = picture("theirs"), picture("mine")
    give(mirrors.server, manifest, "v1")
    config = Blob(b'{"os": "linux"}')
    mirrors.wires[0].push_blob(APP, config.data, "application/vnd.oci.image.config.v1+json")
    mirrors.wires[0].push_manifest(APP, "v1", mine.data, mine.media_type)
    for wire in mirrors.wires:
        assert wire.request("GET", f"/v2/{APP}/manifests/v1?ns=docker.io").body == manifest.data
        assert wire.request("GET", f"/v2/{APP}/manifests/v1").body == mine.data
        assert wire.request("GET", f"/v2/{APP}/manifests/v1?ns=other.example.org").status == 404
        assert wire.request("GET", f"/v2/{APP}/manifests/v2").status == 404
        refused = wire.request("PUT", f"{HERE}/v1", mine.data, {"Content-Type": mine.media_type})
        assert refused.status == 405
    assert path_of("v2") not in mirrors.server.paths()

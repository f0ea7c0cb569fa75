"""A repository of a mirror has a right to a blob if its upstream says so, and to no other one (I12)."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest

from registry.config.mirror_sections import MirrorSettings
from registry.mirror.blob_proofs import BlobProofs
from registry.mirror.names import MirrorNames
from registry.mirror.patient_upstream import PatientUpstream
from registry.oci.digest import Digest
from registry.oci.errors import BlobUnknown, RegistryError, Unavailable
from registry.upstream.client import Upstream
from tests.support.registry_world import World, make_image
from tests.upstream.hostile import Handler, HostileServer, Reply, hostile_server, local, whole

MADE = make_image("one")
DIGEST = Digest.parse(MADE.layer.digest)
PATH = f"/v2/library/app/blobs/{DIGEST}"
HERE = "docker.io/library/app"


@pytest.fixture(params=["memory"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def server() -> Iterator[HostileServer]:
    with hostile_server() as server:
        yield server


class Proofs:
    """One process with a mirror of the server."""

    def __init__(self, world: World, server: HostileServer, **keys: Any) -> None:
        section = {"name": "hub", "url": [server.url()], "prefix": "docker.io", "proxy": None, "read_timeout": 10}
        settings = MirrorSettings.model_validate({**section, **keys})
        self.registry = world.registry(mirrored=frozenset({"docker.io"}))
        self.upstream = Upstream("hub", settings, resolver=local())
        patient = PatientUpstream(settings, self.upstream, self.registry.backends.database)
        self.proofs = BlobProofs(settings, self.registry, patient)
        self.names = MirrorNames([settings])

    def require(self, repository: str = HERE) -> int | None:
        name = self.names.find(repository)
        assert name is not None
        return self.proofs.require(name, DIGEST)

    def put_manifest(self) -> None:
        put, made = self.registry.manifests.put_mirrored, MADE.manifest
        put(HERE, made.data, made.media_type, digest=None, tags=["v1"])


@contextlib.contextmanager
def proofs_of(world: World, server: HostileServer, **keys: Any) -> Iterator[Proofs]:
    made = Proofs(world, server, **keys)
    try:
        yield made
    finally:
        made.upstream.close()


def test_a_blob_that_the_upstream_has_is_asked_for_once_in_a_minute(world: World, server: HostileServer) -> None:
    server.replies[PATH] = whole(200, MADE.layer.data, Docker_Content_Digest=DIGEST)
    with proofs_of(world, server) as each:
        for _ in range(3):
            assert each.require() == len(MADE.layer.data)
        assert [(seen.method, seen.path) for seen in server.seen] == [("HEAD", PATH)]
        world.clock.now += 61
        assert each.require() == len(MADE.layer.data)
        assert len(server.seen) == 2


def test_a_proof_is_one_for_its_repository_alone(world: World, server: HostileServer) -> None:
    server.replies[PATH] = whole(200, MADE.layer.data)
    with proofs_of(world, server) as each:
        each.require()
        with pytest.raises(BlobUnknown, match="mirror hub: the upstream has no blob"):
            each.require("docker.io/library/other")


def test_an_absence_is_remembered_by_all_processes_for_a_while(world: World, server: HostileServer) -> None:
    with proofs_of(world, server) as first, proofs_of(world, server) as second:
        for each in (first, second, first):
            with pytest.raises(BlobUnknown, match="mirror hub: the upstream has no blob"):
                each.require()
        assert len(server.seen) == 1
        server.replies[PATH] = whole(200, MADE.layer.data)
        world.clock.now += 61
        assert second.require() == len(MADE.layer.data)


def test_callers_of_one_process_share_a_request(world: World, server: HostileServer) -> None:
    barrier = threading.Barrier(8)

    def slow(handler: Handler) -> None:
        threading.Event().wait(0.2)
        handler.answer(200, MADE.layer.data)

    def ask(each: Proofs) -> int | None:
        barrier.wait(60)
        return each.require()

    server.replies[PATH] = slow
    with proofs_of(world, server) as each, ThreadPoolExecutor(8) as pool:
        assert set(pool.map(partial(ask), [each] * 8)) == {len(MADE.layer.data)}
    assert len(server.seen) == 1


@pytest.mark.parametrize("is_named", [False, True], ids=["not named", "named"])
@pytest.mark.parametrize(
    ("reply", "status", "named_status"),
    [
        (whole(401), 404, 502),
        (whole(403), 404, 502),
        (whole(405), 502, 502),
        (whole(429, Retry_After="9"), 429, 429),
        (whole(500), 502, 503),
        (whole(503), 502, 503),
        (whole(200, b"x", Docker_Content_Digest="sha256:" + "0" * 64), 502, 502),
        (lambda handler: handler.hostile.ended.wait(60), 504, 503),
    ],
    ids=["401", "403", "405", "429", "500", "503", "wrong digest", "hang"],
)
def test_what_is_no_answer_is_no_proof_and_no_absence_of_what_a_manifest_names(
    world: World, server: HostileServer, reply: Reply, status: int, named_status: int, is_named: bool
) -> None:
    server.replies[PATH] = reply
    with proofs_of(world, server, read_timeout=0.3) as each:
        if is_named:
            each.put_manifest()
        with pytest.raises(RegistryError, match="mirror hub: ") as raised:
            each.require()
        assert raised.value.status == (named_status if is_named else status)
        server.replies[PATH] = whole(200, MADE.layer.data)
        world.clock.now += 31
        assert each.require() == len(MADE.layer.data)


def test_a_mirror_that_is_offline_asks_for_nothing(world: World, server: HostileServer) -> None:
    with proofs_of(world, server, offline=True) as each, pytest.raises(Unavailable, match="mirror hub is offline"):
        each.require()
    assert server.seen == []

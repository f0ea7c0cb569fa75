"""What is attached to a manifest of a mirror: by its upstream, and here."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

import pytest

from registry.mirror.referrers import ListedReferrers
from registry.oci.digest import Digest
from registry.oci.errors import NameUnknown
from registry.oci.media_types import OCI_INDEX
from registry.oci.tag import fallback_of
from tests.mirror.hostile_mirror import APP, HostileMirror, give, mirror_of
from tests.support.payloads import Blob, Manifest, image, index
from tests.support.registry_world import World, make_image
from tests.upstream.hostile import HostileServer, hostile_server, whole

SUBJECT = make_image("subject").manifest
PATH = f"/v2/{APP}/referrers/{SUBJECT.digest}"
TAG = fallback_of(Digest.parse(SUBJECT.digest))
SIGNATURE, SBOM = "application/x.signature", "application/x.sbom"


def attached(text: str, artifact_type: str = SIGNATURE) -> Manifest:
    return image(Blob(b"{}"), [Blob(text.encode())], subject=SUBJECT, artifact_type=artifact_type)


ONE, TWO, THREE = attached("one"), attached("two", SBOM), attached("three")


@pytest.fixture(params=["memory"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def server() -> Iterator[HostileServer]:
    with hostile_server() as server:
        yield server


@pytest.fixture
def mirror(world: World, server: HostileServer) -> Iterator[HostileMirror]:
    with mirror_of(world.registry(mirrored=frozenset({"docker.io"})), server.url()) as mirror:
        yield mirror


def descriptor(manifest: Manifest) -> dict[str, object]:
    return {**manifest.descriptor(), "artifactType": manifest.artifact_type}


def give_referrers(server: HostileServer, *manifests: Manifest) -> None:
    body = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [*map(descriptor, manifests)]})
    server.replies[PATH] = whole(200, body.encode(), Content_Type=OCI_INDEX)


def digests(listed: ListedReferrers) -> list[str]:
    return [json.loads(each)["digest"] for each in listed.found.descriptors]


def in_order(*manifests: Manifest) -> list[str]:
    return sorted(manifest.digest for manifest in manifests)


def lists(server: HostileServer) -> int:
    return server.paths().count(PATH)


def test_the_upstream_is_asked_once_in_the_time_of_the_mirror(
    world: World, server: HostileServer, mirror: HostileMirror
) -> None:
    give_referrers(server)
    for _ in range(3):
        assert digests(mirror.referrers(SUBJECT.digest)) == []
    assert lists(server) == 1, "an empty list is kept too"
    give_referrers(server, ONE, TWO)
    world.clock.now += 61
    listed = mirror.referrers(SUBJECT.digest)
    assert digests(listed) == in_order(ONE, TWO)
    assert listed.headers() == {"X-Artifact-Source": "remote", "Age": "0"}
    assert 59 < listed.fresh_for <= 60
    assert lists(server) == 2


def test_what_is_here_is_listed_with_it_once(server: HostileServer, mirror: HostileMirror) -> None:
    for manifest in (ONE, THREE):
        give(server, manifest)
        mirror.find(manifest.digest)
    give_referrers(server, ONE, TWO)
    listed = mirror.referrers(SUBJECT.digest)
    assert digests(listed) == in_order(ONE, TWO, THREE)
    found = {str(each["digest"]): each for each in map(json.loads, listed.found.descriptors)}
    assert found == {each.digest: descriptor(each) for each in (ONE, TWO, THREE)}
    assert digests(mirror.referrers(SUBJECT.digest, artifact_type=SBOM)) == [TWO.digest]
    assert digests(mirror.referrers(SUBJECT.digest, artifact_type=SIGNATURE)) == in_order(ONE, THREE)


def pages(mirror: HostileMirror, count: int, size: int = 1 << 20) -> Sequence[str]:
    found: list[str] = []
    for _ in range(100):
        listed = mirror.referrers(SUBJECT.digest, last=found[-1] if found else "", count=count, size=size)
        assert len(listed.found.descriptors) <= count
        found += digests(listed)
        if not listed.found.more:
            return found
        assert listed.found.last == found[-1]
    raise AssertionError("pages without an end")


@pytest.mark.parametrize("seed", range(4))
def test_pages_have_each_of_both_once(server: HostileServer, mirror: HostileMirror, seed: int) -> None:
    made = [attached(f"{seed} {number}") for number in range(12)]
    here, there = made[: 4 + seed], made[2 + seed :]
    for manifest in here:
        give(server, manifest)
        mirror.find(manifest.digest)
    give_referrers(server, *there)
    for count in (1, 2, 3, 5, 11, 12, 100):
        assert pages(mirror, count) == in_order(*made)
    for size in (1, 300, 700, 2000):
        assert pages(mirror, 100, size) == in_order(*made)
    assert lists(server) == 1


def test_an_upstream_without_referrers_has_a_tag_for_them(
    world: World, server: HostileServer, mirror: HostileMirror
) -> None:
    give(server, index([ONE, TWO]), TAG)
    assert digests(mirror.referrers(SUBJECT.digest)) == in_order(ONE, TWO)
    assert mirror.find(TAG).found.digest == index([ONE, TWO]).digest, "a tag like any other"
    asked = len(server.seen)
    mirror.referrers(SUBJECT.digest)
    assert len(server.seen) == asked
    give(server, index([ONE, TWO, THREE]), TAG)
    world.clock.now += 61
    assert digests(mirror.referrers(SUBJECT.digest)) == in_order(ONE, TWO, THREE)


def test_one_without_the_tag_has_none(server: HostileServer, mirror: HostileMirror) -> None:
    for _ in range(3):
        listed = mirror.referrers(SUBJECT.digest)
        assert (digests(listed), listed.is_stale) == ([], False)
    assert [seen.path.rpartition("/")[2] for seen in server.seen] == [SUBJECT.digest, TAG]


def test_a_tag_that_is_no_index_lists_none(server: HostileServer, mirror: HostileMirror) -> None:
    give(server, make_image("plain").manifest, TAG)
    assert digests(mirror.referrers(SUBJECT.digest)) == []


@pytest.mark.parametrize("status", [403, 418, 429, 500])
def test_where_the_upstream_is_away_what_it_listed_before_and_what_is_here_are_stale(
    world: World, server: HostileServer, mirror: HostileMirror, status: int
) -> None:
    give(server, THREE)
    mirror.find(THREE.digest)
    give_referrers(server, ONE)
    mirror.referrers(SUBJECT.digest)
    server.replies[PATH] = whole(status)
    world.clock.now += 100
    for _ in range(3):
        listed = mirror.referrers(SUBJECT.digest)
        assert digests(listed) == in_order(ONE, THREE)
        assert (listed.headers()["Age"], listed.is_stale, listed.fresh_for) == ("100", True, 0)
    assert lists(server) == 2
    with mirror_of(world.registry(mirrored=frozenset({"docker.io"})), server.url()) as new:
        listed = new.referrers(SUBJECT.digest)
        assert digests(listed) == [THREE.digest]
        assert listed.headers() == {"X-Artifact-Source": "cache", "Warning": '110 - "Response is Stale"'}


@pytest.mark.parametrize("is_offline", [False, True])
def test_the_tag_that_is_here_is_listed_without_the_upstream(
    world: World, server: HostileServer, mirror: HostileMirror, *, is_offline: bool
) -> None:
    give(server, index([ONE, TWO]), TAG)
    mirror.referrers(SUBJECT.digest)
    server.replies[PATH] = whole(500)
    asked = lists(server)
    registry = world.registry(mirrored=frozenset({"docker.io"}))
    with mirror_of(registry, server.url(), offline=is_offline) as new:
        listed = new.referrers(SUBJECT.digest)
    assert (digests(listed), listed.is_stale) == (in_order(ONE, TWO), True)
    assert lists(server) == asked + (not is_offline)


def test_signatures_of_clients_that_use_tags_come_as_tags_do(server: HostileServer, mirror: HostileMirror) -> None:
    for suffix in (".sig", ".att", ".sbom"):
        give(server, ONE, f"{TAG}{suffix}")
        assert mirror.find(f"{TAG}{suffix}").found.digest == ONE.digest
    give_referrers(server)
    assert digests(mirror.referrers(SUBJECT.digest)) == [ONE.digest], "it names its subject"


def test_what_is_not_mirrored_has_no_referrers_to_tell(world: World, server: HostileServer) -> None:
    registry = world.registry(mirrored=frozenset({"docker.io"}))
    with (
        mirror_of(registry, server.url(), repositories=["team/**"]) as mirror,
        pytest.raises(NameUnknown, match=r"settings \(repositories\)"),
    ):
        mirror.referrers(SUBJECT.digest)
    assert server.seen == []

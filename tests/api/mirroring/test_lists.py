"""Tags and referrers of a mirror, as clients page them."""

from __future__ import annotations

import json

import pytest

from registry.oci.media_types import OCI_INDEX
from tests.api.mirroring.mirrored_service import MANIFESTS, MirroredService
from tests.mirror.hostile_mirror import APP, HERE, give
from tests.support.payloads import Blob, Manifest, image
from tests.upstream.hostile import HostileServer, whole

TAGS = f"/v2/{HERE}/tags/list"
UPSTREAM = f"/v2/{APP}/tags/list"
STALE = '110 - "Response is Stale"'


def give_tags(server: HostileServer, *tags: str) -> None:
    server.replies[UPSTREAM] = whole(200, json.dumps({"name": APP, "tags": tags}).encode())


@pytest.mark.parametrize(
    ("target", "headers"),
    [
        (TAGS, {}),
        (f"{UPSTREAM}?ns=docker.io", {}),
        (f"/mirror/hub{UPSTREAM}", {}),
        (UPSTREAM, {"Host": "hub.mirror.example.org"}),
    ],
)
def test_tags_are_those_of_the_upstream_in_pages_of_the_client(
    server: HostileServer, service: MirroredService, target: str, headers: dict[str, str]
) -> None:
    give_tags(server, "c", "a", "b", "B")
    found: list[str] = []
    following = f"{target}{'&' if '?' in target else '?'}n=3"
    while following:
        page = service.service.call("GET", following, headers=headers)
        assert (page.status, page.headers["content-type"]) == (200, "application/json")
        assert page.headers["x-artifact-source"] == "remote"
        assert page.json["name"] == HERE
        found += page.json["tags"]
        link = page.headers.get("link", "")
        following = link[1:].partition(">")[0]
        if following and "ns=" in target:
            following += "&ns=docker.io"
    assert found == ["B", "a", "b", "c"]
    assert service.asked() == [f"GET {UPSTREAM}?n=1000"]


def test_head_has_the_length_of_the_list(server: HostileServer, service: MirroredService) -> None:
    give_tags(server, "v1")
    assert service.head(TAGS).headers["content-length"] == str(len(service.get(TAGS).body))


def test_without_the_upstream_they_are_those_that_are_here(server: HostileServer, service: MirroredService) -> None:
    absent = service.get(TAGS)
    assert (absent.status, absent.json["errors"][0]["code"]) == (404, "NAME_UNKNOWN")
    assert "mirror hub" in absent.json["errors"][0]["message"]
    service.get(f"{MANIFESTS}/v1")
    answer = service.get(TAGS)
    assert (answer.status, answer.json["tags"], answer.headers["warning"]) == (200, ["v1"], STALE)
    server.replies[UPSTREAM] = whole(500)
    other = service.get(TAGS.replace("app", "other"))
    assert other.status == 404


def test_an_upstream_that_does_not_work_is_502_where_nothing_is_here(
    server: HostileServer, service: MirroredService
) -> None:
    server.replies[UPSTREAM] = whole(500)
    assert service.get(TAGS).status == 502
    give_tags(server, "v1")
    assert service.get(TAGS).status == 502, "it is too early to ask again"


def attached(service: MirroredService, text: str) -> Manifest:
    return image(Blob(b"{}"), [Blob(text.encode())], subject=service.image, artifact_type="application/x.sbom")


def test_referrers_are_those_of_the_upstream_and_those_that_are_here(
    server: HostileServer, service: MirroredService
) -> None:
    here, there = attached(service, "here"), attached(service, "there")
    give(server, here)
    service.get(f"{MANIFESTS}/{here.digest}")
    target, path = (f"/v2/{name}/referrers/{service.image.digest}" for name in (HERE, APP))
    entry = {**there.descriptor(), "artifactType": "application/x.sbom"}
    body = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]}).encode()
    server.replies[path] = whole(200, body, Content_Type=OCI_INDEX)
    service.asked()
    answer = service.get(target)
    assert (answer.status, answer.headers["content-type"]) == (200, OCI_INDEX)
    assert answer.headers["x-artifact-source"] == "remote"
    assert {each["digest"] for each in answer.json["manifests"]} == {here.digest, there.digest}
    filtered = service.get(f"{target}?artifactType=application/x.none")
    assert (filtered.json["manifests"], filtered.headers["oci-filters-applied"]) == ([], "artifactType")
    first = service.get(f"{target}?n=1")
    second = service.get(first.headers["link"][1:].partition(">")[0])
    shown = [each["digest"] for page in (first, second) for each in page.json["manifests"]]
    assert shown == sorted([here.digest, there.digest])
    assert "link" not in second.headers
    assert service.asked() == [f"GET {path}"]


def test_referrers_are_never_an_error(server: HostileServer, service: MirroredService) -> None:
    target = f"/v2/{HERE}/referrers/{service.image.digest}"
    answer = service.get(target)
    assert (answer.status, answer.json["manifests"]) == (200, [])
    assert "warning" not in answer.headers
    server.replies[f"/v2/{APP}/referrers/{service.layer.digest}"] = whole(503)
    answer = service.get(target.replace(service.image.digest, service.layer.digest))
    assert (answer.status, answer.json["manifests"], answer.headers["warning"]) == (200, [], STALE)

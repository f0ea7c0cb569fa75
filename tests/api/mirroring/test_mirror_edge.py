"""What clients of a mirror are answered."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from registry.oci.errors import GatewayTimeout
from tests.api.mirroring.mirrored_service import BLOBS, MANIFESTS, MirroredService, mirrored_service
from tests.mirror.hostile_mirror import APP
from tests.support.payloads import Blob, image
from tests.upstream.hostile import Handler, HostileServer, Reply, whole


def test_a_manifest_comes_once_and_says_where_it_came_from(service: MirroredService) -> None:
    first = service.get(f"{MANIFESTS}/v1")
    assert (first.status, first.body) == (200, service.image.data)
    assert (first.headers["x-artifact-source"], first.headers["age"]) == ("remote", "0")
    assert first.headers["docker-content-digest"] == service.image.digest
    assert first.headers["content-type"] == service.image.media_type
    assert service.asked() == [f"GET /v2/{APP}/manifests/v1"]
    for reference in ("v1", service.image.digest):
        for _ in range(2):  # from the rows, then from memory
            again = service.get(f"{MANIFESTS}/{reference}")
            assert (again.status, again.body) == (200, service.image.data)
            assert again.headers["x-artifact-source"] == "cache"
            assert ("age" in again.headers) == (reference == "v1")
            assert service.head(f"{MANIFESTS}/{reference}").headers["content-length"] == str(len(service.image.data))
    assert service.asked() == []


def test_a_tag_is_asked_for_again_when_its_time_is_over(server: HostileServer, tmp_path: Path) -> None:
    with mirrored_service(server, tmp_path, ttl=0) as service:
        assert service.get(f"{MANIFESTS}/v1").body == service.image.data
        moved = image(service.config, [])
        service.move(moved)
        assert service.get(f"{MANIFESTS}/v1").body == moved.data
        assert service.asked()[1:] == [f"HEAD /v2/{APP}/manifests/v1", f"GET /v2/{APP}/manifests/v1"]


def test_what_an_upstream_cannot_be_asked_for_is_served_stale(server: HostileServer, tmp_path: Path) -> None:
    with mirrored_service(server, tmp_path, ttl=0) as service:
        service.get(f"{MANIFESTS}/v1")
        server.replies[f"/v2/{APP}/manifests/v1"] = whole(500)
        answer = service.get(f"{MANIFESTS}/v1")
        assert (answer.status, answer.body) == (200, service.image.data)
        assert answer.headers["warning"] == '110 - "Response is Stale"'
        assert service.get(f"{MANIFESTS}/v2").status == 404


def test_a_blob_comes_once_and_is_here_then(service: MirroredService) -> None:
    target, blob = f"{BLOBS}/{service.layer.digest}", service.served[service.layer.digest]
    first = service.get(target)
    assert (first.status, first.body) == (200, service.layer.data)
    assert first.headers["x-artifact-source"] == "remote"
    assert first.headers["content-length"] == str(len(service.layer.data))
    again = service.get(target)
    assert (again.status, again.body) == (200, service.layer.data)
    assert again.headers["x-artifact-source"] == "cache"
    assert service.head(target).headers["x-artifact-source"] == "cache"
    assert (blob.starts, blob.sent) == ([0], len(service.layer.data))
    assert service.asked() == [f"GET /v2/{APP}/blobs/{service.layer.digest}"], "and no HEAD"


def test_head_of_a_blob_fetches_nothing(service: MirroredService) -> None:
    blob = service.served[service.layer.digest]
    for _ in range(2):
        answer = service.head(f"{BLOBS}/{service.layer.digest}")
        assert (answer.status, answer.headers["content-length"]) == (200, str(len(service.layer.data)))
        assert answer.headers["x-artifact-source"] == "remote"
    assert (blob.heads, blob.starts) == (1, [])


def test_a_range_of_a_blob_on_its_way_is_that_range(service: MirroredService) -> None:
    answer = service.get(f"{BLOBS}/{service.layer.digest}", Range="bytes=1000-70999")
    assert (answer.status, answer.body) == (206, service.layer.data[1000:71000])
    assert answer.headers["content-range"] == f"bytes 1000-70999/{len(service.layer.data)}"
    other = service.serve(b"another one" * 1000)
    answer = service.get(f"{BLOBS}/{other.digest}", Range="bytes=999999-")
    assert answer.status == 416
    answer = service.get(f"{BLOBS}/{other.digest}", Range="bytes=-5")
    assert (answer.status, answer.body) == (206, b"r one")


def test_a_condition_that_holds_brings_no_bytes(service: MirroredService) -> None:
    blob = service.served[service.layer.digest]
    answer = service.get(f"{BLOBS}/{service.layer.digest}", If_None_Match=f'"{service.layer.digest}"')
    assert (answer.status, answer.body, blob.starts) == (304, b"", [])


def test_an_empty_blob_comes_too(service: MirroredService) -> None:
    served = service.serve(b"")
    answer = service.get(f"{BLOBS}/{served.digest}")
    assert (answer.status, answer.body, answer.headers["content-length"]) == (200, b"", "0")
    assert service.get(f"{BLOBS}/{served.digest}").headers["x-artifact-source"] == "cache"


def test_wrong_bytes_are_cut_and_then_absent(service: MirroredService) -> None:
    blob = service.served[service.layer.digest]
    blob.data = bytes(len(blob.data))
    answer = service.get(f"{BLOBS}/{service.layer.digest}")
    assert len(answer.body) < len(blob.data)
    starts = list(blob.starts)
    assert service.get(f"{BLOBS}/{service.layer.digest}").status == 404
    assert service.head(f"{BLOBS}/{service.layer.digest}").status == 404
    assert blob.starts == starts


def test_a_blob_of_another_repository_of_the_mirror_needs_the_upstream_to_say_so(service: MirroredService) -> None:
    digest = service.layer.digest
    service.get(f"{BLOBS}/{digest}")
    service.asked()
    other = f"/v2/docker.io/library/other/blobs/{digest}"
    assert service.get(other).status == 404
    assert service.asked() == [f"HEAD /v2/library/other/blobs/{digest}"]
    right = f"/v2/docker.io/library/third/blobs/{digest}"
    service.server.replies[right.replace("/docker.io", "")] = whole(
        200, b"", Content_Length=str(len(service.layer.data))
    )
    answer = service.get(right)
    assert (answer.status, answer.body) == (200, service.layer.data)
    assert service.asked() == [f"HEAD /v2/library/third/blobs/{digest}"]


def test_a_blob_of_a_repository_of_ones_own_opens_nothing_of_a_mirror(service: MirroredService) -> None:
    secret = Blob(b"secret" * 100)
    service.service.push_blob("team/private", secret)
    answer = service.get(f"{BLOBS}/{secret.digest}")
    assert answer.status == 404
    assert service.asked() == [f"GET /v2/{APP}/blobs/{secret.digest}"]
    assert service.get(f"{BLOBS}/{secret.digest}").status == 404
    assert service.head(f"{BLOBS}/{secret.digest}").status == 404
    assert service.asked() == [], "an absence is remembered"


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("PUT", f"{MANIFESTS}/v1"),
        ("POST", f"{BLOBS}/uploads/"),
        ("POST", "/v2/docker.io/nginx/blobs/uploads/"),
        ("POST", f"{BLOBS}/uploads/?mount=sha256:{'0' * 64}&from=team/app"),
        ("PUT", f"{MANIFESTS}/v1?ns=docker.io"),
    ],
)
def test_no_client_pushes_to_a_mirror(service: MirroredService, method: str, target: str) -> None:
    answer = service.service.call(method, target, b"{}", {"Content-Type": service.image.media_type})
    assert (answer.status, answer.code) == (405, "UNSUPPORTED")
    assert "mirror hub" in answer.json["errors"][0]["message"]


@pytest.mark.parametrize(
    ("target", "host"),
    [
        (f"/v2/{APP}/manifests/v1?ns=docker.io", "registry.test"),
        ("/v2/app/manifests/v1", "hub.mirror.example.org"),
        ("/mirror/hub/v2/app/manifests/v1", "registry.test"),
        ("/v2/docker.io/app/manifests/v1", "registry.test"),
    ],
)
def test_every_entrance_leads_to_one_repository(service: MirroredService, target: str, host: str) -> None:
    for _ in range(2):
        answer = service.get(target, Host=host)
        assert (answer.status, answer.body) == (200, service.image.data)
    service.asked()
    assert service.get(f"{MANIFESTS}/v1").headers["x-artifact-source"] == "cache"
    assert service.asked() == []
    assert service.get("/v2/_catalog").json["repositories"] == [f"docker.io/{APP}"]


def test_a_local_name_and_a_mirror_stay_apart(service: MirroredService) -> None:
    mine = image(service.config, [])
    service.service.push_blob(APP, service.config)
    service.service.push(APP, "v1", mine)
    for _ in range(2):
        assert service.get(f"/v2/{APP}/manifests/v1").body == mine.data
        assert service.get(f"/v2/{APP}/manifests/v1", Host="hub.mirror.example.org").body == service.image.data
        assert service.get(f"/v2/{APP}/manifests/v1?ns=docker.io").body == service.image.data
    assert service.get(f"/v2/{APP}/manifests/v9").status == 404
    assert service.get(f"/v2/{APP}/manifests/v1?ns=other.example.org").status == 404
    assert [path for path in service.asked() if "v9" in path] == []


def test_a_tag_that_is_moved_here_by_another_process_is_not_served_from_memory(service: MirroredService) -> None:
    for _ in range(3):
        service.get(f"{MANIFESTS}/v1")
    moved = image(service.config, [])
    manifests = service.service.registry.manifests
    manifests.put_mirrored(f"docker.io/{APP}", moved.data, moved.media_type, digest=None, tags=["other"])
    assert service.get(f"{MANIFESTS}/v1").body == service.image.data
    assert service.get(f"{MANIFESTS}/{moved.digest}").body == moved.data


@pytest.mark.parametrize(
    ("reply", "status", "named"),
    [
        (whole(404), 404, 404),
        (whole(403), 404, 502),
        (whole(500), 502, 503),
        (whole(429, Retry_After="7"), 429, 429),
        (lambda handler: handler.hostile.ended.wait(60), 504, 503),
    ],
    ids=["404", "403", "500", "429", "silence"],
)
def test_an_upstream_that_does_not_give_a_blob_is_an_error(
    server: HostileServer, tmp_path: Path, reply: Reply, status: int, named: int
) -> None:
    seconds = 1.0 if status == GatewayTimeout.status else 30
    with mirrored_service(server, tmp_path, read_timeout=seconds) as service:
        digest = service.layer.digest
        server.replies[f"/v2/{APP}/blobs/{digest}"] = reply
        answer = service.get(f"{BLOBS}/{digest}")
        assert answer.status == status
        assert "mirror hub" in answer.json["errors"][0]["message"]
    with mirrored_service(server, tmp_path / "named", read_timeout=seconds) as service:
        service.get(f"{MANIFESTS}/v1")
        server.replies[f"/v2/{APP}/blobs/{digest}"] = reply
        assert service.get(f"{BLOBS}/{digest}").status == named


def test_a_tag_that_is_here_waits_for_no_thread_that_waits_for_the_upstream(
    server: HostileServer, tmp_path: Path
) -> None:
    with mirrored_service(server, tmp_path, ttl=0, connections=2, revalidate_timeout=0.2, read_timeout=60) as service:
        service.get(f"{MANIFESTS}/v1")
        hanging = [Blob(bytes([number])) for number in range(3)]

        def hang(handler: Handler) -> None:
            server.ended.wait(60)
            handler.cut()

        for blob in hanging:
            server.replies[f"/v2/{APP}/blobs/{blob.digest}"] = hang

        async def pull() -> tuple[int, str, int]:
            waiting = [
                asyncio.ensure_future(service.service.send("HEAD", f"{BLOBS}/{blob.digest}")) for blob in hanging
            ]
            await asyncio.to_thread(_until, lambda: len(server.seen) >= 3)
            answer = await service.service.send("GET", f"{MANIFESTS}/v1")
            unanswered = sum(not each.done() for each in waiting)
            server.ended.set()
            await asyncio.wait(waiting)
            return answer.status, answer.headers["warning"], unanswered

        assert service.service.run(pull()) == (200, '110 - "Response is Stale"', 3)


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)

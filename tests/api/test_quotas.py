"""Quotas over HTTP: 403 DENIED that says what is used, and what clients do is refused as early as it can be."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.api.service import Reply, Service, serving
from tests.support.payloads import Blob, image

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ONE, TWO, OUT = "team/one", "team/two", "other/one"
LIMIT = 3 << 20
ACCESS = {
    "rules": [{"who": ["anonymous"], "repositories": ["**"], "actions": ["push", "delete"]}],
    "quotas": [{"repositories": ["team/**"], "bytes": "3MiB"}],
}


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with serving(tmp_path, {"access": ACCESS}) as found:
        yield found


def blob(size: int) -> Blob:
    return Blob(os.urandom(size))


def begin(service: Service, name: str = ONE, query: str = "") -> Reply:
    return service.call("POST", f"/v2/{name}/blobs/uploads/{query}")


def is_refused(reply: Reply, *, used: int, size: int | None) -> bool:
    (error,) = reply.json["errors"]
    assert (reply.status, error["code"]) == (403, "DENIED")
    assert f"{used} bytes" in error["message"]
    assert f"{LIMIT} bytes" in error["message"]
    assert "team/**" in error["message"]
    return bool(error["detail"] == {"repositories": ["team/**"], "used": used, "limit": LIMIT, "size": size})


def is_clean(service: Service) -> bool:
    """Whether no upload has left anything."""
    return not service.registry.uploads.count() and not list(service.registry.backends.driver.uploads())


def test_a_blob_that_does_not_fit_is_refused_at_its_end_and_freed(service: Service) -> None:
    service.push_blob(ONE, blob(2 << 20))
    large = blob((1 << 20) + 1)
    location = begin(service, TWO).location
    assert service.call("PATCH", location, large.data[:10]).status == 202
    reply = service.call("PUT", f"{location}?digest={large.digest}", large.data[10:])
    assert is_refused(reply, used=2 << 20, size=len(large.data))
    assert service.call("GET", location).status == 404
    assert service.call("HEAD", f"/v2/{TWO}/blobs/{large.digest}").status == 404
    assert is_clean(service)


def test_a_blob_whose_size_is_known_is_not_received_and_another_way_is_refused_alike(service: Service) -> None:
    """A client that tries once more, in chunks, shows what it is told last."""
    large = blob(LIMIT + 1)
    location = begin(service, TWO).location
    reply = service.call("PUT", f"{location}?digest={large.digest}", large.data, {"Content-Length": f"{LIMIT + 1}"})
    assert is_refused(reply, used=0, size=LIMIT + 1)
    assert service.call("GET", location).headers["range"] == "0-0"
    assert is_refused(service.call("PATCH", location, large.data), used=0, size=LIMIT + 1)
    assert service.call("GET", location).status == 404
    assert is_clean(service)


def test_a_stream_that_is_closed_by_a_put_without_a_length_is_refused_at_its_end(service: Service) -> None:
    large = blob(LIMIT + 1)
    location = begin(service, TWO).location
    reply = service.call("PUT", f"{location}?digest={large.digest}", [large.data])
    assert is_refused(reply, used=0, size=LIMIT + 1)
    assert service.call("GET", location).status == 404
    assert is_clean(service)


def test_a_blob_in_one_request_that_does_not_fit_is_refused(service: Service) -> None:
    large = blob(LIMIT + 1)
    assert is_refused(begin_whole(service, ONE, large), used=0, size=LIMIT + 1)
    assert is_clean(service)


def begin_whole(service: Service, name: str, data: Blob) -> Reply:
    return service.call("POST", f"/v2/{name}/blobs/uploads/?digest={data.digest}", data.data)


def test_a_stream_of_unknown_length_is_cut_where_it_cannot_fit_and_freed(service: Service) -> None:
    service.push_blob(ONE, blob(2 << 20))
    service.push_blob(OUT, blob(1))
    location = begin(service, TWO).location
    part = os.urandom(1 << 20)
    assert service.call("PATCH", location, [part]).status == 202
    reply = service.call("PATCH", location, [part] * 20)
    assert reply.status == 403
    assert is_refused(reply, used=2 << 20, size=reply.json["errors"][0]["detail"]["size"])
    assert reply.json["errors"][0]["detail"]["size"] <= 5 << 20, "it was not received to its end"
    assert service.call("GET", location).status == 404
    assert is_clean(service)


@pytest.mark.parametrize("says_length", [False, True])
@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_a_stream_is_cut_also_where_a_client_says_a_digest_that_it_is_not(
    service: Service, method: str, says_length: bool
) -> None:
    """The quota has a blob of that digest, which needs no room."""
    there, part = blob(1 << 20), os.urandom(1 << 20)
    service.push_blob(ONE, there)
    path = f"/v2/{TWO}/blobs/uploads/" if method == "POST" else begin(service, TWO).location
    headers = {"Content-Length": str(20 << 20)} if says_length else {}
    reply = service.call(method, f"{path}?digest={there.digest}", [part] * 20, headers)
    assert reply.status == 403, reply
    assert is_refused(reply, used=1 << 20, size=reply.json["errors"][0]["detail"]["size"])
    assert reply.json["errors"][0]["detail"]["size"] <= 7 << 20, "it was not received to its end"
    assert is_clean(service)


def test_a_full_quota_takes_a_stream_of_what_it_has(service: Service) -> None:
    full = blob(LIMIT)
    service.push_blob(ONE, full)
    parts = [full.data[start : start + (1 << 18)] for start in range(0, LIMIT, 1 << 18)]
    assert service.call("POST", f"/v2/{TWO}/blobs/uploads/?digest={full.digest}", parts).status == 201
    assert is_clean(service)


def test_a_full_quota_takes_a_manifest_that_comes_slowly(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is received by way of storage, where blobs on their way are."""
    monkeypatch.setattr(service.context.receivers, "chunk_size", lambda: 1 << 16)
    config = blob(LIMIT)
    service.push_blob(ONE, config)
    manifest = image(config, [], annotations={"text": "x" * (2 << 20)})
    parts = [manifest.data[start : start + (1 << 17)] for start in range(0, len(manifest.data), 1 << 17)]
    kind = {"Content-Type": manifest.media_type}
    assert service.call("PUT", f"/v2/{ONE}/manifests/v1", parts, kind).status == 201
    assert is_clean(service)


def test_a_full_quota_refuses_uploads_and_mounts_from_outside_and_takes_what_it_has(service: Service) -> None:
    config, outside = blob(100), blob(1000)
    manifest = image(config, [])
    service.push_blob(OUT, outside)
    service.push_blob(ONE, config)
    service.push_blob(ONE, blob(LIMIT - 100))
    for query in ("", f"?digest={outside.digest}"):
        assert is_refused(begin(service, TWO, query), used=LIMIT, size=None)
    for query in (f"?mount={outside.digest}&from={OUT}", f"?mount={outside.digest}"):
        assert begin(service, TWO, query).status == 403
    assert begin(service, TWO, f"?mount={config.digest}&from={ONE}").status == 201
    assert begin_whole(service, "team/three", config).status == 201
    service.push(TWO, "v1", manifest)
    assert begin(service, OUT).status == 202
    assert service.call("DELETE", f"/v2/{TWO}/manifests/v1").status == 202


def test_a_mount_from_outside_that_does_not_fit_is_refused_with_its_size(service: Service) -> None:
    large = blob(LIMIT + 1)
    service.push_blob(OUT, large)
    assert is_refused(begin(service, ONE, f"?mount={large.digest}&from={OUT}"), used=0, size=LIMIT + 1)
    assert is_clean(service)


def test_a_deleted_blob_makes_room_at_once(service: Service) -> None:
    first = blob(LIMIT)
    service.push_blob(ONE, first)
    assert begin(service).status == 403
    assert service.call("DELETE", f"/v2/{ONE}/blobs/{first.digest}").status == 202
    service.push_blob(TWO, blob(LIMIT))

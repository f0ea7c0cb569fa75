"""What an upstream lists as attached to a manifest, or how it says that it lists nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from registry.mirror.remote_pages import Bounds
from registry.mirror.remote_referrers import Listed, RemoteReferrers
from registry.oci.digest import Digest
from registry.oci.media_types import OCI_INDEX, OCI_MANIFEST
from registry.upstream.errors import AnswerInvalid, UpstreamDenied, UpstreamStatus, UpstreamUnavailable
from tests.mirror.hostile_mirror import APP
from tests.support.payloads import digest_of
from tests.upstream.hostile import HostileServer, hostile_server, upstream_of, whole

SUBJECT = Digest.of(b"subject")
PATH = f"/v2/{APP}/referrers/{SUBJECT}"


@pytest.fixture
def server() -> Iterator[HostileServer]:
    with hostile_server() as server:
        yield server


def listed(server: HostileServer, *, most: int = 100, size: int = 1 << 16) -> list[Listed] | None:
    with upstream_of(server.url()) as upstream:
        return RemoteReferrers(upstream, bounds=Bounds(size, 5, 30.0), most=most).list(APP, SUBJECT)


def entry(text: str, **more: object) -> dict[str, object]:
    return {"mediaType": OCI_MANIFEST, "digest": digest_of(text.encode()), "size": len(text), **more}


def index(entries: Sequence[object]) -> bytes:
    return json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}).encode()


def give(server: HostileServer, entries: Sequence[object], path: str = PATH, **headers: str) -> None:
    server.replies[path] = whole(200, index(entries), **{"Content_Type": OCI_INDEX, **headers})


def test_pages_are_one_list_by_digest(server: HostileServer) -> None:
    entries = [entry(text, artifactType="a/b", annotations={"x": text}) for text in ("one", "two", "three")]
    give(server, entries[:2], Link=f'<{PATH}?page=2>; rel="next"')
    give(server, entries[1:], f"{PATH}?page=2")
    found = listed(server)
    assert found is not None
    assert [json.loads(each.descriptor) for each in found] == sorted(entries, key=lambda each: str(each["digest"]))
    assert {each.artifact_type for each in found} == {"a/b"}
    assert {seen.headers["accept"] for seen in server.seen} == {OCI_INDEX}


def test_what_no_list_of_referrers_has_is_left_out(server: HostileServer) -> None:
    good = entry("one")
    foreign = {**entry("two"), "urls": ["https://other.example.org/x"], "platform": {"os": "x"}, "data": "eA=="}
    bad: list[Any] = [None, 1, "x", {}, {**good, "digest": "sha256:x"}, {**good, "size": -1}, {**good, "mediaType": 1}]
    give(server, [*bad, good, foreign])
    found = listed(server)
    assert found is not None
    assert [json.loads(each.descriptor) for each in found] == sorted(
        [good, entry("two")], key=lambda each: str(each["digest"])
    )


@pytest.mark.parametrize("status", [400, 404, 405, 406, 410])
def test_a_server_without_referrers_lists_none(server: HostileServer, status: int) -> None:
    server.replies[PATH] = whole(status)
    assert listed(server) is None


@pytest.mark.parametrize("media_type", ["", "text/html", "application/json", OCI_MANIFEST])
def test_so_does_one_that_answers_anything(server: HostileServer, media_type: str) -> None:
    server.replies[PATH] = whole(200, b"<html>", Content_Type=media_type)
    assert listed(server) is None


def test_an_empty_list_is_a_list(server: HostileServer) -> None:
    give(server, [], Content_Type=f"{OCI_INDEX}; charset=utf-8")
    assert listed(server) == []
    server.replies[PATH] = whole(200, b'{"manifests": null}', Content_Type=OCI_INDEX)
    assert listed(server) == []


@pytest.mark.parametrize("body", [b"", b"[]", b'{"manifests": {}}', b'{"manifests": [', b"[" * 5000])
def test_what_is_no_index_is_an_error(server: HostileServer, body: bytes) -> None:
    server.replies[PATH] = whole(200, body, Content_Type=OCI_INDEX)
    with pytest.raises(AnswerInvalid, match=r"127\.0\.0\.1: a list of referrers is no index"):
        listed(server)


@pytest.mark.parametrize(
    ("status", "error"), [(403, UpstreamDenied), (418, UpstreamStatus), (500, UpstreamUnavailable)]
)
def test_any_other_answer_is_an_error(server: HostileServer, status: int, error: type[Exception]) -> None:
    server.replies[PATH] = whole(status)
    with pytest.raises(error):
        listed(server)


def test_lists_are_bounded_in_entries_and_bytes(server: HostileServer) -> None:
    give(server, [entry(str(number)) for number in range(11)])
    with pytest.raises(AnswerInvalid, match="more than 10 referrers"):
        listed(server, most=10)
    with pytest.raises(AnswerInvalid, match="more than 500 bytes"):
        listed(server, size=500)

"""A manifest of an upstream is its bytes: what headers say of them is compared, or not believed.

This is check 17 of mirrors.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator

import pytest

from registry.mirror.remote_manifests import RemoteHead, RemoteManifests
from registry.oci import media_types
from registry.oci.digest import Digest
from registry.upstream.errors import AnswerInvalid, UpstreamError, UpstreamStatus, UpstreamUnavailable
from tests.mirror.hostile_mirror import APP, give, path_of, reply_all
from tests.support.payloads import Blob, digest_of, image
from tests.support.registry_world import make_image
from tests.upstream.hostile import Handler, HostileServer, hostile_server, upstream_of, whole

ONE = make_image("one").manifest
DIGEST = Digest.parse(ONE.digest)
OTHER = digest_of(b"other")
SCHEMA1 = {"schemaVersion": 1, "name": APP, "tag": "v1", "fsLayers": []}


@pytest.fixture
def server() -> Iterator[HostileServer]:
    with hostile_server() as server:
        yield server


@pytest.fixture
def remote(server: HostileServer) -> Iterator[RemoteManifests]:
    with upstream_of(server.url()) as upstream:
        yield RemoteManifests(upstream, max_bytes=4096)


def test_a_manifest_is_its_bytes_with_their_type_and_digest(server: HostileServer, remote: RemoteManifests) -> None:
    give(server, ONE, "v1", ETag='W/"x"')
    for reference in ("v1", DIGEST):
        got = remote.get(APP, reference, seconds=10)
        assert got is not None
        assert (got.body, got.media_type, got.digest, got.etag) == (ONE.data, ONE.media_type, DIGEST, 'W/"x"')
    assert remote.head(APP, "v1", seconds=10) == RemoteHead(DIGEST, 'W/"x"')
    accepted = {seen.headers["accept"] for seen in server.seen}
    assert [set(each.split(", ")) for each in accepted] == [set(media_types.MANIFESTS)]
    assert [seen.method for seen in server.seen] == ["GET", "GET", "HEAD"]


@pytest.mark.parametrize("said", ["", "none", "sha256:abc", "md5:" + "0" * 32])
def test_a_digest_that_is_not_said_or_cannot_be_read_is_made_of_the_bytes(
    server: HostileServer, remote: RemoteManifests, said: str
) -> None:
    give(server, ONE, "v1", Docker_Content_Digest=said, ETag='"5d41402abc4b2a76"')
    assert remote.head(APP, "v1") == RemoteHead(None, '"5d41402abc4b2a76"')
    got = remote.get(APP, "v1")
    assert got is not None
    assert got.digest == DIGEST


def test_a_digest_of_another_algorithm_is_compared_and_kept(server: HostileServer, remote: RemoteManifests) -> None:
    made = image(Blob(b"config"), [Blob(b"layer")], algorithm="sha512")
    give(server, made, "v1")
    for reference in ("v1", Digest.parse(made.digest)):
        got = remote.get(APP, reference)
        assert got is not None
        assert got.digest == made.digest


@pytest.mark.parametrize(
    ("reference", "said"),
    [("v1", OTHER), (DIGEST, OTHER), (Digest.parse(OTHER), ONE.digest), (Digest.parse(OTHER), "")],
)
def test_bytes_with_another_digest_than_is_said_or_asked_for_are_refused_by_name(
    server: HostileServer, remote: RemoteManifests, reference: str, said: str
) -> None:
    give(server, ONE, "v1", OTHER, Docker_Content_Digest=said)
    with pytest.raises(AnswerInvalid, match=f"127.0.0.1: the manifest has the digest {ONE.digest}, and not {OTHER}"):
        remote.get(APP, reference)


def test_a_condition_is_sent_as_the_upstream_wrote_it(server: HostileServer, remote: RemoteManifests) -> None:
    def reply(handler: Handler) -> None:
        is_same = handler.headers.get("If-None-Match") == 'W/"a b"'
        whole(304)(handler) if is_same else whole(200, ONE.data, Content_Type=ONE.media_type)(handler)

    reply_all(server, reply, "v1")
    assert remote.get(APP, "v1", etag='W/"a b"') is None
    assert remote.get(APP, "v1", etag='"c"') is not None
    assert remote.get(APP, "v1") is not None


def test_an_upstream_that_says_unchanged_without_a_condition_gave_nothing(
    server: HostileServer, remote: RemoteManifests
) -> None:
    reply_all(server, whole(304), "v1")
    with pytest.raises(UpstreamStatus, match="status 304"):
        remote.get(APP, "v1")


@pytest.mark.parametrize("status", [400, 405])
def test_an_upstream_without_head_says_nothing_by_it(
    server: HostileServer, remote: RemoteManifests, status: int
) -> None:
    reply_all(server, whole(status), "v1")
    assert remote.head(APP, "v1") == RemoteHead(None, None)


@pytest.mark.parametrize("status", [204, 404, 410, 418, 451])
def test_any_other_status_is_told(server: HostileServer, remote: RemoteManifests, status: int) -> None:
    reply_all(server, whole(status), "v1")
    for ask in (remote.head, remote.get):
        with pytest.raises(UpstreamStatus) as raised:
            ask(APP, "v1")
        assert raised.value.status == status


@pytest.mark.parametrize(
    ("body", "headers", "words"),
    [
        (json.dumps(SCHEMA1).encode(), {"Content_Type": media_types.DOCKER_SCHEMA1}, "schema 1 manifests"),
        (json.dumps(SCHEMA1).encode(), {"Content_Type": media_types.DOCKER_SCHEMA1_SIGNED}, "schema 1 manifests"),
        (json.dumps(SCHEMA1).encode(), {"Content_Type": "application/json"}, "schema 1 manifests"),
        (b"<html>log in here</html>", {"Content_Type": "text/html"}, "not valid JSON"),
        (b"", {"Content_Type": media_types.OCI_MANIFEST}, "not valid JSON"),
        (b"[]", {"Content_Type": media_types.OCI_MANIFEST}, "not a JSON object"),
        (ONE.data, {"Content_Type": media_types.OCI_INDEX}, "mediaType"),
        (b" " * 4097, {"Content_Type": media_types.OCI_MANIFEST}, "more than 4096 bytes"),
        (gzip.compress(ONE.data), {"Content_Type": ONE.media_type, "Content_Encoding": "gzip"}, "encoded"),
    ],
    ids=range(9),
)
def test_what_is_no_manifest_that_can_be_kept_is_refused(
    server: HostileServer, remote: RemoteManifests, body: bytes, headers: dict[str, str], words: str
) -> None:
    reply_all(server, whole(200, body, **headers), "v1")
    with pytest.raises(AnswerInvalid, match=f"127.0.0.1: .*{words}"):
        remote.get(APP, "v1")


@pytest.mark.parametrize(
    "media_type", ["", "application/json", "application/octet-stream", f"{ONE.media_type}; charset=utf-8"]
)
def test_a_type_that_says_nothing_is_that_of_the_document(
    server: HostileServer, remote: RemoteManifests, media_type: str
) -> None:
    reply_all(server, whole(200, ONE.data, Content_Type=media_type), "v1")
    got = remote.get(APP, "v1")
    assert got is not None
    assert got.media_type == ONE.media_type


def cut(handler: Handler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Type", ONE.media_type)
    handler.send_header("Content-Length", str(len(ONE.data)))
    handler.end_headers()
    handler.wfile.write(ONE.data[:-1])
    handler.cut()


def test_a_body_that_is_cut_is_no_manifest(server: HostileServer, remote: RemoteManifests) -> None:
    reply_all(server, cut, "v1")
    with pytest.raises(UpstreamUnavailable):
        remote.get(APP, "v1")


def hang(handler: Handler) -> None:
    handler.hostile.ended.wait(60)


def hang_in_body(handler: Handler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Type", ONE.media_type)
    handler.send_header("Content-Length", str(len(ONE.data)))
    handler.end_headers()
    handler.wfile.write(ONE.data[:-1])
    handler.hostile.ended.wait(60)


@pytest.mark.parametrize("reply", [hang, hang_in_body])
def test_an_upstream_that_hangs_is_left_after_its_time(
    server: HostileServer, remote: RemoteManifests, reply: object
) -> None:
    server.replies[path_of("v1")] = reply  # type: ignore[assignment]
    with pytest.raises(UpstreamError) as raised:
        remote.get(APP, "v1", seconds=0.3)
    assert type(raised.value).__name__ == "UpstreamSilent"


def test_a_token_is_asked_for_with_the_right_to_pull_this_repository(server: HostileServer) -> None:
    def guarded(handler: Handler) -> None:
        if handler.headers.get("Authorization") == "Bearer t":
            whole(200, ONE.data, Content_Type=ONE.media_type)(handler)
        else:
            whole(401, WWW_Authenticate=f'Bearer realm="{server.url()}/token",service="s"')(handler)

    reply_all(server, guarded, "v1")
    server.replies["/token"] = whole(200, b'{"token": "t"}')
    with upstream_of(server.url()) as upstream:
        assert RemoteManifests(upstream, max_bytes=4096).get(APP, "v1") is not None
    (asked,) = (path for path in server.paths() if path.startswith("/token"))
    assert "scope=repository%3Alibrary%2Fapp%3Apull" in asked or "scope=repository:library/app:pull" in asked

"""Downloads that go to the bucket itself: GET of a blob alone, and only for clients that the rules name."""

from __future__ import annotations

import http.client
import json
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.api.service import Reply, serving
from tests.api.test_guard import basic, write_users
from tests.replicas.conftest import Config
from tests.support.payloads import Blob, image
from tests.support.s3_server import S3Server

pytestmark = [pytest.mark.stores, pytest.mark.tools("versitygw")]

REPO = "public/app"
BLOB = Blob(b"0123456789" * 100)
IMAGE = image(BLOB, [])


def fetch(address: str, headers: dict[str, str] | None = None) -> tuple[int, bytes]:
    """What the store answers there."""
    parts = urlsplit(address)
    connection = http.client.HTTPConnection(parts.netloc, timeout=60)
    connection.request("GET", f"{parts.path}?{parts.query}", headers=headers or {})
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response.status, body


def get(
    config: Config, directory: Path, redirect: object, headers: dict[str, str] | None = None, peer: str = "127.0.0.1"
) -> Reply:
    """GET of the blob, from a registry with that configuration."""
    config["storage"]["redirect"] = redirect
    with serving(directory, config, peer=peer) as service:
        service.push_blob(REPO, BLOB)
        return service.call("GET", f"/v2/{REPO}/blobs/{BLOB.digest}", headers=headers)


def test_a_redirected_client_finds_the_bytes_and_ranges_of_them(config: Config, tmp_path: Path) -> None:
    reply = get(config, tmp_path, "on")
    assert reply.status == 307
    assert reply.headers["docker-content-digest"] == BLOB.digest
    assert fetch(reply.location) == (200, BLOB.data)
    assert fetch(reply.location, {"Range": "bytes=10-19"}) == (206, BLOB.data[10:20])


def test_the_address_is_signed_for_this_object_and_a_while(config: Config, tmp_path: Path) -> None:
    """Check 23."""
    config["storage"]["redirect_expiry"] = 77
    address = get(config, tmp_path, "on").location
    assert "X-Amz-Expires=77" in address
    other = address.replace(BLOB.digest.removeprefix("sha256:"), "0" * 64)
    assert fetch(other)[0] == 403


def test_clients_are_sent_to_where_they_can_reach_the_store(config: Config, tmp_path: Path, store: S3Server) -> None:
    config["storage"]["s3"]["redirect_endpoint_url"] = f"http://localhost:{store.port}"
    address = get(config, tmp_path, "on").location
    assert address.startswith(f"http://localhost:{store.port}/")
    assert fetch(address) == (200, BLOB.data)


def test_nothing_else_is_redirected(config: Config, tmp_path: Path) -> None:
    """Check 23."""
    config["storage"]["redirect"] = "on"
    with serving(tmp_path, config) as service:
        service.push_blob(REPO, BLOB)
        service.push(REPO, "v1", IMAGE)
        assert service.call("HEAD", f"/v2/{REPO}/blobs/{BLOB.digest}").status == 200
        assert service.call("GET", f"/v2/{REPO}/manifests/v1").body == IMAGE.data
        assert service.call("HEAD", f"/v2/{REPO}/manifests/v1").status == 200
        assert service.call("GET", f"/v2/{REPO}/blobs/{'sha256:' + '0' * 64}").status == 404
        assert service.call("GET", f"/v2/another/app/blobs/{BLOB.digest}").status == 404


RULES: list[dict[str, Any]] = [
    {"networks": ["10.0.0.0/8", "::1"], "redirect": False},
    {"user_agents": ["docker/*", "containerd/*"], "repositories": ["public/*"]},
]


@pytest.mark.parametrize(
    ("peer", "agent", "rules", "status"),
    [
        ("192.0.2.1", "docker/27.1", RULES, 307),
        ("192.0.2.1", "containerd/2.0", RULES, 307),
        ("192.0.2.1", "curl/8", RULES, 200),
        ("10.1.2.3", "docker/27.1", RULES, 200),
        ("::1", "docker/27.1", RULES, 200),
        ("192.0.2.1", "docker/27.1", RULES[::-1], 307),
        ("192.0.2.1", "docker/27.1", [{"repositories": ["private/*"]}], 200),
        ("192.0.2.1", "docker/27.1", [], 200),
        ("192.0.2.1", "docker/27.1", "off", 200),
        ("192.0.2.1", "curl/8", "on", 307),
    ],
)
def test_the_first_rule_that_fits_decides(
    config: Config, tmp_path: Path, peer: str, agent: str, rules: object, status: int
) -> None:
    assert get(config, tmp_path, rules, {"User-Agent": agent}, peer).status == status


def test_the_decision_comes_before_the_address_also_where_it_is_remembered(config: Config, tmp_path: Path) -> None:
    """Check 23 of access: none for HEAD, the audit log has each, and none is good for longer than the settings say."""
    write_users(tmp_path / "users", {"alice": "wonderland", "bob": "builder"})
    rules = [{"who": ["alice"], "repositories": ["**"], "actions": ["push"]}]
    config["storage"] |= {"redirect": "on", "redirect_expiry": 77}
    sections = {
        **config,
        "auth": {"htpasswd": {"file": tmp_path / "users"}},
        "access": {"rules": rules},
        "log": {"audit": {"file": tmp_path / "audit"}},
    }
    alice, bob = ({"Authorization": basic(user, word)} for user, word in (("alice", "wonderland"), ("bob", "builder")))
    path = f"/v2/{REPO}/blobs/{BLOB.digest}"
    with serving(tmp_path, sections) as service:
        pushed = service.call("POST", f"/v2/{REPO}/blobs/uploads/?digest={BLOB.digest}", BLOB.data, alice)
        assert pushed.status == 201
        token = service.call("GET", f"/auth/token?scope=repository:{REPO}:pull", headers=bob).json["token"]
        refused = [{}, bob, {"Authorization": f"Bearer {token}"}, {"Authorization": "Bearer broken"}]
        for _ in range(3):  # cold, warm, and from memory
            for headers in refused:
                for method in ("GET", "HEAD"):
                    reply = service.call(method, path, headers=headers)
                    assert reply.status in {401, 403}, reply
                    assert "location" not in reply.headers
            reply = service.call("GET", path, headers=alice)
            assert reply.status == 307
            assert parse_qs(urlsplit(reply.location).query)["X-Amz-Expires"] == ["77"]
            head = service.call("HEAD", path, headers=alice)
            assert (head.status, "location" in head.headers) == (200, False)
            assert service.call("GET", path, headers={**alice, "If-None-Match": "*"}).status in {304, 307}
    text = (tmp_path / "audit").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    sent = [line for line in lines if line["event"] == "redirect"]
    assert len(sent) >= 3
    for line in sent:
        assert (line["who"]["name"], line["rule"], line["digest"]) == ("alice", 1, BLOB.digest)
        assert (line["answer"], line["repository"]) == (307, REPO)
    assert "X-Amz" not in text, "an address is a credential"

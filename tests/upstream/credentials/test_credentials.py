"""Credentials come from where the settings say, as they are now."""

from __future__ import annotations

import json
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from pydantic import ValidationError

from registry.config.upstream_sections import UpstreamSettings
from registry.upstream.credentials.credential import Credential, Credentials
from registry.upstream.credentials.sources import source_of
from registry.upstream.errors import TokenUnavailable
from registry.upstream.url import parse_url
from tests.upstream.hostile import Handler, HostileServer, settings_of, whole

ORIGIN = parse_url("https://registry.example.org").origin
SECRET = "correct-horse"


def source(**credentials: Any) -> Credentials:
    return source_of(settings_of("https://registry.example.org", credentials=credentials).credentials)


def test_without_settings_there_are_none() -> None:
    found = source_of(None)
    assert found.get(ORIGIN) is None
    assert not found.reject(Credential("user", SECRET))


@pytest.mark.parametrize("content", [SECRET, SECRET + "\n", SECRET + "\r\n"])
def test_a_password_is_read_from_a_file_that_may_change(tmp_path: Path, content: str) -> None:
    file = tmp_path / "password"
    file.write_text(content)
    found = source(kind="basic", username="user", password_file=file)
    given = found.get(ORIGIN)
    assert given == Credential("user", SECRET)
    assert not found.reject(given)
    file.write_text("another")
    assert found.reject(given)
    assert found.get(ORIGIN) == Credential("user", "another")
    file.write_text("")
    assert found.get(ORIGIN) == Credential("user", "another")


@pytest.mark.parametrize("content", [b"", b"\n", b"a\nb", b"\xff", b"a\0"])
def test_a_file_without_one_password_is_told_at_the_start(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "password"
    file.write_bytes(content)
    with pytest.raises(ValueError, match="password"):
        source(kind="basic", username="user", password_file=file)


def test_a_password_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    found = source(kind="basic", username="user", password_variable="HUB_PASSWORD")
    monkeypatch.delenv("HUB_PASSWORD", raising=False)
    with pytest.raises(TokenUnavailable, match="HUB_PASSWORD"):
        found.get(ORIGIN)
    monkeypatch.setenv("HUB_PASSWORD", SECRET)
    assert found.get(ORIGIN) == Credential("user", SECRET)


def encoded(user: str, secret: str) -> str:
    return b64encode(f"{user}:{secret}".encode()).decode()


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("https://registry.example.org", "registry.example.org"),
        ("https://registry.example.org", "https://registry.example.org"),
        ("https://registry.example.org", "https://registry.example.org/v2/"),
        ("https://registry.example.org", "Registry.Example.Org:443"),
        ("https://registry.example.org:5000", "registry.example.org:5000"),
        ("http://127.0.0.1:5000", "127.0.0.1:5000"),
        ("https://registry-1.docker.io", "https://index.docker.io/v1/"),
        ("https://docker.io", "docker.io"),
    ],
)
@pytest.mark.parametrize("entry", [{"auth": encoded("user", SECRET)}, {"username": "user", "password": SECRET}])
def test_the_entry_of_a_host_is_found(tmp_path: Path, host: str, name: str, entry: dict[str, str]) -> None:
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"auths": {name: entry, "other.example.org": {"auth": encoded("x", "y")}}}))
    found = source(kind="docker_config", file=file)
    given = found.get(parse_url(host).origin)
    assert given == Credential("user", SECRET)
    assert not found.reject(given)
    assert found.get(parse_url("https://third.example.org").origin) is None


def test_helpers_are_never_run(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    helpers = {"credsStore": "x", "credHelpers": {"registry.example.org": "x"}}
    file.write_text(json.dumps({"auths": {"registry.example.org": {}, "b": {"identitytoken": "x"}}, **helpers}))
    assert source(kind="docker_config", file=file).get(ORIGIN) is None


@pytest.mark.parametrize(
    "content", ["", "[]", '{"auths": []}', '{"auths": {"a": "b"}}', '{"auths": {"a": {"auth": "SECRET%"}}}']
)
def test_a_file_that_is_no_docker_config_is_told_without_its_content(tmp_path: Path, content: str) -> None:
    file = tmp_path / "config.json"
    file.write_text(content)
    with pytest.raises(ValueError, match=r"^its? (is|has|entry)") as raised:
        source(kind="docker_config", file=file)
    assert "SECRET" not in str(raised.value)


def test_a_token_of_amazon_is_asked_for_once_and_again_where_it_is_refused(
    server: HostileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (
        ("AWS_ENDPOINT_URL_ECR", server.url()),
        ("AWS_ACCESS_KEY_ID", "key"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
    ):
        monkeypatch.setenv(name, value)
    numbers = iter(range(10))

    def give(handler: Handler) -> None:
        handler.rfile.read(int(handler.headers["Content-Length"]))
        token = encoded("AWS", f"token-{next(numbers)}")
        document = {"authorizationData": [{"authorizationToken": token, "expiresAt": 4_000_000_000.0}]}
        handler.answer(200, json.dumps(document).encode(), Content_Type="application/x-amz-json-1.1")

    server.replies["/"] = give
    found = source(kind="ecr", region="eu-central-1")
    assert not server.seen
    given = [found.get(ORIGIN) for _ in range(3)]
    assert given == [Credential("AWS", "token-0")] * 3
    assert server.seen[0].headers["x-amz-target"].endswith("GetAuthorizationToken")
    assert given[0] is not None
    assert found.reject(given[0])
    assert found.get(ORIGIN) == Credential("AWS", "token-1")
    assert len(server.seen) == 2


def test_an_error_of_amazon_is_told_by_its_code(server: HostileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("AWS_ENDPOINT_URL_ECR", server.url())
    server.replies["/"] = whole(400, b'{"__type": "AccessDeniedException", "message": "SECRET"}')
    with pytest.raises(TokenUnavailable, match="AccessDeniedException") as raised:
        source(kind="ecr", region="eu-central-1").get(ORIGIN)
    assert "SECRET" not in str(raised.value)
    server.replies["/"] = whole(200, b'{"authorizationData": []}')
    with pytest.raises(TokenUnavailable, match="has none"):
        source(kind="ecr", region="eu-central-1").get(ORIGIN)


def account_file(path: Path, server: HostileServer) -> Path:
    """The key of a service account of Google, whose tokens are given here."""
    key = rsa.generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    account = {
        "type": "service_account",
        "project_id": "project",
        "client_email": "mirror@project.example.org",
        "token_uri": f"{server.url()}/token",
        "private_key": key.decode(),
    }
    path.write_text(json.dumps(account))
    return path


def test_a_token_of_google_is_asked_for_once(tmp_path: Path, server: HostileServer) -> None:
    server.replies["/token"] = whole(
        200, b'{"access_token": "token", "expires_in": 3600}', Content_Type="application/json"
    )
    found = source(kind="google", credentials_file=account_file(tmp_path / "account.json", server))
    assert not server.seen
    assert [found.get(ORIGIN) for _ in range(3)] == [Credential("oauth2accesstoken", "token")] * 3
    assert len(server.seen) == 1


def test_google_without_a_token_is_told(tmp_path: Path, server: HostileServer) -> None:
    server.replies["/token"] = whole(400, b'{"error": "invalid_grant"}', Content_Type="application/json")
    found = source(kind="google", credentials_file=account_file(tmp_path / "account.json", server))
    with pytest.raises(TokenUnavailable, match="Google gives no token"):
        found.get(ORIGIN)


@pytest.mark.parametrize(
    "keys",
    [
        {"credentials": {"kind": "basic", "username": "user"}},
        {"credentials": {"kind": "basic", "username": "user", "password_file": __file__, "password_variable": "X"}},
        {"credentials": {"kind": "basic", "username": "us:er", "password_variable": "X"}},
        {"credentials": {"kind": "magic"}},
        {"credentials": {"username": "user"}},
        {"url": []},
        {"url": ["registry.example.org"]},
        {"url": ["https://user:password@registry.example.org"]},
        {"token_hosts": ["https://auth.example.org"]},
        {"client_key": __file__},
        {"proxy": "proxy.example.org"},
        {"unknown": 1},
    ],
    ids=str,
)
def test_settings_that_make_no_sense_are_refused(keys: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        UpstreamSettings.model_validate({"url": ["https://registry.example.org"], **keys})

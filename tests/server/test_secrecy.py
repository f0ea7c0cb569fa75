"""No secret is written: every door is tried with good and wrong credentials, and everything is searched (check 25)."""

from __future__ import annotations

import http.client
import json
import os
import signal
import time
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import bcrypt
import pytest

from registry.api.http.small_body import FORM
from registry.api.token import EXCHANGE
from tests.auth.signing import jwks, rsa, signed
from tests.support.payloads import Blob, image
from tests.support.secrecy import audit_file_of, require_unwritten
from tests.support.servers import HOST, RegistryProcess

CONFIG = Blob(b"{}")
IMAGE = image(CONFIG, [])
PASSWORD, WRONG = "wonder-land-7%", "never-a-password-5&"
SECRET = "file-of-a-secret-that-signs-tokens-0123456789"
SCOPE = "repository:app:pull,push"
CLAIMS = {"iss": "https://ci.example.org", "aud": "here", "sub": "job", "exp": 4_000_000_000}


class Caller:
    """A client that keeps what it was told."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.refusals = b""

    def call(
        self, method: str, path: str, authorization: str = "", body: bytes = b"", **headers: str
    ) -> tuple[int, Any]:
        connection = http.client.HTTPConnection(HOST, self.port, timeout=30)
        try:
            given = {"Authorization": authorization} if authorization else {}
            connection.request(method, path, body, {**headers, **given})
            answer = connection.getresponse()
            text = answer.read()
            if answer.status >= 400:
                self.refusals += text + str(answer.getheaders()).encode()
            return answer.status, text
        finally:
            connection.close()

    def form(self, **fields: str) -> tuple[int, Any]:
        return self.call("POST", "/auth/token", body=urlencode(fields).encode(), **{"Content-Type": FORM})


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RegistryProcess]:
    (tmp_path / "users").write_text(f"alice:{bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()}\n")
    (tmp_path / "jwks").write_bytes(jwks(rsa()))
    (tmp_path / "signing").write_text(SECRET)
    provider = {
        "name": "ci",
        "issuer": CLAIMS["iss"],
        "audiences": ["here"],
        "jwks_file": str(tmp_path / "jwks"),
        "any_identity": True,
    }
    config: dict[str, dict[str, Any]] = {
        "http": {"workers": 2},
        "auth": {
            "htpasswd": {"file": str(tmp_path / "users")},
            "oidc": [provider],
            "token": {"refresh": True, "key_file": str(tmp_path / "signing")},
        },
        "access": {"rules": [{"who": ["authenticated"], "repositories": ["app"], "actions": ["push", "delete"]}]},
        "log": {"level": "debug", "audit": {"file": str(tmp_path / "audit")}},
    }
    process = RegistryProcess(tmp_path / "registry", config)
    process.start()
    try:
        yield process
        process.stop()
    finally:
        if process.running:
            process.kill()


def test_no_secret_is_written_whatever_door_it_came_to(server: RegistryProcess) -> None:
    caller = Caller(server.port)
    key = server.run("key", "create", "--owner", "alice")["secret"]
    job, stranger = signed(rsa(), "RS256", CLAIMS), signed(rsa(9), "RS256", CLAIMS)
    password = {"grant_type": "password", "username": "alice", "access_type": "offline", "scope": SCOPE}
    bought = [caller.form(**password, password=each)[1] for each in (PASSWORD, key, job)]
    exchange = {"grant_type": EXCHANGE, "scope": SCOPE}
    bought.append(caller.form(**exchange, subject_token=job)[1])
    documents = [json.loads(text) for text in bought]
    tokens = [document["token"] for document in documents]
    refresh = documents[0]["refresh_token"]
    assert caller.form(grant_type="refresh_token", refresh_token=refresh, scope=SCOPE)[0] == 200

    good = [basic("alice", PASSWORD), basic("", key), basic("job", job), *(f"Bearer {each}" for each in (*tokens, job))]
    wrong = [basic("alice", WRONG), basic(WRONG, ""), basic(key, "x"), basic("alice", stranger), basic("", refresh)]
    wrong += [f"Bearer {each}" for each in (stranger, refresh, tokens[0] + "x", key[:-1], WRONG)]
    wrong += [f"Basic {WRONG}", f"Digest {WRONG}", basic("alice", f"{key}x"), basic("", tokens[0])]
    paths = ["/v2/", "/v2/app/tags/list", "/v2/other/manifests/one", "/auth/token", "/api/v1", "/metrics"]
    for authorization in (*good, *wrong):
        for path in paths:
            caller.call("GET", path, authorization)
        caller.call("POST", f"/v2/app/blobs/uploads/?digest={CONFIG.digest}", authorization, CONFIG.data)
        kind = {"Content-Type": IMAGE.media_type}
        caller.call("PUT", "/v2/app/manifests/one", authorization, IMAGE.data, **kind)
        caller.call("PUT", "/v2/other/manifests/one", authorization, IMAGE.data, **kind)
        caller.call("GET", f"/auth/token?account={WRONG}&password={WRONG}", authorization)
    for each in (WRONG, f"{key}x", stranger, tokens[0]):
        caller.form(**password, password=each)
        caller.form(grant_type="refresh_token", refresh_token=each)
        caller.form(**exchange, subject_token=each)
        caller.form(grant_type=each, password=each)
    server.run("key", "revoke", server.run("key", "list")["keys"][0]["id"])
    caller.call("GET", "/v2/", basic("", key))
    os.kill(server.pid, signal.SIGHUP)
    time.sleep(1)

    secrets = [PASSWORD, WRONG, SECRET, key, job, stranger, refresh, *tokens]
    audit = audit_file_of(server).read_text()
    for event in ("tag-set", "token", "denied", "login-failed", "key-created", "key-revoked", "rules-loaded"):
        assert f'"event":"{event}"' in audit, "the search would prove nothing"
    require_unwritten([server], secrets, ["alice", "job"], caller.refusals)


def basic(user: str, password: str) -> str:
    return "Basic " + b64encode(f"{user}:{password}".encode()).decode()

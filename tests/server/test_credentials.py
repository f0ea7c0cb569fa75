"""Real servers with users and keys: what is taken away ends in every process, no secret is written (checks 12, 25)."""

from __future__ import annotations

import contextlib
import http.client
import json
import time
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import bcrypt
import pytest

from registry.auth.passwords.password_file import PasswordFile
from registry.auth.passwords.password_hash import PasswordHash
from tests.support.payloads import Blob, image
from tests.support.secrecy import require_unwritten
from tests.support.servers import HOST, RegistryProcess
from tests.support.together import serving_together

CONFIG = Blob(b"{}")
IMAGE = image(CONFIG, [])
MANIFEST = "/v2/app/manifests/one"
PASSWORDS = {"alice": "wonder-land-7", "bob": "can-we-fix-it-9"}
WRONG = "never-a-password-5"
PATIENCE = 200.0
"""Seconds for what takes less than one where the machine is not busy with other tests."""
REQUESTS = 12
"""Each on a connection of its own."""
PROCESSES = 2
"""See ``serving_together``."""


@dataclass
class Place:
    """Servers over one storage and one database."""

    servers: list[RegistryProcess]
    users: PasswordFile

    def call(
        self,
        server: RegistryProcess,
        method: str,
        path: str,
        authorization: str = "",
        body: bytes = b"",
        **headers: str,
    ) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(HOST, server.port, timeout=30)
        try:
            given = {"Authorization": authorization} if authorization else {}
            connection.request(method, path, body, {**headers, **given})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def push(self) -> None:
        blob = f"/v2/app/blobs/uploads/?digest={CONFIG.digest}"
        alice, server = basic("alice", PASSWORDS["alice"]), self.servers[0]
        assert self.call(server, "POST", blob, alice, CONFIG.data)[0] == 201
        kind = {"Content-Type": IMAGE.media_type}
        assert self.call(server, "PUT", MANIFEST, alice, IMAGE.data, **kind)[0] == 201

    def token(self, authorization: str) -> str:
        query = urlencode({"scope": "repository:app:pull"})
        status, body = self.call(self.servers[0], "GET", f"/auth/token?{query}", authorization)
        assert status == 200, body
        return str(json.loads(body)["token"])

    def statuses(self, authorization: str) -> set[int]:
        """What both processes answer to a read that is in their memory."""
        deadline = time.monotonic() + PATIENCE
        while True:
            found = [answer for server in self.servers for answer in _read_of(server, authorization)]
            if len({process for process, _ in found}) == PROCESSES:
                return {status for _, status in found}
            assert time.monotonic() < deadline, "a process gets no connection"

    def await_refusal(self, authorization: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while self.statuses(authorization) != {401}:
            assert time.monotonic() < deadline
        assert self.statuses(authorization) == {401}


def _read_of(server: RegistryProcess, authorization: str) -> list[tuple[str, int]]:
    """Which process answered, by the beginning of its numbers of requests, and with which status."""
    with contextlib.ExitStack() as stack:
        connections = [http.client.HTTPConnection(HOST, server.port, timeout=30) for _ in range(REQUESTS)]
        found = []
        for connection in connections:
            stack.callback(connection.close)
            connection.connect()  # all before the first request: those that are open at a time are shared
        for connection in connections:
            connection.request("GET", MANIFEST, headers={"Authorization": authorization})
            answer = connection.getresponse()
            answer.read()
            found.append((answer.headers["X-Request-Id"].partition("-")[0], answer.status))
        return found


def basic(user: str, password: str) -> str:
    return "Basic " + b64encode(f"{user}:{password}".encode()).decode()


@pytest.fixture(scope="module", params=["workers", "replicas"])
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Two workers over SQLite, or two replicas over PostgreSQL."""
    directory: Path = tmp_path_factory.mktemp("credentials")
    users = PasswordFile(directory / "htpasswd")
    for user, password in PASSWORDS.items():
        users.add(user, PasswordHash(bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()))
    config: dict[str, dict[str, Any]] = {
        "auth": {"htpasswd": {"file": str(directory / "htpasswd")}},
        "log": {"level": "debug"},
    }
    cluster = request.getfixturevalue("cluster") if request.param == "replicas" else None
    with serving_together(directory, config, cluster) as servers:
        made = Place(servers, users)
        made.push()
        yield made


def test_a_connection_that_stays_open_is_refused_as_soon_as_a_new_one(place: Place) -> None:
    with contextlib.ExitStack() as stack:
        connections = [
            stack.enter_context(contextlib.closing(http.client.HTTPConnection(HOST, server.port, timeout=30)))
            for server in place.servers
            for _ in range(REQUESTS)
        ]

        def statuses(authorization: str) -> set[int]:
            found = set()
            for connection in connections:
                connection.request("GET", MANIFEST, headers={"Authorization": authorization})
                answer = connection.getresponse()
                found.add(answer.status)
                answer.read()
            return found

        created = place.servers[0].run("key", "create", "--owner", "bob")
        key = basic("any", created["secret"])
        token, kept = f"Bearer {place.token(key)}", basic("alice", PASSWORDS["alice"])
        for authorization in (key, token, kept, token, token):
            assert statuses(authorization) == {200}
        place.servers[0].run("key", "revoke", created["id"])
        deadline = time.monotonic() + PATIENCE
        while statuses(token) != {401}:
            assert time.monotonic() < deadline
        assert statuses(key) == {401}
        assert statuses(kept) == {200}


@pytest.mark.timeout(300)
def test_what_is_taken_away_is_refused_by_every_process_and_the_rest_is_not(place: Place) -> None:
    made = place.servers[0].run("key", "create", "--owner", "bob", "--repository", "app", "--action", "pull")
    kept = place.servers[0].run("key", "create", "--owner", "bob")
    key, kept_key = basic("any", made["secret"]), basic("", kept["secret"])
    alice, bob = (basic(user, password) for user, password in PASSWORDS.items())
    tokens = {each: f"Bearer {place.token(each)}" for each in (alice, bob, key, kept_key)}
    for each in (*tokens, *tokens.values()):
        assert place.statuses(each) == {200}

    place.servers[0].run("key", "revoke", made["id"])
    for each in (key, tokens[key]):
        place.await_refusal(each)
    for each in (alice, bob, kept_key, tokens[alice], tokens[bob], tokens[kept_key]):
        assert place.statuses(each) == {200}

    place.users.remove("bob")
    for each in (bob, tokens[bob], kept_key, tokens[kept_key]):
        place.await_refusal(each)
    new = PasswordHash(bcrypt.hashpw(b"another", bcrypt.gensalt(4)).decode())
    place.users.replace("alice", new)
    for each in (alice, tokens[alice]):
        place.await_refusal(each)
    assert place.statuses(basic("alice", "another")) == {200}

    secrets = [*PASSWORDS.values(), made["secret"], kept["secret"], new.text, "another", WRONG]
    secrets += [each.partition(" ")[2] for each in (*tokens, *tokens.values())]
    place.statuses(basic("alice", WRONG))
    require_unwritten(place.servers, secrets, PASSWORDS)

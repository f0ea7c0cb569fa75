"""Rules that change while a server runs: SIGHUP brings them to every process, and a wrong file brings nothing."""

from __future__ import annotations

import http.client
import json
import os
import signal
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import bcrypt
import pytest

from registry.config.settings import load_settings
from registry.observability.audit import AuditLog
from registry.server.reload import Reload, Rules
from tests.support.payloads import Blob, image
from tests.support.servers import HOST, RegistryProcess

CONFIG, OTHER = Blob(b"{}"), Blob(b'{"other": 1}')
IMAGE, SECOND = image(CONFIG, []), image(OTHER, [])
MANIFEST = "/v2/app/manifests/one"
ALICE = "Basic " + b64encode(b"alice:secret").decode()
PULL = {"who": ["anonymous"], "repositories": ["**"], "actions": ["pull"]}
PUSH = {"who": ["alice"], "repositories": ["**"], "actions": ["push"]}
PATIENCE = 20.0
REQUESTS = 12
"""Each on a connection of its own: all workers get some."""


class Server:
    """A server whose file of settings a test changes."""

    def __init__(self, directory: Path, workers: int) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "users").write_text(f"alice:{bcrypt.hashpw(b'secret', bcrypt.gensalt(4)).decode()}\n")
        self.audit = directory / "audit"
        config: dict[str, dict[str, Any]] = {
            "http": {"workers": workers},
            "auth": {"htpasswd": {"file": str(directory / "users")}},
            "access": {"rules": [PUSH]},
            "log": {"audit": {"file": str(self.audit)}},
            "storage": {"fsync": False},
        }
        self.process = RegistryProcess(directory / "registry", config)
        self.process.start()

    def call(
        self, method: str, path: str, authorization: str = "", body: bytes = b"", **headers: str
    ) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(HOST, self.process.port, timeout=30)
        try:
            given = {"Authorization": authorization} if authorization else {}
            connection.request(method, path, body, {**headers, **given})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def begin(self) -> str:
        """The path of a new upload session."""
        connection = http.client.HTTPConnection(HOST, self.process.port, timeout=30)
        try:
            connection.request("POST", "/v2/app/blobs/uploads/", headers={"Authorization": ALICE})
            answer = connection.getresponse()
            assert answer.status == 202
            return urlsplit(answer.headers["Location"]).path
        finally:
            connection.close()

    def push(self, manifest: Any = IMAGE) -> int:
        for blob in (CONFIG, OTHER):
            path = f"/v2/app/blobs/uploads/?digest={blob.digest}"
            assert self.call("POST", path, ALICE, blob.data)[0] == 201
        return self.call("PUT", MANIFEST, ALICE, manifest.data, **{"Content-Type": manifest.media_type})[0]

    def change(self, **sections: Any) -> None:
        """Write the file anew and tell the process."""
        document = json.loads(self.process.config_path.read_text())
        self.process.config_path.write_text(json.dumps(document | sections))
        self.hang_up()

    def hang_up(self) -> None:
        os.kill(self.process.pid, signal.SIGHUP)

    def settle(self, ask: Callable[[], object], wanted: object) -> None:
        """Until every process answers so."""
        deadline = time.monotonic() + PATIENCE
        while {str(ask()) for _ in range(REQUESTS)} != {str(wanted)}:
            assert time.monotonic() < deadline, ask()

    def status(self, authorization: str = "") -> int:
        return self.call("GET", MANIFEST, authorization)[0]

    def problems(self) -> Any:
        return json.loads(self.call("GET", "/readyz")[1])["problems"]

    def loaded(self) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self.audit.read_text().splitlines()]
        return [line for line in lines if line["event"] == "rules-loaded"]


@pytest.fixture(params=[1, 2])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    made = Server(tmp_path, request.param)
    try:
        yield made
        made.process.stop()
    finally:
        if made.process.running:
            made.process.kill()


def test_changed_rules_hold_in_every_process_and_an_open_connection_stays(server: Server) -> None:
    assert server.push() == 201
    kept = http.client.HTTPConnection(HOST, server.process.port, timeout=30)
    kept.request("GET", MANIFEST)
    first = kept.getresponse()
    assert (first.status, bool(first.read())) == (401, True)
    socket = kept.sock
    assert socket is not None

    server.change(access={"rules": [PUSH, PULL], "immutable": [{"repositories": ["**"], "tags": ["one"]}]})
    server.settle(server.status, 200)
    assert {server.push(SECOND) for _ in range(REQUESTS)} == {409}, "immutable tags come with the rules"
    kept.request("GET", MANIFEST)
    second = kept.getresponse()
    assert (second.status, second.read()) == (200, IMAGE.data)
    assert kept.sock is socket
    kept.close()

    server.change(access={"rules": [PUSH], "quotas": [{"repositories": ["**"], "bytes": 1}]})
    server.settle(server.status, 401)
    begin = "/v2/full/blobs/uploads/"
    assert {server.call("POST", begin, ALICE)[0] for _ in range(REQUESTS)} == {403}, "quotas too"
    server.change(access={"rules": [PUSH]})
    server.settle(lambda: server.call("POST", begin, ALICE)[0], 202)
    assert {server.push(SECOND) for _ in range(REQUESTS)} == {201}
    hashes = [(line["rules"], line["sha256"]) for line in server.loaded()]
    assert [count for count, _ in hashes] == [1, 2, 1, 1]
    assert hashes[0] == hashes[3] != hashes[1]
    assert server.problems() == []


@pytest.mark.parametrize(
    "access",
    [
        "{",
        {"rules": [{"who": ["alice"]}]},
        {"rules": [{**PULL, "who": ["oidc:nowhere"]}]},
    ],
)
def test_a_file_that_is_wrong_keeps_the_rules_and_is_told(server: Server, access: Any) -> None:
    assert server.push() == 201
    good = server.process.config_path.read_text()
    if isinstance(access, str):
        server.process.config_path.write_text(access)
        server.hang_up()
    else:
        server.change(access=access)
    server.settle(server.problems, ["access.rules"])
    assert server.status(ALICE) == 200
    assert server.status() == 401
    assert b"the rules were not loaded, those before stay" in server.process.log_path.read_bytes()
    assert len(server.loaded()) == 1
    server.process.config_path.write_text(good)
    server.hang_up()
    server.settle(server.problems, [])


def test_no_request_fails_while_a_file_is_written_again_and_again(server: Server) -> None:
    """Files that are cut, empty or wrong bring nothing; between them are good ones."""
    assert server.push() == 201
    path, stop = server.process.config_path, threading.Event()
    good = path.read_text()
    wider = json.dumps(json.loads(good) | {"access": {"rules": [PUSH, PULL]}})
    pieces = [good[: len(good) * part // 8] for part in range(8)]

    def ask(_: int) -> set[tuple[int, int]]:
        seen = set()
        while not stop.is_set():
            seen.add((server.status(ALICE), server.status()))
        return seen

    with ThreadPoolExecutor(3) as pool:
        asking = [pool.submit(ask, number) for number in range(3)]
        try:
            for piece in [*pieces, "null", "[]", "{}}", wider] * 2:
                path.write_text(piece)
                server.hang_up()
                time.sleep(0.02)
        finally:
            stop.set()
        seen = set().union(*(each.result() for each in asking))
    assert seen <= {(200, 401), (200, 200)}, "alice is always let in, and a stranger by the wider rules alone"
    path.write_text(good)
    server.hang_up()
    server.settle(server.status, 401)
    server.settle(server.problems, [])


def test_a_push_that_is_under_way_when_its_rule_goes_ends_before_its_manifest(server: Server) -> None:
    """A request is judged when it begins; the next one of the same push is refused."""
    begun = http.client.HTTPConnection(HOST, server.process.port, timeout=30)
    begun.putrequest("POST", f"/v2/app/blobs/uploads/?digest={CONFIG.digest}")
    for name, value in (("Authorization", ALICE), ("Content-Length", str(len(CONFIG.data)))):
        begun.putheader(name, value)
    begun.endheaders(CONFIG.data[:1])
    session = server.begin()
    server.change(access={"rules": []})
    server.settle(lambda: server.call("POST", "/v2/app/blobs/uploads/", ALICE)[0], 403)
    begun.send(CONFIG.data[1:])
    assert begun.getresponse().status == 201
    begun.close()
    for method, path, body in (
        ("PATCH", session, b"more"),
        ("PUT", f"{session}?digest={OTHER.digest}", OTHER.data),
        ("GET", session, b""),
        ("DELETE", session, b""),
        ("PUT", MANIFEST, IMAGE.data),
    ):
        assert server.call(method, path, ALICE, body)[0] == 403, method


def test_other_sections_wait_for_a_restart_and_the_log_says_so(server: Server) -> None:
    server.change(limits={"page_size": 7}, access={"rules": [PUSH, PULL]})
    server.settle(server.status, 404)
    assert b"changed settings take effect with the next start" in server.process.log_path.read_bytes()
    assert b"limits" in server.process.log_path.read_bytes()


def test_a_worker_that_replaces_another_has_the_rules_of_now(tmp_path: Path) -> None:
    made = Server(tmp_path, 2)
    try:
        assert made.push() == 201
        made.change(access={"rules": [PUSH, PULL]})
        made.settle(made.status, 200)
        children = Path(f"/proc/{made.process.pid}/task/{made.process.pid}/children").read_text().split()
        for child in children:
            os.kill(int(child), signal.SIGKILL)
        deadline = time.monotonic() + PATIENCE
        while True:
            now = Path(f"/proc/{made.process.pid}/task/{made.process.pid}/children").read_text().split()
            if len(now) == len(children) and not set(now) & set(children):
                break
            assert time.monotonic() < deadline
            time.sleep(0.1)
        made.settle(made.status, 200)
        made.process.stop()
    finally:
        if made.process.running:
            made.process.kill()


def test_many_signals_in_a_row_end_with_the_last_file(server: Server) -> None:
    assert server.push() == 201
    for number in range(20):
        server.change(access={"rules": [PUSH, PULL] if number % 2 else [PUSH]})
    server.settle(server.status, 200)


def test_rules_are_the_same_after_they_were_told(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    immutable = {"repositories": ["a/**"], "tags": ["v*"], "except": ["v0"]}
    claims = {"who": ["oidc:ci"], "repositories": ["{project}"], "actions": ["pull"], "claims": {"ref": "main"}}
    path.write_text(json.dumps({"access": {"rules": [PUSH, claims], "immutable": [immutable]}}))
    rules = Rules(load_settings(path).access, is_stale=True)
    assert Rules.parse(rules.to_json()) == rules
    assert Rules.parse(Rules(None).to_json()) == Rules(None)
    path.write_text(json.dumps({"access": {"immutable": [immutable], "rules": [PUSH, claims]}}, indent=3))
    assert Rules(load_settings(path).access).sha256 == rules.sha256


def test_where_there_is_no_auth_rules_come_and_go_with_a_restart_only(tmp_path: Path) -> None:
    """A process without any decides nothing, and is not built to."""
    path, written = tmp_path / "config.json", list[bytes]()
    path.write_text("{}")
    reload = Reload(load_settings(path), path, AuditLog(written.append))
    path.write_text(json.dumps({"access": {"rules": [PULL]}}))
    assert reload.load() == Rules(None, is_stale=True)
    assert not written


def test_a_server_without_settings_leaves_the_signal_alone() -> None:
    assert not Reload(load_settings(None), None).is_wanted


def test_a_mistake_of_ours_stops_no_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"access": {"rules": [PULL]}}))
    reload = Reload(load_settings(path), path)
    monkeypatch.setattr("registry.server.reload.load_settings", lambda _path: 1 / 0)
    assert reload.load() == Rules(reload.settings.access, is_stale=True)


def test_a_file_without_rules_opens_nothing(tmp_path: Path) -> None:
    """A file that has lost them, or is not written yet, is no wish to let every user in everywhere."""
    path, written = tmp_path / "config.json", list[bytes]()
    users = tmp_path / "users"
    users.write_text(f"alice:{bcrypt.hashpw(b'secret', bcrypt.gensalt(4)).decode()}\n")
    auth = {"htpasswd": {"file": str(users)}}
    path.write_text(json.dumps({"auth": auth, "access": {"rules": [PULL]}}))
    reload = Reload(load_settings(path), path, AuditLog(written.append))
    before = reload.rules
    for document in ({}, {"auth": auth}):
        path.write_text(json.dumps(document))
        assert reload.load() == before._replace(is_stale=True)
    assert not written
    path.write_text(json.dumps({"auth": auth, "access": {}}))
    assert reload.load().access is not None
    path.write_text(json.dumps({"auth": auth}))
    other = Reload(load_settings(path), path)
    path.write_text(json.dumps({"auth": auth, "access": {"rules": [PULL]}}))
    assert other.load().access is not None, "rules come at any time"

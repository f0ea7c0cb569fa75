"""A registry whose PostgreSQL says nothing: every request is answered in time, and as before once it goes on."""

from __future__ import annotations

import itertools
import json
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tests.server.sending import Client
from tests.support.payloads import Blob, image
from tests.support.postgresql import Cluster
from tests.support.servers import RegistryProcess
from tests.support.silent_proxy import SilentProxy

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.server.sending import Config

REPO = "silent/repository"
CONFIG = Blob(b"{}")
IMAGE = image(CONFIG, [])
MANIFEST = f"/v2/{REPO}/manifests/one"
BOUND = 40.0
"""Seconds for any answer, on a busy machine; without deadlines there would be none."""
QUICK: Config = {"database": {"timeout": 1, "connect_timeout": 2}, "http": {"drain_timeout": 3}}


pytestmark = pytest.mark.stores  # these wait for deadlines, on a real server of PostgreSQL


@pytest.fixture(scope="module")
def own_cluster() -> Iterator[Cluster]:
    """A server that no other test uses, behind a port."""
    running = Cluster(tcp=True)
    yield running
    running.thaw()
    running.remove()


@pytest.fixture
def process(own_cluster: Cluster, tmp_path: Path) -> Iterator[RegistryProcess]:
    config = {**QUICK, "database": {**QUICK["database"], "url": own_cluster.create()}}
    server = RegistryProcess(tmp_path, config)
    server.start()
    try:
        yield server
    finally:
        own_cluster.thaw()
        if server.running:
            server.kill()


def push(port: int) -> None:
    with Client(port) as client:
        assert client.call("POST", f"/v2/{REPO}/blobs/uploads/?digest={CONFIG.digest}", CONFIG.data).status == 201
        assert client.call("PUT", MANIFEST, IMAGE.data, {"Content-Type": IMAGE.media_type}).status == 201


def status(port: int, method: str, target: str, body: bytes = b"") -> tuple[int, float]:
    """The answer and how long it took; 503 has to say when to come again."""
    began = time.monotonic()
    with Client(port) as client:
        reply = client.call(method, target, body)
    if reply.status == 503 and target.startswith("/v2/"):
        assert int(reply.headers["retry-after"]) > 0
    return reply.status, time.monotonic() - began


def wait_until(port: int, target: str, wanted: int) -> None:
    deadline = time.monotonic() + BOUND
    while status(port, "GET", target)[0] != wanted:
        assert time.monotonic() < deadline, f"{target} is not {wanted}"
        time.sleep(0.1)


def lines(process: RegistryProcess, event: str) -> list[dict[str, object]]:
    found = [json.loads(line) for line in process.log_path.read_text().splitlines()]
    return [line for line in found if line.get("event") == event]


def test_a_frozen_database_costs_each_request_a_bounded_time_and_nothing_afterwards(
    own_cluster: Cluster, process: RegistryProcess
) -> None:
    port = process.port
    push(port)
    for _ in range(3):
        assert status(port, "GET", MANIFEST)[0] == 200
    own_cluster.freeze()
    asked = [("GET", MANIFEST), ("DELETE", f"/v2/{REPO}/manifests/none"), ("GET", f"/v2/{REPO}/tags/list")] * 20
    with ThreadPoolExecutor(len(asked)) as pool:
        answers = [pool.submit(status, port, *question) for question in asked]
        assert status(port, "GET", "/livez")[0] == 200
        code, seconds = status(port, "GET", "/readyz")
        assert code == 503
        assert seconds < BOUND
        for answer in answers:
            code, seconds = answer.result()
            assert code == 503
            assert seconds < BOUND
    again = [status(port, *question) for question in asked[:30]]
    assert {code for code, _ in again} == {503}
    assert sorted(seconds for _, seconds in again)[15] < 1, "most are told at once"
    assert status(port, "GET", "/metrics")[0] == 200
    own_cluster.thaw()
    wait_until(port, "/readyz", 200)
    wait_until(port, MANIFEST, 200)
    push(port)
    assert status(port, "GET", MANIFEST)[0] == 200
    log = process.log_path.read_text()
    assert "Traceback" not in log
    assert "exception" not in log
    process.stop()


def test_a_drain_ends_in_time_while_the_database_is_frozen(own_cluster: Cluster, process: RegistryProcess) -> None:
    push(process.port)
    own_cluster.freeze()
    with ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(status, process.port, "GET", f"/v2/{REPO}/tags/list") for _ in range(8)]
        wait_until(process.port, "/readyz", 503)
        os.kill(process.pid, signal.SIGTERM)
        assert process._process is not None
        assert process._process.wait(40) == 0
        assert {answer.result()[0] for answer in answers} == {503}
    assert "Traceback" not in process.log_path.read_text()


def test_a_network_that_loses_everything_is_told_and_forgotten(own_cluster: Cluster, tmp_path: Path) -> None:
    assert own_cluster.port is not None
    with SilentProxy(own_cluster.port) as proxy:
        url = own_cluster.create().replace(f":{own_cluster.port}/", f":{proxy.port}/")
        with RegistryProcess(tmp_path, {**QUICK, "database": {**QUICK["database"], "url": url}}) as process:
            push(process.port)
            proxy.lose = lambda _: True
            with ThreadPoolExecutor(40) as pool:
                answers = [pool.submit(status, process.port, "GET", MANIFEST) for _ in range(40)]
                assert {answer.result()[0] for answer in answers} == {503}
                assert max(answer.result()[1] for answer in answers) < BOUND
            proxy.lose = lambda _: False
            wait_until(process.port, MANIFEST, 200)
            push(process.port)
            wait_until(process.port, "/readyz", 200)


@pytest.mark.parametrize("step", [1, 2, 3, 4])
def test_a_push_whose_commit_is_in_doubt_is_not_acknowledged_and_can_be_made_again(
    own_cluster: Cluster, tmp_path: Path, step: int
) -> None:
    """The server does what it is asked at each step of the push of a manifest; from one of them on it is not heard."""
    assert own_cluster.port is not None
    with SilentProxy(own_cluster.port) as proxy:
        url = own_cluster.create().replace(f":{own_cluster.port}/", f":{proxy.port}/")
        with RegistryProcess(tmp_path, {**QUICK, "database": {**QUICK["database"], "url": url}}) as process:
            with Client(process.port) as client:
                pushed = client.call("POST", f"/v2/{REPO}/blobs/uploads/?digest={CONFIG.digest}", CONFIG.data)
                assert pushed.status == 201
                sent = itertools.count(1)
                proxy.lose_answer = lambda _: next(sent) >= step
                assert client.call("PUT", MANIFEST, IMAGE.data, {"Content-Type": IMAGE.media_type}).status == 503
                proxy.lose_answer = lambda _: False
            wait_until(process.port, "/readyz", 200)
            push(process.port)
            process.restart()
            with Client(process.port) as client:
                assert client.call("GET", MANIFEST).body == IMAGE.data
            index = json.loads((process.root / REPO / "index.json").read_text())
            assert [entry["digest"] for entry in index["manifests"]] == [IMAGE.digest]


def test_a_registry_does_not_start_while_its_database_says_nothing(own_cluster: Cluster, tmp_path: Path) -> None:
    url = own_cluster.create()
    own_cluster.freeze()
    try:
        process = RegistryProcess(tmp_path, {**QUICK, "database": {**QUICK["database"], "url": url}})
        with pytest.raises(AssertionError, match="exited with"):
            process.start(timeout=25)
        assert "Traceback" not in process.log_path.read_text()
    finally:
        own_cluster.thaw()

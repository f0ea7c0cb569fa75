"""A bucket that accepts requests and answers none: what needs it is refused in time, all else is answered as before."""

from __future__ import annotations

import hashlib
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from tests.server.sending import Client, call
from tests.support.payloads import Blob, image
from tests.support.servers import HOST, RegistryProcess
from tests.support.silent_proxy import SilentProxy

if TYPE_CHECKING:
    from pathlib import Path

    from tests.replicas.conftest import Config
    from tests.support.s3_server import S3Server

pytestmark = [pytest.mark.stores]

REPO = "silent/bucket"
CONFIG = Blob(b"{}")
IMAGE = image(CONFIG, [])
MANIFEST = f"/v2/{REPO}/manifests/one"
CLIENTS = 200
READ_TIMEOUT = 3
QUICK = 5.0
"""Seconds for what needs no bucket, mostly: one answer may be late on a busy machine."""
BOUND = 40.0
"""Seconds for any answer, on a busy machine."""


def status(port: int, method: str, target: str, body: bytes = b"") -> tuple[int, float]:
    began = time.monotonic()
    reply = call(port, method, target, body)
    if reply.status == 503:
        assert int(reply.headers["retry-after"]) > 0
    return reply.status, time.monotonic() - began


def test_hundreds_of_clients_that_wait_for_a_silent_bucket_leave_the_others_alone(
    store: S3Server, tmp_path: Path
) -> None:
    waits = {"read_timeout": READ_TIMEOUT, "connect_timeout": 2, "timeout": 8}
    with SilentProxy(store.port) as silent:
        storage: dict[str, Any] = store.storage(store.new_bucket(), f"http://{HOST}:{silent.port}")
        storage["s3"] |= waits
        config: Config = {"storage": storage, "database": {"url": f"sqlite:///{tmp_path / 'cache.db'}"}}
        with RegistryProcess(tmp_path, config) as process:
            _watch(process, silent)


def _watch(process: RegistryProcess, silent: SilentProxy) -> None:
    port = process.port
    with Client(port) as client:
        assert client.call("POST", f"/v2/{REPO}/blobs/uploads/?digest={CONFIG.digest}", CONFIG.data).status == 201
        assert client.call("PUT", MANIFEST, IMAGE.data, {"Content-Type": IMAGE.media_type}).status == 201
        assert client.call("GET", MANIFEST).status == 200
    silent.passing.clear()

    def push(number: int) -> tuple[int, float]:
        data = f"blob {number}".encode()
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        return status(port, "POST", f"/v2/{REPO}/blobs/uploads/?digest={digest}", data)

    with ThreadPoolExecutor(CLIENTS) as pool:
        began = time.monotonic()
        pushes = [pool.submit(push, number) for number in range(CLIENTS)]
        time.sleep(max(0.0, began + 2.5 - time.monotonic()))  # the bucket is known to be silent, and clients wait
        reads: list[float] = []
        while not reads or not all(answer.done() for answer in pushes):
            for target in (MANIFEST, f"/v2/{REPO}/tags/list?n={len(reads) + 1}", "/livez"):
                code, seconds = status(port, "GET", target)
                assert code == 200, target
                reads.append(seconds)
        assert sorted(reads)[len(reads) // 2] < QUICK
        assert max(reads) < BOUND
        answers = [answer.result() for answer in pushes]
        assert {code for code, _ in answers} == {503}
        assert max(seconds for _, seconds in answers) < BOUND
    code, seconds = status(port, "GET", "/livez")
    assert code == 200
    began = time.monotonic()
    assert call(port, "GET", "/readyz").status == 503
    assert time.monotonic() - began < BOUND
    silent.passing.set()
    deadline = time.monotonic() + BOUND
    while call(port, "GET", "/readyz").status != 200:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert push(CLIENTS)[0] == 201
    assert "Traceback" not in process.log_path.read_text()

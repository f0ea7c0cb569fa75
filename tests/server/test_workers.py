"""Several processes on one port: who dies is replaced, nobody outlives the parent, metrics are the sum of all."""

from __future__ import annotations

import os
import re
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.server.sending import call
from tests.support.servers import RegistryProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

REPO = "several/workers"
SECONDS = 20.0
"""For what takes a moment; generous, because the machine may be busy."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RegistryProcess]:
    with RegistryProcess(tmp_path, {"http": {"workers": 2}, "storage": {"fsync": False}}) as process:
        wait_for(lambda: process.log_path.read_text().count("Application startup complete") == 2, "two workers serve")
        yield process


def workers(server: RegistryProcess) -> set[int]:
    """The processes that serve."""
    found = set()
    for pid in server.processes():
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
        if pid != server.pid and b"spawn_main" in command:
            found.add(pid)
    return found


def wait_for(condition: Callable[[], bool], what: str) -> None:
    """Return when it holds; AssertionError after SECONDS."""
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"not within {SECONDS} s: {what}"
        time.sleep(0.05)


def test_a_killed_worker_is_replaced_and_the_port_answers_all_the_time(server: RegistryProcess) -> None:
    before = workers(server)
    victim = min(before)
    os.kill(victim, signal.SIGKILL)
    wait_for(lambda: len(workers(server) - {victim}) == 2, "a new worker")
    assert workers(server) & before == before - {victim}
    for _ in range(20):
        assert call(server.port, "GET", "/v2/").status == 200


def test_workers_end_when_their_parent_was_killed(server: RegistryProcess) -> None:
    os.kill(server.pid, signal.SIGKILL)
    assert server._process is not None
    server._process.wait(SECONDS)
    wait_for(lambda: not list(server.processes()), "nobody is left")
    server.kill()
    server.start()  # the port is free again
    assert call(server.port, "GET", "/livez").status == 200


def counted(server: RegistryProcess, route: str) -> float:
    """How many requests to a route there were, as one worker says."""
    text = call(server.port, "GET", "/metrics").body.decode()
    lines = re.findall(r"^registry_http_requests_total{(.*)} (\S+)$", text, re.MULTILINE)
    return sum(float(value) for labels, value in lines if f'route="{route}"' in labels)


def test_metrics_are_the_sum_of_all_workers(server: RegistryProcess) -> None:
    route = "/v2/{name:path}/tags/list"
    for _ in range(60):
        assert call(server.port, "GET", f"/v2/{REPO}/tags/list").status == 404
    wait_for(lambda: counted(server, route) == 60, "all requests are counted")
    assert {counted(server, route) for _ in range(20)} == {60}, "whoever is asked"
    victim = max(workers(server))
    os.kill(victim, signal.SIGKILL)
    wait_for(lambda: len(workers(server) - {victim}) == 2, "a new worker")
    assert counted(server, route) == 60, "what a worker counted outlives it"

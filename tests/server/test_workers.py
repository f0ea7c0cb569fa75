"""Several processes on one port: a dead one is replaced, none outlives the parent, metrics are the sum of all."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import sys
import time
from base64 import b64encode
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import bcrypt
import pytest
from uvicorn.config import STARTUP_FAILURE

from registry.server.worker_count import usable_cores
from registry.server.workers import SILENT_SECONDS, Lifeline, Worker, Workers
from tests.server.sending import Config, call
from tests.support.processes import processes
from tests.support.servers import HOST, RegistryProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

REPO = "several/workers"
SECONDS = 60.0
"""For what takes a moment; generous, because the machine may be busy."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryProcess]:
    config: Config = {"http": {"workers": 2}, "storage": {"fsync": False}}
    with RegistryProcess(tmp_path_factory.mktemp("workers"), config) as process:
        wait_for(lambda: process.log_path.read_text().count("Application startup complete") == 2, "two workers serve")
        yield process


CORES = len(os.sched_getaffinity(0)) if sys.platform == "linux" else 0


def workers(server: RegistryProcess) -> set[int]:
    """The processes that serve."""
    return set(server.processes()) - {server.pid}


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


def test_the_parent_has_one_thread_so_that_a_fork_finds_every_lock_free(server: RegistryProcess) -> None:
    assert [task.name for task in Path(f"/proc/{server.pid}/task").iterdir()] == [str(server.pid)]


def connections_of(pid: int, port: int) -> int:
    """How many open connections to a port a process has."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    ours = {f"socket:[{line[9]}]" for line in lines if line[1].endswith(f":{port:04X}") and line[3] == "01"}
    found = 0
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            found += str(descriptor.readlink()) in ours
    return found


def shares(server: RegistryProcess, count: int) -> list[int]:
    """How many of so many new connections each worker takes, in order."""
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            stack.enter_context(socket.create_connection((HOST, server.port)))
        found: list[int] = []

        def are_taken() -> bool:
            found[:] = sorted(connections_of(pid, server.port) for pid in workers(server))
            return sum(found) == count

        wait_for(are_taken, "all are taken")
    wait_for(lambda: not any(connections_of(pid, server.port) for pid in workers(server)), "they have ended")
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="/proc says whose a connection is")
def test_connections_are_shared_out_among_workers(server: RegistryProcess) -> None:
    # A busy machine may keep one of them from its turn, and what they know of each other is a second old at most.
    wait_for(lambda: shares(server, 30)[0] >= 14, "each has its half")


def cores_of(pid: int, thread: str = "self") -> str:
    """The cores that a thread of a process may use, as the kernel lists them."""
    status = Path(f"/proc/{pid}/task/{thread}/status").read_text()
    (cores,) = re.findall(r"^Cpus_allowed_list:\s*(\S+)$", status, re.MULTILINE)
    return str(cores)


@pytest.mark.skipif(usable_cores() != CORES or CORES not in range(2, 9), reason="a worker for each core is too many")
def test_each_worker_has_a_core_where_there_are_as_many_also_one_that_replaces_another(tmp_path: Path) -> None:
    config: Config = {"http": {"workers": CORES}, "storage": {"fsync": False}}
    with RegistryProcess(tmp_path, config) as process:
        started = "Application startup complete"
        wait_for(lambda: process.log_path.read_text().count(started) == CORES, "all workers serve")
        everywhere = cores_of(process.pid, str(process.pid))
        before = {pid: cores_of(pid, str(pid)) for pid in workers(process)}
        assert len(set(before.values()) - {everywhere}) == CORES, "each has one of its own"
        victim = min(before)
        threads = [task.name for task in Path(f"/proc/{victim}/task").iterdir()]
        assert everywhere in {cores_of(victim, thread) for thread in threads}, "background jobs use all"
        os.kill(victim, signal.SIGKILL)
        wait_for(lambda: process.log_path.read_text().count(started) == CORES + 1, "the new one serves")
        (new,) = workers(process) - set(before)
        assert cores_of(new, str(new)) == before[victim]


def test_a_server_that_is_stopped_while_its_workers_begin_leaves_none(tmp_path: Path) -> None:
    with RegistryProcess(tmp_path, {"http": {"workers": 4}, "storage": {"fsync": False}}) as process:
        process.stop()  # the first worker answers, the others may be anywhere; it ends with 0 and leaves no process


def at_any_place(serve: Callable[[], object]) -> Callable[[int], None]:
    """What ``Workers`` runs: it does the same at each place."""

    def run(_place: int) -> None:
        serve()

    return run


def look(*, is_stopped: bool, silence: float) -> bool:
    """Whether a worker that was silent for so long is replaced by a look an hour after the one before."""
    lost: list[int] = []
    several, worker = (
        Workers(at_any_place(signal.pause), 1, SECONDS, on_loss=lost.append, on_stop=int),
        Worker(signal.pause, Lifeline()),
    )
    assert worker.pid is not None
    several._workers = [worker]
    several._looked_at -= 3600
    worker.begun -= 3600
    if is_stopped:
        os.kill(worker.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, worker.pid, os.WSTOPPED | os.WNOWAIT)
        worker.silence(0)
    else:
        seen = worker._beat[:]
        wait_for(lambda: worker._beat[:] != seen, "a sign of life")
    worker._silence = silence
    several._look()
    (served,) = several._workers
    served.kill()
    served.join()
    assert lost == ([] if served is worker else [worker.pid])
    return served is not worker


@pytest.mark.parametrize(
    ("is_stopped", "silence", "is_replaced"),
    [(True, SILENT_SECONDS, True), (True, SILENT_SECONDS - 5, False), (False, SILENT_SECONDS, False)],
    ids=["silent for a minute", "silent while everything was frozen", "alive"],
)
def test_a_worker_that_gives_no_sign_of_life_is_replaced(is_stopped: bool, silence: float, is_replaced: bool) -> None:
    with ProcessPoolExecutor(1, mp_context=processes()) as executor:  # what forks has one thread
        looked = executor.submit(look, is_stopped=is_stopped, silence=silence)
        assert looked.result() == is_replaced


def run_workers_that_cannot_serve() -> object:
    """What the process that runs them would exit with."""
    with pytest.raises(SystemExit) as ended:
        Workers(at_any_place(partial(sys.exit, STARTUP_FAILURE)), 2, SECONDS, on_loss=print, on_stop=int).run()
    return ended.value.code


def test_workers_that_cannot_serve_are_not_started_for_ever() -> None:
    with ProcessPoolExecutor(1, mp_context=processes()) as executor:
        assert executor.submit(run_workers_that_cannot_serve).result() == STARTUP_FAILURE


def exit_code_of_a_worker_that_hangs() -> int | None:
    """How it ends where the server is stopped."""

    def wait_until_it_hangs() -> None:
        (worker,) = several._workers
        assert worker.pid is not None
        os.waitid(os.P_PID, worker.pid, os.WSTOPPED | os.WNOWAIT)

    hang = at_any_place(partial(signal.raise_signal, signal.SIGSTOP))
    several = Workers(hang, 1, 0.1, on_loss=print, on_stop=wait_until_it_hangs)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    signal.raise_signal(signal.SIGTERM)
    several.run()
    return several._workers[0].exitcode


def test_a_worker_that_does_not_drain_is_killed() -> None:
    with ProcessPoolExecutor(1, mp_context=processes()) as executor:
        assert executor.submit(exit_code_of_a_worker_that_hangs).result(SECONDS) == -signal.SIGKILL


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
    assert {counted(server, route) for _ in range(20)} == {60}, "whichever worker is asked"
    victim = max(workers(server))
    os.kill(victim, signal.SIGKILL)
    wait_for(lambda: len(workers(server) - {victim}) == 2, "a new worker")
    assert counted(server, route) == 60, "what a worker counted outlives it"


def test_a_worker_knows_at_once_that_its_parent_is_gone() -> None:
    lifeline = Lifeline()
    assert not lifeline.is_cut_within(0)
    lifeline.let_go()  # as the end of the parent does
    assert lifeline.is_cut_within(SECONDS)


def test_workers_end_when_their_parent_was_killed(server: RegistryProcess) -> None:
    os.kill(server.pid, signal.SIGKILL)
    assert server._process is not None
    server._process.wait(SECONDS)
    wait_for(lambda: not list(server.processes()), "none is left")
    server.kill()
    with socket.create_server((HOST, server.port)):
        pass  # the port is free again


@pytest.mark.skipif(usable_cores() > 3, reason="two workers have a core each for passwords there")
def test_workers_verify_passwords_in_turn(tmp_path: Path) -> None:
    users = tmp_path / "htpasswd"
    users.write_text(f"alice:{bcrypt.hashpw(b'wonderland', bcrypt.gensalt(10)).decode()}\n")
    config: Config = {"http": {"workers": 2}, "auth": {"htpasswd": {"file": str(users)}}}
    with RegistryProcess(tmp_path, config) as process, ThreadPoolExecutor(12) as logins:
        wait_for(lambda: process.log_path.read_text().count("Application startup complete") == 2, "two workers serve")
        own = {str(pid) for pid in workers(process)}

        def waiting() -> bool:
            lines = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
            return any("->" in line and own & set(line) for line in lines)

        def log_in(number: int) -> int:
            credentials = b64encode(f"user{number}:guess".encode()).decode()
            return call(process.port, "GET", "/auth/token", headers={"Authorization": f"Basic {credentials}"}).status

        asked = [logins.submit(log_in, number) for number in range(16)]
        wait_for(waiting, "one worker waits for the other")
        assert {login.result() for login in asked} == {401}

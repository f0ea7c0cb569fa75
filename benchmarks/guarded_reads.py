"""Guarded reads: warm manifests with a token and with a password against none, and without any beside logins."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import multiprocessing
import select
import socket
import time
from base64 import b64encode
from typing import TYPE_CHECKING, Final

import bcrypt

from benchmarks import wrk
from benchmarks.content import MANIFEST, image, push_image
from benchmarks.measure import percentile
from benchmarks.servers import Running, guarded
from benchmarks.wire import Connection, WireError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.content import Image
    from benchmarks.scale import Bench

REPOSITORY: Final = "bench/public"
TARGET: Final = f"/v2/{REPOSITORY}/manifests/one"
PASSWORD: Final = "wonderland"  # noqa: S105 - of this benchmark alone
COST: Final = 10
"""The cost of bcrypt."""
LOGINS: Final = 200
"""A second; more than the machine can verify, so that some are answered 503."""
CONNECTIONS: Final = 128
"""More than logins wait at a time."""
FILL_SECONDS: Final = 0.3
"""Until as many logins wait as ever will."""
_FORK = multiprocessing.get_context("fork")
TURNS: Final = 4
"""How often the kinds of reads take turns, so that what the machine does meanwhile is for all of them."""


def guarded_reads(bench: Bench) -> dict[str, float]:
    """How many times longer a read takes with credentials than without, on two servers that take turns."""
    users = bench.running.directory / "htpasswd"
    users.write_bytes(b"alice:" + bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(COST)) + b"\n")
    pushed = image("guarded")
    basic = f"Basic {b64encode(f'alice:{PASSWORD}'.encode()).decode()}"
    with Running(guarded(users), bench.running.directory) as running:
        with bench.connect() as connection:
            push_image(connection, REPOSITORY, "one", pushed)
        with Connection(running.port, authorization=basic) as connection:
            push_image(connection, REPOSITORY, "one", pushed)
        kinds = {
            "free": (bench.running.port, ""),
            "token": (running.port, f"Bearer {_token(running.port, basic)}"),
            "password": (running.port, basic),
        }
        seconds: dict[str, list[float]] = {kind: [] for kind in kinds}
        for _ in range(TURNS):
            for kind, (port, authorization) in kinds.items():
                read = wrk.Read("GET", TARGET, MANIFEST, authorization)
                rate = wrk.rate(read, port, bench.scale.read_seconds / 2, bench.running.directory)
                seconds[kind].append(1 / rate)
        one = {kind: sum(values) for kind, values in seconds.items()}
        return {
            "token ratio": one["token"] / one["free"],
            "password ratio": one["password"] / one["free"],
            "logins ratio": _beside_logins(running.port, pushed, bench.scale.read_seconds),
        }


def _token(port: int, basic: str) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        target = f"/auth/token?service=registry&scope=repository:{REPOSITORY}:pull"
        connection.request("GET", target, headers={"Authorization": basic})
        return str(json.load(connection.getresponse())["token"])
    finally:
        connection.close()


def _beside_logins(port: int, pushed: Image, seconds: float) -> float:
    """Return the 99th percentile of reads beside logins, against that of reads alone, in turns."""
    alone: list[float] = []
    beside: list[float] = []
    for _ in range(TURNS):
        alone += _latencies(port, pushed, seconds / 2)
        with _logging_in(port):
            beside += _latencies(port, pushed, seconds / 2)
    return percentile(beside, 0.99) / percentile(alone, 0.99)


def _latencies(port: int, pushed: Image, seconds: float) -> list[float]:
    """Return the seconds of each anonymous read on one connection, for so long."""
    found = []
    with Connection(port) as connection:
        end = time.perf_counter() + seconds
        while (started := time.perf_counter()) < end:
            if connection.request("GET", TARGET, accept=MANIFEST).expect(200).body != pushed.manifest:
                raise WireError(f"{TARGET}: not the bytes that were pushed")
            found.append(time.perf_counter() - started)
    return found


@contextlib.contextmanager
def _logging_in(port: int) -> Iterator[None]:
    """Have another process log in for the length of a block."""
    process = _FORK.Process(target=_log_in, args=(port,), daemon=True)
    process.start()
    try:
        time.sleep(FILL_SECONDS)
        if not process.is_alive():
            raise WireError("the process that logs in has ended")
        yield
    finally:
        process.kill()
        process.join()


def _log_in(port: int) -> None:
    """Send LOGINS a second, each of a user that there is not, however late the answers are."""
    poll = select.epoll()
    sockets = [socket.create_connection(("127.0.0.1", port)) for _ in range(CONNECTIONS)]
    by_descriptor = {each.fileno(): each for each in sockets}
    for descriptor in by_descriptor:
        poll.register(descriptor, select.EPOLLIN)
    idle = list(sockets)
    due = time.monotonic()
    for number in itertools.count():
        due += 1 / LOGINS
        while (left := due - time.monotonic()) > 0 or not idle:
            for descriptor, _ in poll.poll(max(0.0, left)):
                if not by_descriptor[descriptor].recv(65536):
                    raise WireError("the server has closed a connection of a login")
                idle.append(by_descriptor[descriptor])
        credentials = b64encode(f"user{number}:guess".encode()).decode()
        head = f"GET /auth/token HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Basic {credentials}\r\n\r\n"
        idle.pop().sendall(head.encode())

"""``make dev-s3``: two replicas behind nginx over an S3 store and PostgreSQL, on this machine, until Ctrl-C.

What they keep stays in a directory (``.dev``), so that the next start goes on with it.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import signal
import socket
import sys
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.guardian import Guardian
from tests.support.postgresql import OWNER, Cluster
from tests.support.replicas import Replicas
from tests.support.s3_server import S3Server
from tests.support.servers import HOST, ServerError
from tests.support.tools import TOOLS, find_tool

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import FrameType

BUCKET = "stowage"
DATABASE = "stowage"

_GO = f"GOBIN={TOOLS / 'bin'} go install github.com/versity/versitygw/cmd/versitygw@v1.8.0"
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""What ends it: Ctrl-C, an operator, the terminal that was closed."""
PROGRAMS = {
    "versitygw": _GO,
    "nginx": "apt-get install nginx-light",
    "initdb": "apt-get install postgresql",
    "pg_ctl": "apt-get install postgresql",
    "postgres": "apt-get install postgresql",
}
"""What is needed, and how to get it without ``.ci/run``."""


class Refusal(Exception):
    """It cannot start; the message says why and what to do."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until Ctrl-C or SIGTERM; the exit code: 0 stopped, 1 something did not start or ended, 2 not possible."""
    parser = argparse.ArgumentParser(prog="make dev-s3", description=__doc__)
    parser.add_argument("--directory", type=Path, default=Path(".dev"), help="where everything is kept (.dev)")
    parser.add_argument("--port", type=int, default=5000, help="where nginx listens, for clients (5000)")
    parser.add_argument("--replicas", type=int, default=2, help="how many registries (2)")
    options = parser.parse_args(arguments)
    for number in SIGNALS:
        signal.signal(number, interrupt)
    try:
        check_programs()
        check_port(options.port)
        with held(options.directory.resolve()) as directory, ExitStack() as stack:
            run(directory, options.port, options.replicas, stack)
    except Refusal as refusal:
        print(f"\n{refusal}", file=sys.stderr)
        return 2
    except (ServerError, AssertionError) as error:
        print(f"\n\n{error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Stopped. `make dev-s3` goes on where this ended.")
    return 0


def interrupt(_number: int, _frame: FrameType | None) -> None:
    """The first signal ends the program; further ones until then would only leave something running."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    print("\nStopping ...", flush=True)
    raise KeyboardInterrupt


def check_programs() -> None:
    """Raise ``Refusal`` that names every missing program and its installation."""
    missing = [name for name in PROGRAMS if find_tool(name) is None]
    if missing:
        ways = sorted({PROGRAMS[name] for name in missing})
        raise Refusal(
            f"Missing: {', '.join(missing)} (neither in {TOOLS / 'bin'} nor on PATH).\n\n"
            "Install what is needed with\n\n" + "".join(f"    {way}\n" for way in ways) + "\n"
            "or everything that the tests run with `.ci/run`, which then also runs the tests."
        )


def check_port(port: int) -> None:
    """Raise ``Refusal`` if the port is in use."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise Refusal(
                f"Port {port} cannot be used: {error.strerror}.\n"
                f"Choose another one: make dev-s3 ARGS='--port {port + 1}'"
            ) from None


@contextmanager
def held(directory: Path) -> Iterator[Path]:
    """Make the directory and lock it against a second run."""
    directory.mkdir(parents=True, exist_ok=True)
    if os.geteuid() == 0:
        for parent in (directory, *directory.parents):
            if not parent.stat().st_mode & 0o001:
                raise Refusal(
                    f"PostgreSQL does not run as root but as {OWNER}, who may not enter {parent}.\n"
                    "Choose another place: make dev-s3 ARGS='--directory /var/tmp/stowage'"
                )
    with (directory / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Refusal(f"Another `make dev-s3` uses {directory}. Stop it, or choose another --directory.") from None
        yield directory


def run(directory: Path, port: int, count: int, stack: ExitStack) -> None:
    """Start everything, say where it is, and stay until interrupted; ``stack`` stops in reverse order."""
    print(f"Starting, in {directory}")
    guardian = Guardian()
    stack.callback(guardian.dismiss)
    with step("S3 (versitygw)"):
        store = stack.enter_context(S3Server(directory / "s3"))
        guardian.watch(store.pid)
        if not (store.data / BUCKET).exists():
            store.new_bucket(BUCKET)
    with step("PostgreSQL"):
        cluster = Cluster(directory / "postgresql", tcp=True)
        stack.callback(cluster.stop, "fast")
        guardian.watch(cluster.pid)
        database = cluster.create(DATABASE)
    with step(f"{count} replicas and nginx"):
        config: dict[str, dict[str, object]] = {"storage": store.storage(BUCKET), "database": {"url": database}}
        replicas = Replicas(directory, config, count=count, next_upstream=True)
        replicas.nginx.port = port
        replicas.start()
        stack.callback(replicas.stop)
        guardian.watch(replicas.nginx.pid, *(replica.pid for replica in replicas.replicas))
    print(summary(store, database, replicas))
    sys.stdout.flush()
    watch(replicas)


@contextmanager
def step(what: str) -> Iterator[None]:
    """Show that something takes its time, and how much."""
    print(f"  {what} ... ", end="", flush=True)
    began = time.monotonic()
    yield
    print(f"{time.monotonic() - began:.1f} s")


def summary(store: S3Server, database: str, replicas: Replicas) -> str:
    """Say what runs where, and what to try."""
    shown = [
        ("registry", replicas.url, "nginx, which deals requests to the replicas in turn"),
        *((f"replica {n}", one.url, str(one.log_path)) for n, one in enumerate(replicas.replicas, start=1)),
        ("S3", store.endpoint, f"bucket {BUCKET}, access key {store.access}, secret key {store.secret}"),
        ("PostgreSQL", database.replace("+psycopg", ""), ""),
    ]
    width = max(len(url) for _, url, _ in shown)
    lines = [f"  {name:<11}{url:<{width}}  {more}".rstrip() for name, url, more in shown]
    address = replicas.address
    config = replicas.replicas[0].config_path
    tries = [
        f"skopeo copy --dest-tls-verify=false docker://alpine docker://{address}/alpine",
        f"curl {replicas.url}/v2/_catalog",
        f"find {store.data / BUCKET} -type f",
        f"registry config show --config {config}",
    ]
    return "\n".join(
        ["", *lines, "", "Try", *(f"  {line}" for line in tries), "", "Ctrl-C stops everything; what was pushed stays."]
    )


def watch(replicas: Replicas) -> None:
    """Stay until interrupted; say it once when a replica has ended."""
    ended: set[int] = set()
    while True:
        time.sleep(1)
        for number, replica in enumerate(replicas.replicas, start=1):
            if number not in ended and not any(True for _ in replica.processes()):
                ended.add(number)
                print(f"\nReplica {number} has ended; the end of {replica.log_path}:\n{replica.log_tail()}")
                if len(ended) == len(replicas.replicas):
                    raise ServerError(f"no replica is left at {HOST}")


if __name__ == "__main__":
    sys.exit(main())

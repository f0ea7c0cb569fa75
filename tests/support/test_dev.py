"""``make dev-s3`` says what it does and what it lacks, serves until Ctrl-C, and goes on with what it kept."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.clients.wire import Wire
from tests.support.servers import free_port

ROOT = Path(__file__).parent.parent.parent
LINGER = 120.0
"""Seconds that what was told to end may take, on a busy machine."""
ALL = pytest.mark.tools("versitygw", "nginx", "initdb", "pg_ctl", "postgres")
DEV = [sys.executable, "-m", "tests.support.dev"]

pytestmark = pytest.mark.stores


@pytest.fixture
def directory() -> Iterator[Path]:
    """Not below pytest's own, which no other user may enter: PostgreSQL runs as another user than root."""
    made = Path(tempfile.mkdtemp(prefix="stowage-dev-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


def fails(*arguments: str | Path, **environment: str) -> str:
    """Run it where it cannot start; what it says."""
    done = subprocess.run(
        [*DEV, *arguments],
        env={**os.environ, **environment},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


def test_a_missing_program_is_named_with_its_installation(tmp_path: Path) -> None:
    said = fails("--directory", tmp_path, TOOLS=str(tmp_path))
    assert "versitygw" in said
    assert f"GOBIN={tmp_path}/bin go install github.com/versity/versitygw/cmd/versitygw@" in said
    assert ".ci/run" in said


@ALL
def test_a_port_that_is_taken_is_said_at_once(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert f"--port {port + 1}" in fails("--directory", tmp_path, "--port", str(port))


# With a directory in the place of the bucket: this version of `serve` has no S3 driver yet.
LOCALLY = """
import sys
from tests.support import dev, s3_server
directory = sys.argv[sys.argv.index("--directory") + 1]
s3_server.S3Server.storage = lambda *_: {"root_directory": directory + "/content"}
sys.exit(dev.main())
"""


@contextmanager
def started(directory: Path, port: int) -> Iterator[subprocess.Popen[str]]:
    """It, once it has said that it runs; ended with all that it started, whatever happens."""
    running = subprocess.Popen(
        [sys.executable, "-c", LOCALLY, "--directory", directory, "--port", str(port)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        process_group=0,
    )
    try:
        read_until("Ctrl-C", running)
        yield running
    finally:
        if running.poll() is None:
            running.send_signal(signal.SIGINT)
            running.communicate(timeout=200)
        if running.stdout is not None:
            running.stdout.close()


def read_until(expected: str, running: subprocess.Popen[str]) -> str:
    """What it says until it has said that."""
    assert running.stdout is not None
    said = ""
    while expected not in said and (line := running.stdout.readline()):
        said += line
    assert expected in said, said
    return said


@ALL
def test_it_serves_until_it_is_interrupted_and_goes_on_with_what_it_kept(directory: Path) -> None:
    for begin in (True, False):
        port = free_port()
        with started(directory, port) as running:
            wire = Wire(f"127.0.0.1:{port}")
            if begin:
                assert "Another" in fails("--directory", directory, "--port", str(free_port()))
                answer = wire.request("POST", "/v2/app/blobs/uploads/?digest=" + EMPTY, b"{}")
                assert answer.status == 201, answer.body
            assert wire.request("GET", f"/v2/app/blobs/{EMPTY}").body == b"{}"
            running.send_signal(signal.SIGINT)
            rest, _ = running.communicate(timeout=200)
        assert running.returncode == 0, rest
        assert "Stopped" in rest
        assert left_of(directory) == []


@ALL
def test_signals_while_it_stops_leave_nothing_running(directory: Path) -> None:
    with started(directory, free_port()) as running:
        running.send_signal(signal.SIGTERM)
        read_until("Stopping", running)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
            running.send_signal(number)
        rest, _ = running.communicate(timeout=200)
    assert running.returncode == 0, rest
    assert left_of(directory) == []


@ALL
def test_what_it_started_ends_with_it_when_it_is_killed(directory: Path) -> None:
    with started(directory, free_port()) as running:
        running.kill()
        running.wait(30)
        assert left_of(directory) == []
    with started(directory, free_port()) as running:  # and nothing is in the way of the next
        assert running.poll() is None


EMPTY = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"


def left_of(directory: Path) -> list[str]:
    """Return the command lines of living processes that name the directory, or are in one below it."""
    deadline = time.monotonic() + LINGER
    while True:
        lines = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                place = (entry / "cwd").readlink()
            except OSError:
                continue
            if str(directory) in line or place.is_relative_to(directory):
                lines.append(line)
        if not lines or time.monotonic() > deadline:
            return lines
        time.sleep(0.1)

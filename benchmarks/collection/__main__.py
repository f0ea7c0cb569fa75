"""Collect stores of growing size, half of whose blobs are garbage; print a table.

``python -m benchmarks.collection --blobs 10000 100000 1000000 --peers zot``
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from benchmarks.collection.store import BLOBS, fill_database, fill_directory, garbage_left
from benchmarks.collection.traffic import Traffic, percentile
from benchmarks.processes import MEBIBYTE, Peak
from registry.config.settings import load_settings
from registry.database.engine import Database
from registry.images.registry import Registry
from registry.maintenance.collection.survey.gc_state import GcState
from tests.support.servers import free_port
from tests.support.tools import find_tool

if TYPE_CHECKING:
    from collections.abc import Iterator

QUIET_SECONDS = 15.0
"""Seconds of traffic without a collection."""
SAMPLE_PAUSE = 0.05
"""Seconds between two looks at the memory of a command. What wait4 tells has the peak of its parent in it."""
WRITES_PAUSE = 0.02
"""Seconds between two looks how long another writer has to wait."""


@contextlib.contextmanager
def serving(command: list[str], port: int, path: str) -> Iterator[subprocess.Popen[bytes]]:
    """A registry that answers."""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            deadline = time.monotonic() + 120
            while time.monotonic() < deadline:
                with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}{path}"):
                    break
                time.sleep(0.05)
            yield process
        finally:
            process.send_signal(signal.SIGTERM)


class Writes:
    """How long a small write transaction of another process waits for the database."""

    def __init__(self, url: str) -> None:
        self._database = Database(url)
        self._ending = threading.Event()
        self.longest = 0.0
        self._thread = threading.Thread(target=self._loop)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._ending.set()
        self._thread.join()
        self._database.close()

    def _loop(self) -> None:
        while not self._ending.wait(WRITES_PAUSE):
            began = time.monotonic()
            with self._database.transaction():
                waited = time.monotonic() - began
            self.longest = max(self.longest, waited)


def ours(repositories: int, directory: Path) -> dict[str, Any]:
    """Two runs: one that finds what is out of use, one that frees it."""
    root, port = directory / "root", free_port()
    config = directory / "config.json"
    config.write_text(
        json.dumps(
            {
                "http": {"port": port},
                "storage": {"root_directory": str(root)},
                "gc": {"grace": 0, "lease": 0, "interval": None, "rate": None},
            }
        )
    )
    settings = load_settings(config)
    fill_directory(root, repositories)
    database = Path(settings.database_url.removeprefix("sqlite:///"))
    database.parent.mkdir(parents=True, exist_ok=True)
    fill_database(database, root, repositories)
    registry = Registry.open(settings)
    GcState(registry).take_over()
    registry.close()
    program = [str(Path(sys.executable).with_name("registry"))]
    turns = directory / "turns.json"
    timed = [sys.executable, "-m", "benchmarks.collection.timed_program", str(turns)]
    found: dict[str, Any] = {}
    with serving([*program, "serve", "--config", str(config)], port, "/v2/"):
        quiet = Traffic(port, repositories)
        quiet.start()
        time.sleep(QUIET_SECONDS)
        quiet.stop()
        for what in ("finding", "freeing"):
            beside = Traffic(port, repositories)
            with Writes(settings.database_url) as writes:
                beside.start()
                began = time.monotonic()
                peak = _run([*timed, "gc", "--config", str(config), "--json"], directory / f"{what}.json")
                seconds = time.monotonic() - began
                beside.stop()
            report = json.loads((directory / f"{what}.json").read_text())
            found[what] = {
                "seconds": round(seconds, 2),
                "microseconds_per_blob": round(seconds * 1e6 / (repositories * BLOBS * 2), 1),
                "MiB": round(peak / MEBIBYTE),
                "objects": report["objects"],
                "problems": report["problems"][:3],
                "longest_wait_to_write_ms": round(writes.longest * 1000, 1),
                "own_turns_to_write_ms": json.loads(turns.read_text()),
                **_times(quiet, beside),
            }
    found["left"] = garbage_left(root, repositories)
    return found


def zot(repositories: int, directory: Path) -> dict[str, Any]:
    """From its start, when its collection begins, until no garbage is left."""
    root, port = directory / "root", free_port()
    fill_directory(root, repositories)
    found: dict[str, Any] = {}
    for collects in (False, True):
        config = directory / f"{collects}.json"
        storage = {
            "rootDirectory": str(root),
            "dedupe": False,
            "gc": collects,
            "gcDelay": "1s",
            "gcInterval": "1h",
            "gcMaxSchedulerDelay": "1ms",  # 0 is taken for its default, up to half a minute before each repository
        }
        http = {"address": "127.0.0.1", "port": str(port)}
        config.write_text(
            json.dumps({"distSpecVersion": "1.1.1", "log": {"level": "error"}, "storage": storage, "http": http})
        )
        time.sleep(2)  # what is younger than gcDelay stays
        with serving([str(find_tool("zot")), "serve", str(config)], port, "/v2/") as process:
            traffic, peak, began = Traffic(port, repositories), Peak(process.pid), time.monotonic()
            traffic.start()
            if not collects:
                time.sleep(QUIET_SECONDS)
                traffic.stop()
                quiet = traffic
                continue
            left, deadline = repositories, began + 3600
            while time.monotonic() < deadline and (left := garbage_left(root, repositories)) > 0:
                peak.sample()
                time.sleep(0.5)
            seconds = time.monotonic() - began
            traffic.stop()
            found = {
                "seconds": round(seconds, 2),
                "microseconds_per_blob": round(seconds * 1e6 / (repositories * BLOBS * 2), 1),
                "MiB": round(peak.bytes / MEBIBYTE),
                **_times(quiet, traffic),
            }
    return {"freeing": found, "left": left}


def _run(command: list[str], output: Path) -> int:
    """Run a command to its end; the most memory that it had, in bytes."""
    with output.open("wb") as file, subprocess.Popen(command, stdout=file) as process:
        peak = Peak(process.pid)
        while process.poll() is None:
            peak.sample()
            time.sleep(SAMPLE_PAUSE)
    return peak.bytes


def _times(quiet: Traffic, beside: Traffic) -> dict[str, Any]:
    return {
        "pull_p99_ms": [round(percentile(each.pulls, 0.99), 1) for each in (quiet, beside)],
        "push_p99_ms": [round(percentile(each.pushes, 0.99), 1) for each in (quiet, beside)],
        "failures": len(beside.failures),
    }


def main() -> None:
    """Print one line of JSON for each row."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.collection", description=__doc__)
    parser.add_argument("--blobs", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--peers", nargs="*", default=["zot"])
    parser.add_argument("--most-of-peers", type=int, default=100_000, help="blobs of the largest store of a peer")
    given = parser.parse_args()
    for blobs in given.blobs:
        repositories = max(1, blobs // (2 * BLOBS))
        for name, measure in (("ours", ours), ("zot", zot)):
            if name != "ours" and (name not in given.peers or blobs > given.most_of_peers):
                continue
            directory = Path(tempfile.mkdtemp(prefix="stowage-collection-"))
            try:
                print(json.dumps({"registry": name, "blobs": blobs, **measure(repositories, directory)}), flush=True)
            finally:
                shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()

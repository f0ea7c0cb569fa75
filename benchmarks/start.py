"""Price of a start: processor and wall time of ``registry serve`` until it answers, and of its stop, and of commands.

``python -m benchmarks.start`` prints medians.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import os
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

from benchmarks.servers import free_port

if TYPE_CHECKING:
    from collections.abc import Callable

PROGRAM = str(Path(sys.executable).parent / "registry")
READY = "Application startup complete"
"""In the line that a worker logs when it is ready."""
PR_SET_CHILD_SUBREAPER = 36

Sample = dict[str, float]
"""Seconds by what took them."""


def processor_seconds() -> float:
    """Return what all ended descendants of this process have used."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def reap() -> None:
    """Wait for every descendant: those whose parent has ended are ours."""
    with contextlib.suppress(ChildProcessError):
        while True:
            os.wait()


def serve(directory: Path, workers: int) -> Sample:
    """Start a server on ``directory``, wait until every worker is ready, stop it."""
    port = free_port()
    config = directory / "config.json"
    settings = {
        "http": {"port": port, "workers": workers},
        "storage": {"root_directory": str(directory / "data"), "fsync": False},
    }
    config.write_text(json.dumps(settings), encoding="utf-8")
    used, begun = processor_seconds(), time.monotonic()
    with subprocess.Popen([PROGRAM, "serve", "--config", str(config)], stderr=subprocess.PIPE, text=True) as process:
        log = cast("IO[str]", process.stderr)
        for _ in range(workers):
            next(line for line in log if READY in line)
        ready = time.monotonic()
        process.send_signal(signal.SIGTERM)
        log.read()
    ended = time.monotonic()
    reap()
    return {"processor": processor_seconds() - used, "until ready": ready - begun, "stop": ended - ready}


def command(directory: Path, *arguments: str) -> Sample:
    """Run a command."""
    used, begun = processor_seconds(), time.monotonic()
    environment = os.environ | {"REGISTRY_STORAGE__ROOT_DIRECTORY": str(directory / "data")}
    subprocess.run([PROGRAM, *arguments], check=True, stdout=subprocess.DEVNULL, env=environment)
    return {"processor": processor_seconds() - used, "until ready": time.monotonic() - begun, "stop": 0.0}


def main() -> None:
    """Print a row of medians for each case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="how often each is measured")
    rounds = parser.parse_args().rounds
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        cases: dict[str, Callable[[], Sample]] = {
            "serve, one worker": lambda: serve(directory, 1),
            "serve, two workers": lambda: serve(directory, 2),
            "serve, one worker, new directory": lambda: serve(Path(tempfile.mkdtemp(dir=directory)), 1),
            "registry --help": lambda: command(directory, "--help"),
            "registry config check": lambda: command(directory, "config", "check"),
        }
        samples: dict[str, list[Sample]] = {case: [] for case in cases}
        for _ in range(rounds + 1):
            for case, measure in cases.items():
                samples[case].append(measure())
    print("| ms, median | processor | until ready | stop |\n|---|---|---|---|")
    for case, found in samples.items():
        medians = [statistics.median(sample[key] for sample in found[1:]) for key in found[0]]  # the first warms caches
        print(f"| {case} | " + " | ".join(f"{1000 * value:.0f}" for value in medians) + " |")


if __name__ == "__main__":
    main()

"""A containerd of its own, with every file below one directory."""

from __future__ import annotations

import signal
import subprocess
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tests.clients.client import Client
from tests.support.tools import tool

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_CONFIG = """\
version = 2
root = "{place}/root"
state = "{place}/state"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
address = "{place}/socket"
[ttrpc]
address = "{place}/ttrpc"
"""
STOP_TIMEOUT = 20.0  # seconds


@contextmanager
def containerd(place: Path) -> Iterator[Client]:
    """Run the daemon and give a `ctr` that talks to it."""
    place.mkdir()
    (place / "config.toml").write_text(_CONFIG.format(place=place), encoding="utf-8")
    with (place / "log").open("wb") as log:
        process = subprocess.Popen(
            [tool("containerd"), "--config", place / "config.toml"], stdout=log, stderr=log, process_group=0
        )
    ctr = Client(tool("ctr"), place / "home", {"CONTAINERD_ADDRESS": str(place / "socket")})
    try:
        deadline = time.monotonic() + 300
        while ctr.execute("version").returncode != 0:
            assert time.monotonic() < deadline, (place / "log").read_text()
            time.sleep(0.1)
        yield ctr
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

"""A BuildKit of its own, with every file below one directory; what it builds runs no program."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from base64 import b64encode
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tests.clients.client import Client
from tests.clients.guarded import PASSWORDS
from tests.support.tools import tool

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_CONFIG = """\
root = "{place}/root"
[grpc]
address = ["unix://{place}/socket"]
[worker.oci]
snapshotter = "native"
networkMode = "host"
gc = false
[worker.containerd]
enabled = false
[registry."{registry}"]
http = true
"""
START_TIMEOUT = 300.0  # seconds
STOP_TIMEOUT = 20.0  # seconds


class Builder:
    """Builds at one daemon, as several users."""

    def __init__(self, place: Path, registry: str) -> None:
        self.place = place
        self._registry = registry

    def client(self, user: str | None) -> Client:
        """Make a `buildctl` with a home of its own, logged in as docker keeps it, or not at all."""
        client = Client(
            tool("buildctl"),
            self.place / f"home-{time.monotonic_ns()}",
            {"BUILDKIT_HOST": f"unix://{self.place}/socket"},
        )
        if user is not None:
            account = b64encode(f"{user}:{PASSWORDS[user]}".encode()).decode()
            (client.home / ".docker").mkdir()
            (client.home / ".docker/config.json").write_text(json.dumps({"auths": {self._registry: {"auth": account}}}))
        return client

    def build(self, user: str | None, base: str, target: str) -> subprocess.CompletedProcess[bytes]:
        """Build an image with one more layer on a base, whose layers it does not fetch, and push it."""
        client = self.client(user)
        context = client.home / "context"
        context.mkdir()
        (context / "file").write_text(target)
        (context / "Dockerfile").write_text(f"FROM {base}\nCOPY --link file /file\n")
        local = [f"--local={kind}={context}" for kind in ("context", "dockerfile")]
        output = f"--output=type=image,name={target},push=true"
        return client.execute("build", "--progress=plain", "--frontend=dockerfile.v0", *local, output)


@contextmanager
def buildkit(place: Path, registry: str) -> Iterator[Builder]:
    """Run the daemon, which speaks plain HTTP to a registry."""
    place.mkdir()
    (place / "buildkitd.toml").write_text(_CONFIG.format(place=place, registry=registry), encoding="utf-8")
    daemon = Client(tool("buildkitd"), place / "daemon")
    process = daemon.start("--config", place / "buildkitd.toml")
    builder = Builder(place, registry)
    asking = builder.client(None)
    try:
        deadline = time.monotonic() + START_TIMEOUT
        while asking.execute("debug", "workers").returncode != 0:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline, "buildkitd does not answer"
            time.sleep(0.1)
        yield builder
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.communicate(timeout=STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()

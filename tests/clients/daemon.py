"""A Docker daemon of its own, with every file below one directory and no network of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from typing import TYPE_CHECKING, Self

from tests.clients.client import Client
from tests.support.tools import tool

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

START_TIMEOUT = 300.0  # seconds; the daemon starts a containerd first
STOP_TIMEOUT = 120.0  # seconds


class DockerDaemon:
    """`dockerd` with the vfs storage driver; it needs root, but no iptables, bridge or overlay."""

    def __init__(self, directory: Path, *, settings: Path | None = None, proxy: str | None = None) -> None:
        """``settings`` is what it finds as /etc/docker, ``proxy`` the URL of one for HTTPS."""
        self.directory = directory
        self._settings = settings
        self._environment = {} if proxy is None else {"HTTPS_PROXY": proxy, "NO_PROXY": ""}
        self.address = f"unix://{directory}/docker.sock"
        self.containerd_address = directory / "exec/containerd/containerd.sock"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.directory.mkdir(parents=True, exist_ok=True)
        with (self.directory / "dockerd.log").open("wb") as log:
            self._process = subprocess.Popen(
                [
                    *self._own_settings(),
                    tool("dockerd"),
                    "--iptables=false",
                    "--ip6tables=false",
                    "--bridge=none",
                    "--storage-driver=vfs",
                    f"--host={self.address}",
                    f"--data-root={self.directory}/data",
                    f"--exec-root={self.directory}/exec",
                    f"--pidfile={self.directory}/dockerd.pid",
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                process_group=0,
                env={**os.environ, **self._environment},
            )
        deadline = time.monotonic() + START_TIMEOUT
        docker = self.client(self.directory / "start")
        while docker.execute("version").returncode != 0:
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.__exit__(None, None, None)
                raise AssertionError(
                    f"dockerd does not answer:\n{(self.directory / 'dockerd.log').read_text()[-4000:]}"
                )
            time.sleep(0.1)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _own_settings(self) -> list[str]:
        """What begins its command: a view of the file system of its own."""
        if self._settings is None:
            return []
        return ["unshare", "--mount", "sh", "-c", 'mount --bind "$0" /etc/docker && exec "$@"', str(self._settings)]

    def client(self, home: Path) -> Client:
        """Return `docker` with a home of its own that talks to this daemon."""
        return Client(tool("docker"), home, {"DOCKER_HOST": self.address, "DOCKER_CLI_EXPERIMENTAL": "enabled"})

    def forget_images(self, docker: Client) -> None:
        """Remove every image and layer of the daemon, so that the next pull fetches everything again."""
        if images := docker.run("images", "--quiet", "--no-trunc").split():
            docker.run("rmi", "--force", *dict.fromkeys(images))
        docker.run("system", "prune", "--force", "--all")
        assert docker.run("images", "--all", "--quiet") == ""

"""The servers that are compared: how each is configured, started and stopped."""

from __future__ import annotations

import dataclasses
import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType

TOOLS = Path(os.environ.get("TOOLS", "~/.cache/stowage-tools")).expanduser() / "bin"
_PROGRAM = Path(sys.executable).parent / "registry"
START_SECONDS = 30.0
STOP_SECONDS = 15.0

_DISTRIBUTION = """\
version: 0.1
log: {level: info, accesslog: {disabled: false}}
storage:
  cache: {blobdescriptor: inmemory}
  filesystem: {rootdirectory: $root}
  maintenance: {uploadpurging: {enabled: false}}
http: {addr: 127.0.0.1:$port}
"""
_ZOT = """\
{"distSpecVersion": "1.1.1", "log": {"level": "info"},
 "storage": {"rootDirectory": "$root", "dedupe": true, "gc": false},
 "http": {"address": "127.0.0.1", "port": "$port"}}
"""
_ANGOS = """\
[server]
bind_address = "127.0.0.1"
port = $port
[blob_store.fs]
root_dir = "$root"
[global.access_policy]
default = "allow"
[repository."bench"]
"""
_OURS = """\
{"http": {"host": "127.0.0.1", "port": $port, "workers": $workers},
 "storage": {"driver": "local", "root_directory": "$root", "fsync": $fsync}}
"""
_GUARDED = (
    '{"http": {"host": "127.0.0.1", "port": $port, "workers": $workers},'
    ' "storage": {"driver": "local", "root_directory": "$root", "fsync": $fsync},'
    ' "auth": {"htpasswd": {"file": "$users"}},'
    ' "access": {"rules": ['
    '{"who": ["anonymous"], "repositories": ["bench/public"], "actions": ["pull"]},'
    ' {"who": ["alice"], "repositories": ["bench/**"], "actions": ["pull", "push"]}]}}'
)


class ServerError(Exception):
    """A server that did not start, with the end of what it logged."""


@dataclasses.dataclass(frozen=True, slots=True)
class Server:
    """One way to run one program: ``arguments`` may name ``$config``, ``$port`` and ``$root``."""

    name: str
    program: Path
    arguments: tuple[str, ...]
    config_name: str
    config: str
    version_arguments: tuple[str, ...] = ("--version",)
    version: str = ""
    environment: tuple[tuple[str, str], ...] = ()
    settings: tuple[tuple[str, str], ...] = ()

    @property
    def present(self) -> bool:
        """Whether the program can be started on this machine."""
        return self.program.is_file() and os.access(self.program, os.X_OK)

    def describe(self) -> str:
        """Return the version: what is pinned, otherwise the last line that the program says of itself."""
        if self.version or not self.present:
            return self.version or "absent"
        command = [str(self.program), *self.version_arguments]
        answer = subprocess.run(command, capture_output=True, text=True, timeout=START_SECONDS, check=False)
        return ((answer.stdout or answer.stderr).strip().splitlines() or ["unknown"])[-1]

    def command_line(self) -> str:
        """Return the command as documentation shows it."""
        return " ".join([self.program.name, *self.arguments])


def _ours(name: str, *, fsync: bool = True, workers: str = '"auto"', program: Path = _PROGRAM) -> Server:
    settings = (("fsync", "true" if fsync else "false"), ("workers", workers))
    return Server(name, program, ("serve", "--config", "$config"), "config.json", _OURS, settings=settings)


def guarded(users: Path) -> Server:
    """Ours with the users of a htpasswd file: alice may push, and each client pull from ``bench/public``."""
    ours = SERVERS[OURS]
    return dataclasses.replace(
        ours, name=f"{ours.name}-guarded", config=_GUARDED, settings=(*ours.settings, ("users", str(users)))
    )


OURS = "ours"
UNSYNCED = "ours-unsynced"
ONE_WORKER = "ours-one-worker"
BEFORE = "before"
"""A former release of ours, with one worker, its default: the ``registry`` that the variable BEFORE names."""
CEILING = "nothing"
DOCKER_REGISTRY = "docker-registry"
DISTRIBUTION = "distribution"
ZOT = "zot"
ANGOS = "angos"
PEERS = (DOCKER_REGISTRY, DISTRIBUTION, ZOT, ANGOS)

SERVERS: dict[str, Server] = {
    server.name: server
    for server in (
        _ours(OURS),
        _ours(UNSYNCED, fsync=False),
        _ours(ONE_WORKER, workers="1"),
        _ours(BEFORE, workers="1", program=Path(os.environ.get("BEFORE", BEFORE))),
        Server(
            DOCKER_REGISTRY,
            Path(shutil.which("docker-registry") or "docker-registry"),
            ("serve", "$config"),
            "config.yml",
            _DISTRIBUTION,
        ),
        Server(
            DISTRIBUTION,
            TOOLS / "registry",
            ("serve", "$config"),
            "config.yml",
            _DISTRIBUTION,
            environment=(("OTEL_TRACES_EXPORTER", "none"),),
        ),
        Server(ZOT, TOOLS / "zot", ("serve", "$config"), "config.json", _ZOT, version="zot 6d19b44"),
        Server(
            ANGOS,
            TOOLS / "angos",
            ("-c", "$config", "server"),
            "config.toml",
            _ANGOS,
            version="angos f104e30",
            environment=(("RUST_LOG", "info"),),
        ),
        Server(
            CEILING,
            Path(sys.executable),
            ("-m", "benchmarks.null_server", "$port", "$root"),
            "config",
            "",
            version="a server that throws uploads away",
        ),
    )
}


class Running:
    """A started server with a directory of its own, both gone when the context ends."""

    def __init__(self, server: Server, directory: Path) -> None:
        """Prepare to run the server under a new directory inside the one given."""
        self.server = server
        self.directory = Path(tempfile.mkdtemp(prefix="bench-", dir=directory))
        self.root = self.directory / "data"
        self.log = self.directory / "log"
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process that was started; its descendants are the rest of the server."""
        if self._process is None:
            raise ServerError("not started")
        return self._process.pid

    def __enter__(self) -> Self:
        """Start and wait until `/v2/` answers 200, or 401 where it wants credentials."""
        try:
            self._start()
            self._wait_ready()
        except BaseException:  # a signal, too
            self._stop()
            raise
        return self

    def _start(self) -> None:
        self.root.mkdir()
        config = self.directory / self.server.config_name
        values = dict(self.server.settings, root=str(self.root), port=str(self.port), config=str(config))
        config.write_text(Template(self.server.config).substitute(values), encoding="utf-8")
        command = [str(self.server.program), *(Template(word).substitute(values) for word in self.server.arguments)]
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                command,
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env=os.environ | dict(self.server.environment),
                start_new_session=True,
            )

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop the server and remove its directory."""
        self._stop()

    def tail(self, limit: int = 2000) -> str:
        """Return the end of the log, at most ``limit`` bytes of it."""
        with self.log.open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - limit))
            return log.read().decode(errors="replace")

    def _wait_ready(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self._process is not None and self._process.poll() is not None:
                break
            if _answers(self.port):
                return
            time.sleep(0.05)
        raise ServerError(f"{self.server.name} did not start:\n{self.tail()}")

    def _stop(self) -> None:
        process = self._process
        if process is not None and process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)


def free_port() -> int:
    """Return a port of this machine that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", "/v2/")
        return connection.getresponse().status in {http.HTTPStatus.OK, http.HTTPStatus.UNAUTHORIZED}
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()

"""Real servers for tests: ``registry serve`` as a subprocess, with a directory, a port and a process group of its own.

Nothing here knows how the registry works inside; a server gets the arguments that an operator gives, is asked over HTTP
and stopped by signals. It is forked from a process that has loaded what it loads (``forks.py``).
``STOWAGE_TEST_PROGRAM`` names another program that understands ``serve --config FILE``, so that a test can be tried on
another version; that one is executed.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

from tests.support.commands import finish, forkable
from tests.support.forks import Fork, fork

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from types import TracebackType

HOST = "127.0.0.1"
START_TIMEOUT = 200.0  # seconds until /livez must answer; one that hangs is rare, a machine with much to do is not
STOP_TIMEOUT = 40.0  # seconds for a clean exit after SIGTERM; longer than the default http.drain_timeout
COMMAND_TIMEOUT = 300.0  # seconds that a command may take
LINGER = 30.0  # seconds until no process of the group may be left after its parent ended
PORTS = os.environ.get("STOWAGE_TEST_PORTS", "20000-31999")  # of this run; two at the same time need two ranges
LOG_TAIL = 6000  # bytes of the log that a failing test shows


class ServerError(AssertionError):
    """A server did not start or stop as it must; the message ends with the tail of its log."""


class Registry(Protocol):
    """A registry that a test talks to, whatever it runs over and however many processes it is."""

    @property
    def address(self) -> str:
        """``host:port``, as it stands in an image reference."""

    @property
    def port(self) -> int:
        """The port of ``address``."""

    @property
    def url(self) -> str:
        """The base URL, without a slash at its end."""

    @property
    def running(self) -> bool:
        """Whether it was started and neither stopped nor killed since."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def start(self) -> None:
        """Return once it answers."""

    def stop(self) -> None:
        """Stop cleanly."""

    def kill(self) -> None:
        """SIGKILL to every process."""

    def restart(self) -> None:
        """Stop cleanly when running, then start again on the same storage, port and configuration."""

    def peak_memory(self) -> int:
        """Return an upper bound of what one server's processes ever had resident together, in bytes."""

    def log_tail(self) -> str:
        """Return the end of what it logged."""


def program() -> list[str]:
    """The command in front of ``serve``: the ``registry`` of this interpreter's environment unless another is named."""
    named = os.environ.get("STOWAGE_TEST_PROGRAM")
    return named.split() if named else [str(Path(sys.executable).with_name("registry"))]


def _environment() -> dict[str, str]:
    """Return what a server finds in its environment: nothing that configures it."""
    return {name: value for name, value in os.environ.items() if not name.startswith("REGISTRY_")}


def free_port() -> int:
    """Return a free loopback port that no test of this run was given before.

    Taken from below the kernel's ephemeral range, so that no client connection of a test beside this one gets it
    between now and the moment the server binds it.
    """
    for port in _ports:
        with socket.socket() as probe, suppress(OSError):
            probe.bind((HOST, port))
            return port
    raise ServerError(f"no free loopback port is left in {PORTS}")


def _own_ports() -> list[int]:
    """Those of this process, in a random order: each worker of a run has a share of its own."""
    first, last = map(int, PORTS.split("-"))
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    ports = list(range(first + worker, last + 1, workers))
    random.shuffle(ports)
    return ports


_ports = iter(_own_ports())


class RegistryProcess:
    """One ``registry serve`` with its own root directory, configuration file, log and process group.

    ``config`` overrides sections of the default test configuration, key by key. The storage outlives ``stop``,
    ``kill`` and ``restart``; the log is appended to. ``command`` is the program of another release, which may
    change between two starts. Not safe for use from several threads, except for the read-only attributes.
    """

    def __init__(
        self,
        directory: Path,
        config: Mapping[str, Mapping[str, object] | list[Any]] | None = None,
        command: Sequence[str] | None = None,
    ) -> None:
        self.command = list(command or program())
        self.directory = directory
        self.root = directory / "storage"
        self.log_path = directory / "server.log"
        self.config_path = directory / "config.json"
        self.port = free_port()
        self.config = self._merged(config or {})
        self._process: subprocess.Popen[bytes] | Fork | None = None

    def _merged(self, overrides: Mapping[str, Mapping[str, object] | list[Any]]) -> dict[str, Any]:
        """Return the default configuration with the keys of each section of ``overrides`` on top."""
        merged: dict[str, Any] = {
            "http": {"host": HOST, "port": self.port, "workers": 1},
            "storage": {"driver": "local", "root_directory": str(self.root)},
            "log": {"format": "json"},
        }
        for section, values in overrides.items():
            if isinstance(values, list):
                merged[section] = values
            else:
                merged.setdefault(section, {}).update(values)
        return merged

    @property
    def address(self) -> str:
        """``host:port``, as it stands in an image reference."""
        return f"{HOST}:{self.port}"

    @property
    def url(self) -> str:
        """The base URL, without a slash at its end."""
        return f"http://{self.address}"

    @property
    def pid(self) -> int:
        """The process that was started: the parent of the workers if there are several, and leader of the group."""
        if self._process is None:
            raise ServerError("the server is not running")
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it was started and neither stopped nor killed since."""
        return self._process is not None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is None:
            return
        if error is None:
            self.stop()
        else:
            self.kill()

    def start(self, timeout: float = START_TIMEOUT) -> None:
        """Return once ``/livez`` answers 200; ``ServerError`` after ``timeout`` seconds or if the server exits."""
        self._process = self._begun(self._configured("serve"), _environment())
        deadline = time.monotonic() + timeout
        while not self.answers("/livez"):
            if (code := self._process.poll()) is not None:
                self._end_group()
                raise self._error(f"the server exited with {code} before it answered")
            if time.monotonic() > deadline:
                self.kill()
                raise self._error(f"/livez did not answer within {timeout} s")
            time.sleep(0.02)

    def _begun(self, command: list[str], environment: dict[str, str]) -> subprocess.Popen[bytes] | Fork:
        if forkable(command):
            return fork(command, directory=self.directory, output=self.log_path, environment=environment)
        with self.log_path.open("ab") as log:
            return subprocess.Popen(
                command,
                cwd=self.directory,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                process_group=0,
            )

    def run(self, *arguments: str, timeout: float = COMMAND_TIMEOUT) -> dict[str, Any]:
        """Run a command of the same program and configuration, beside the server or without it; what it reports."""
        done = self.finished(*arguments, timeout=timeout)
        if done.returncode != 0:
            raise self._error(f"{arguments} exited with {done.returncode}: {done.stdout!r} {done.stderr[-3000:]!r}")
        report: dict[str, Any] = json.loads(done.stdout)
        return report

    def finished(self, *arguments: str, timeout: float = COMMAND_TIMEOUT) -> subprocess.CompletedProcess[bytes]:
        """Run a command like ``run``, whatever its exit code is; how it ended."""
        command = [*self._configured(*arguments), "--json"]
        return finish(command, directory=self.directory, environment=_environment(), timeout=timeout)

    def _configured(self, *arguments: str) -> list[str]:
        """Write the configuration; return the command that uses it."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self.config_path.write_text(json.dumps(self.config, indent=2), encoding="utf-8")
        return [*self.command, *arguments, "--config", str(self.config_path)]

    def answers(self, path: str) -> bool:
        """Tell whether GET ``path`` is 200 now."""
        connection = http.client.HTTPConnection(HOST, self.port, timeout=5)
        try:
            connection.request("GET", path)
            return connection.getresponse().status == http.client.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def stop(self, timeout: float = STOP_TIMEOUT) -> None:
        """SIGTERM to the parent, as an operator sends it; all processes must end, with exit code 0, in time."""
        process = self._running()
        process.send_signal(signal.SIGTERM)
        try:
            code = process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise self._error(f"still running {timeout} s after SIGTERM") from None
        left = self._left_behind()
        self._end_group()
        if code != 0:
            raise self._error(f"exit code {code} after SIGTERM")
        if left:
            raise self._error(f"processes outlived their parent: {left}")

    def _left_behind(self) -> list[str]:
        """Return the command lines of processes that live on after their parent.

        Python's own resource tracker ends when it sees that its parent is gone, so it gets a moment to see it.
        """
        deadline = time.monotonic() + LINGER
        while (left := list(self.processes())) and time.monotonic() < deadline:
            time.sleep(0.02)
        lines = []
        for pid in left:
            with suppress(OSError):
                lines.append(Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ").strip())
        return lines

    def kill(self) -> None:
        """SIGKILL to every process of the group at once, as a crash of the machine would; waits until they are gone."""
        process = self._running()
        self._end_group()
        process.wait()

    def restart(self, timeout: float = START_TIMEOUT) -> None:
        """Stop cleanly when running, then start again on the same storage, port and configuration."""
        if self._process is not None:
            self.stop()
        self.start(timeout)

    def processes(self) -> Iterator[int]:
        """Yield the pid of every living process of the group; zombies are not counted."""
        group = self.pid
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            with suppress(OSError):
                # The name in parentheses may hold spaces; state, parent and group follow the last parenthesis.
                state, _parent, process_group = (entry / "stat").read_text().rpartition(")")[2].split()[:3]
                if int(process_group) == group and state not in "ZX":
                    yield int(entry.name)

    def peak_memory(self) -> int:
        """Return the sum of the largest resident size that each living process ever had, in bytes (VmHWM).

        An upper bound of what they had at one time together.
        """
        return self._memory("VmHWM")

    def memory(self) -> int:
        """Return the sum of the resident sizes of the living processes, in bytes (VmRSS)."""
        return self._memory("VmRSS")

    def _memory(self, field: str) -> int:
        total = 0
        for pid in self.processes():
            with suppress(OSError):
                for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                    if line.startswith(f"{field}:"):
                        total += int(line.split()[1]) * 1024
        return total

    def processor_seconds(self) -> float:
        """Return the processor time that the living processes have used."""
        ticks = 0
        for pid in self.processes():
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def log_tail(self) -> str:
        """Return the end of the log, at most ``LOG_TAIL`` bytes."""
        if not self.log_path.exists():
            return ""
        with self.log_path.open("rb") as log:
            log.seek(max(0, self.log_path.stat().st_size - LOG_TAIL))
            return log.read().decode(errors="replace")

    def _running(self) -> subprocess.Popen[bytes] | Fork:
        if self._process is None:
            raise ServerError("the server is not running")
        return self._process

    def _end_group(self) -> None:
        """SIGKILL whatever is left of the group and forget the process."""
        process = self._running()
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        self._process = None

    def _error(self, what: str) -> ServerError:
        return ServerError(f"{what}; the end of {self.log_path}:\n{self.log_tail()}")

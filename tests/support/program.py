"""A program that tests start in the foreground: one loopback port, one directory, one log, one process group."""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from contextlib import suppress
from typing import TYPE_CHECKING, ClassVar, Self

from tests.support.servers import HOST, LOG_TAIL, ServerError, free_port

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

START_TIMEOUT = 200.0
STOP_TIMEOUT = 100.0


class Program(ABC):
    """What a store or proxy has in common with every other: it is started, answers, is stopped or killed.

    Port and directory outlive ``stop`` and ``kill``, so that ``start`` brings back the same server with its data.
    Not safe for use from several threads, except for the read-only attributes.
    """

    name: ClassVar[str]
    """The name of the program, and of its log."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.log_path = directory / f"{self.name}.log"
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def command(self) -> list[str]:
        """The program and its arguments; it must stay in the foreground."""

    @abstractmethod
    def ready(self) -> bool:
        """Whether it answers now."""

    @property
    def address(self) -> str:
        """``host:port``."""
        return f"{HOST}:{self.port}"

    @property
    def url(self) -> str:
        """The base URL, without a slash at its end."""
        return f"http://{self.address}"

    @property
    def running(self) -> bool:
        """Whether it was started and neither stopped nor killed since."""
        return self._process is not None

    @property
    def pid(self) -> int:
        """The process that was started, leader of its group."""
        if self._process is None:
            raise ServerError(f"{self.name} is not running")
        return self._process.pid

    def __enter__(self) -> Self:
        if not self.running:
            self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.running:
            self.stop()

    def start(self, timeout: float = START_TIMEOUT) -> None:
        """Return once it answers; ``ServerError`` after ``timeout`` seconds or if it exits."""
        self.directory.mkdir(parents=True, exist_ok=True)
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                self.command(),
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                process_group=0,
            )
        deadline = time.monotonic() + timeout
        while not self.ready():
            if (code := self._process.poll()) is not None:
                self._end()
                raise self._error(f"{self.name} exited with {code} before it answered")
            if time.monotonic() > deadline:
                self._end()
                raise self._error(f"{self.name} did not answer within {timeout} s")
            time.sleep(0.02)

    def stop(self, timeout: float = STOP_TIMEOUT) -> None:
        """SIGTERM, as an operator sends it; what has not ended after ``timeout`` seconds is killed."""
        os.kill(self.pid, signal.SIGTERM)
        if self._process is not None:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout)
        self._end()

    def kill(self) -> None:
        """SIGKILL to every process of the group at once."""
        self._end()

    def restart(self) -> None:
        """Stop when running, then start again with the same port and data."""
        if self.running:
            self.stop()
        self.start()

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

    def log_tail(self) -> str:
        """Return the end of the log."""
        if not self.log_path.exists():
            return ""
        return self.log_path.read_bytes()[-LOG_TAIL:].decode(errors="replace")

    def _end(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        if self._process is not None:
            self._process.wait()
        self._process = None

    def _error(self, what: str) -> ServerError:
        return ServerError(f"{what}; the end of {self.log_path}:\n{self.log_tail()}")

"""*Commands*: ``registry`` with arguments, which ends by itself; it is forked where it can be (``forks.py``).

Tests: ``tests/support/test_forks.py``.
"""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.forks import Fork, fork

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def forkable(command: Sequence[str]) -> bool:
    """Whether it begins with the ``registry`` of an environment: of this one, or of a former release."""
    program = Path(command[0])
    return program.name == "registry" and (program.parents[1] / "pyvenv.cfg").exists()


class Command:
    """A command that was begun; what it writes goes to files, which go when its end was asked for."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        directory: Path,
        environment: Mapping[str, str] | None = None,
        module: str | None = None,
    ) -> None:
        """``module``: see ``fork``."""
        self._written = tempfile.TemporaryDirectory(prefix="stowage-command-")
        self._output, self._errors = (Path(self._written.name) / name for name in ("output", "errors"))
        for path in (self._output, self._errors):
            path.touch()  # a command that is killed at once makes none
        environment = dict(os.environ if environment is None else environment)
        self._process: Fork | subprocess.Popen[bytes]
        if forkable(command):
            self._process = fork(
                command,
                directory=directory,
                output=self._output,
                errors=self._errors,
                environment=environment,
                module=module,
            )
            return
        with self._output.open("wb") as output, self._errors.open("wb") as errors:
            self._process = subprocess.Popen(
                command,
                cwd=directory,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
                process_group=0,
            )

    def poll(self) -> int | None:
        """The exit code, below zero for a signal; None while it runs."""
        return self._process.poll()

    def kill(self) -> None:
        """SIGKILL to all of it."""
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def ended(self, timeout: float | None = None) -> subprocess.CompletedProcess[bytes]:
        """How it ended, and what it wrote, once. Raises ``subprocess.TimeoutExpired`` after ``timeout`` seconds."""
        code = self._process.wait(timeout)
        with self._written:
            return subprocess.CompletedProcess((), code, self._output.read_bytes(), self._errors.read_bytes())


def finish(
    command: Sequence[str],
    *,
    directory: Path,
    environment: Mapping[str, str] | None = None,
    timeout: float = 300,
    module: str | None = None,
) -> subprocess.CompletedProcess[bytes]:
    """Run a command to its end, as ``subprocess.run`` does; after ``timeout`` seconds it is killed."""
    begun = Command(command, directory=directory, environment=environment, module=module)
    try:
        return begun.ended(timeout)
    except BaseException:
        begun.kill()
        begun.ended()
        raise

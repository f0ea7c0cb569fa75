"""*Commands*: ``registry`` with arguments, run to its end; it is forked where it can be (``forks.py``).

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

from tests.support.forks import fork

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def forkable(command: Sequence[str]) -> bool:
    """Whether it begins with the ``registry`` of an environment: of this one, or of a former release."""
    program = Path(command[0])
    return program.name == "registry" and (program.parents[1] / "pyvenv.cfg").exists()


def finish(
    command: Sequence[str],
    *,
    directory: Path,
    environment: Mapping[str, str] | None = None,
    timeout: float = 300,
    module: str | None = None,
) -> subprocess.CompletedProcess[bytes]:
    """How a command ended, and what it wrote; after ``timeout`` seconds it is killed. For ``module`` see ``fork``."""
    environment = dict(os.environ if environment is None else environment)
    if not forkable(command):
        return subprocess.run(
            command,
            cwd=directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout,
            check=False,
        )
    with tempfile.TemporaryDirectory(prefix="stowage-command-") as name:
        output, errors = Path(name) / "output", Path(name) / "errors"
        process = fork(
            command, directory=directory, output=output, errors=errors, environment=environment, module=module
        )
        try:
            code = process.wait(timeout)
        except BaseException:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
        return subprocess.CompletedProcess(command, code, output.read_bytes(), errors.read_bytes())

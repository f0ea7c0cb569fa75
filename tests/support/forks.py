"""*Forks*: servers and commands that are children of the tests, forked from a process that has loaded what they load.

Tests: ``tests/support/test_forks.py``.
"""

from __future__ import annotations

import atexit
import ctypes
import json
import os
import select
import signal
import subprocess
import threading
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support import fork_parent

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_BEFORE_A_PROGRAM = ("PYTHON", "LD_", "MALLOC_", "GLIBC_")
"""Variables whose names begin so are read before the first line of a program: a fork would come too late for them."""
_PROGRAM = "registry.cli.main"
_ROOT = Path(__file__).parents[2]
_PR_SET_CHILD_SUBREAPER = 36
_one_at_a_time = threading.Lock()


class Fork:
    """A child of this process, as far as ``subprocess.Popen`` is needed for it."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """The exit code, below zero for a signal; None while it runs."""
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """The exit code, at its end. Raises ``subprocess.TimeoutExpired`` after ``timeout`` seconds."""
        if self.poll() is None:
            end = os.pidfd_open(self.pid)
            try:
                waiting = select.poll()  # a test process may have more files open than ``select`` knows
                waiting.register(end, select.POLLIN)
                waiting.poll(None if timeout is None else timeout * 1000)
            finally:
                os.close(end)
        if (code := self.poll()) is None:
            raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0.0)
        return code

    def send_signal(self, number: signal.Signals) -> None:
        """Send it, unless it is known to have ended."""
        if self.poll() is None:
            os.kill(self.pid, number)


def fork(
    command: Sequence[str],
    *,
    directory: Path,
    output: Path,
    errors: Path | None = None,
    environment: Mapping[str, str],
    module: str | None = None,
) -> Fork:
    """A process that does what ``command`` would: the ``registry`` of an environment with its arguments.

    It leads a process group, reads nothing, and appends what it writes to ``output`` and ``errors``, by default to
    one. ``module`` is one of the tests whose ``main`` is called instead of the program's.
    """
    early = {name: value for name, value in environment.items() if name.startswith(_BEFORE_A_PROGRAM)}
    interpreter = Path(command[0]).with_name("python")
    with _one_at_a_time:
        parent = _parent(interpreter, tuple(sorted(early.items())), _kinds(command))
        request = {
            "command": list(command),
            "directory": str(directory),
            "output": str(output),
            "errors": str(errors or output),
            "environment": dict(environment),
            "module": module or _PROGRAM,
            "path": [str(_ROOT)] if module else [],
        }
        assert parent.stdin is not None
        assert parent.stdout is not None
        _take_in_orphans(wanted=True)
        try:
            parent.stdin.write(json.dumps(request).encode() + b"\n")
            parent.stdin.flush()
            return Fork(int(parent.stdout.readline()))
        finally:
            _take_in_orphans(wanted=False)


def _kinds(command: Sequence[str]) -> tuple[str, ...]:
    """What its configuration has of ``LOADED_FOR``."""
    named = [value for option, value in pairwise(command) if option == "--config"]
    text = "".join(Path(name).read_text() for name in named if Path(name).is_file())
    return tuple(kind for kind in sorted(fork_parent.LOADED_FOR) if f'"{kind}' in text)


@cache
def _parent(interpreter: Path, early: tuple[tuple[str, str], ...], kinds: tuple[str, ...]) -> subprocess.Popen[bytes]:
    """The process that forks, with these variables; it ends with this one."""
    others = {name: value for name, value in os.environ.items() if not name.startswith(_BEFORE_A_PROGRAM)}
    started = subprocess.Popen(
        [interpreter, fork_parent.__file__, *kinds],
        env=others | dict(early),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    atexit.register(_end, started)
    return started


def _end(parent: subprocess.Popen[bytes]) -> None:
    parent.communicate()


def _take_in_orphans(*, wanted: bool) -> None:
    """Whether a process whose parent has ended, below this one, becomes a child of this one."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, int(wanted), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")

"""Guardian: a process that interrupts programs when the one that started it is gone without a word.

PR_SET_PDEATHSIG would follow the thread that started a child, and would miss PostgreSQL, whose parent is another
program. A pipe that closes tells of every end, SIGKILL too.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import IO

_GOOD_BYE = "-"


class Guardian:
    """Guards what ``watch`` names, until ``dismiss``."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            text=True,
            start_new_session=True,  # what the terminal sends to its group is not for this process
        )

    def watch(self, *pids: int) -> None:
        """Interrupt these, too, when this process is gone."""
        for pid in pids:
            self._say(f"{pid} {birth_of(pid)}")

    def dismiss(self) -> None:
        """Everything was stopped in order."""
        with suppress(OSError):
            self._say(_GOOD_BYE)
        self._process.wait(10)

    def _say(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()


def birth_of(pid: int) -> str:
    """When a process began, in ticks since the boot; empty if there is none. A pid that is used again has another."""
    with suppress(OSError):
        # The name in parentheses may hold spaces; the time is the 20th field behind it.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    return ""


def guard(lines: IO[str]) -> None:
    """Read pids with their births until the end, and interrupt those that live; a good-bye ends it before."""
    watched = []
    for line in lines:
        if line.strip() == _GOOD_BYE:
            return
        watched.append(line.split())
    for pid, birth in watched:
        if birth == birth_of(int(pid)):
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGINT)


if __name__ == "__main__":
    guard(sys.stdin)

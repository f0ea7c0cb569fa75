"""*Holders*: names of processes that hold leases, which tell whether the process is dead.

Tests: ``tests/background/test_leases.py``.
"""

from __future__ import annotations

import os
import re
import uuid
from functools import cache
from pathlib import Path

_PROCESS = re.compile(r".*:(?P<machine>[^:]+):(?P<process>\d+):[0-9a-f]{32}")
"""The ending of holders' names."""


def new_holder(name: str) -> str:
    """A holder that is in this process, and no other one."""
    return f"{name}:{machine()}:{os.getpid()}:{uuid.uuid4().hex}"


def is_dead(holder: str) -> bool:
    """Whether a holder was a process of this machine, and there is no such process any more."""
    named = _PROCESS.fullmatch(holder)
    if named is None or named["machine"] != machine():
        return False
    try:
        os.kill(int(named["process"]), 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


@cache
def machine() -> str:
    """The scope in which process ids are unique: this boot of this kernel, and this container.

    Host names do not tell it: replicas in containers may share one.
    """
    try:
        booted = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{booted}-{Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:
        return uuid.uuid4().hex  # unknown, so no other process counts as one of this machine

"""*Clocks*: of this machine, for what has to be true whatever its wall clock says."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def boot_seconds() -> float:
    """Seconds since this machine was started, those in which it slept included: never set, never slower."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@cache
def boot_id() -> str:
    """What names this start of this machine: what another one says of its seconds means nothing here."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return uuid.uuid4().hex  # unknown, so no other process counts as one of this start


@dataclass(frozen=True, slots=True)
class Clocks:
    """The clocks of a machine; a test may replace them."""

    wall: Callable[[], float] = time.time
    """Seconds since the epoch."""
    boot: Callable[[], float] = boot_seconds
    """Seconds since the machine was started."""
    boot_id: str = field(default_factory=boot_id)

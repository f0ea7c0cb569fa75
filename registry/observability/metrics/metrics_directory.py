"""Metrics directory: the files through which the workers' metrics are summed.

The Prometheus library decides at its import whether processes share their values, so the process that starts the
workers enters ``metrics_directory()`` before anything imports ``registry.observability.metrics``.

Tests: ``tests/observability/metrics/test_metrics.py``.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

MEMORY = Path("/dev/shm")  # noqa: S108 - the memory of the machine, where Linux has it
"""Where the files lie unless TMPDIR names another directory: no disk is written for them."""
VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
_PREFIX = "stowage-metrics-"
_LOCK = "lock"
_UNLOCKED = "unlocked"
"""Name of the lock's file until it is locked."""


@contextmanager
def metrics_directory() -> Iterator[Path]:
    """A fresh directory, named to this process and those it starts, removed at the end.

    Directories that killed registries left are removed too: each living one holds a lock on a file in its own.
    Raises RuntimeError where the Prometheus library is already imported.
    """
    if "prometheus_client" in sys.modules:
        raise RuntimeError("prometheus_client was imported before its directory was chosen")
    _remove_abandoned()
    directory = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=_parent()))
    before = os.environ.get(VARIABLE)
    with (directory / _UNLOCKED).open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        (directory / _UNLOCKED).rename(directory / _LOCK)  # another that starts now finds a lock that is held, or none
        os.environ[VARIABLE] = str(directory)
        try:
            yield directory
        finally:
            os.environ.pop(VARIABLE)
            if before is not None:
                os.environ[VARIABLE] = before
            shutil.rmtree(directory, ignore_errors=True)


def _parent() -> Path:
    in_memory = "TMPDIR" not in os.environ and os.access(MEMORY, os.W_OK | os.X_OK)
    return MEMORY if in_memory else Path(tempfile.gettempdir())


def _remove_abandoned() -> None:
    places = {_parent(), Path(tempfile.gettempdir())}  # earlier releases knew the second alone
    for directory in [path for place in places for path in place.glob(f"{_PREFIX}*")]:
        try:
            with (directory / _LOCK).open("rb") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(directory, ignore_errors=True)
        except OSError:  # locked by a living registry, of another user, or just being made
            continue

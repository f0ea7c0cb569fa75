"""*Spool*: lines of a command's output that wait for its end, so that an error has a document of its own.

Tests: ``tests/cli/test_gc.py``, ``tests/cli/test_retention.py``, ``tests/cli/test_usage.py``.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from typing import Any, Self

IN_MEMORY = 8 << 20
"""Bytes of it from which on it waits in a file."""


class Spool:
    """A context manager."""

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(IN_MEMORY, "w+", encoding="utf-8")  # noqa: SIM115 - __exit__ closes it
        self._entries = 0

    def line(self, text: str) -> None:
        """Add a line for a person."""
        self._file.write(f"{text}\n")

    def entry(self, value: dict[str, Any]) -> None:
        """Add an entry to what stands between the brackets of a list of JSON."""
        self._file.write(f"{',' if self._entries else ''}\n{json.dumps(value, ensure_ascii=False)}")
        self._entries += 1

    def print(self) -> None:
        """Print all on stdout."""
        self._file.seek(0)
        shutil.copyfileobj(self._file, sys.stdout)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._file.close()

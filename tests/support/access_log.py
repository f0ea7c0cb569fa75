"""Access log: the log of calls that a store writes itself, counted independently of its callers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@dataclass(frozen=True)
class Call:
    """One request that the store answered."""

    method: str
    kind: str
    """The operation, as S3 or GCS calls it: ``GetObject``, ``UploadPart``."""
    target: str
    """Path and query as they were sent, percent-encoded."""
    status: int
    """As logged; versitygw writes 200 for every success."""


class AccessLog:
    """The calls in a growing file, from a mark on. ``parse`` turns a line into a call, or None for other lines."""

    def __init__(self, path: Path, parse: Callable[[str], Call | None]) -> None:
        self.path = path
        self._parse = parse
        self._mark = 0

    def calls(self) -> list[Call]:
        """Return what was answered since the last ``reset``, oldest first."""
        if not self.path.exists():
            return []
        with self.path.open("rb") as file:
            file.seek(self._mark)
            lines = file.read().decode(errors="replace").splitlines(keepends=True)
        found = (self._parse(line.rstrip("\n")) for line in lines if line.endswith("\n"))
        return [call for call in found if call is not None]

    def reset(self) -> None:
        """Forget what was answered until now."""
        self._mark = self.path.stat().st_size if self.path.exists() else 0

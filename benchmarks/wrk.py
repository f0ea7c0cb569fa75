"""Small reads under wrk: 16 connections, answers checked before they are counted."""

from __future__ import annotations

import dataclasses
import re
import shutil
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

CONNECTIONS = 16
_RATE = re.compile(r"^Requests/sec:\s+([\d.]+)$", re.MULTILINE)
_FAULT = re.compile(r"^\s*(Non-2xx.*|Socket errors:.*)$", re.MULTILINE)


class WrkError(Exception):
    """wrk is missing, or its answers were not all good."""


@dataclasses.dataclass(frozen=True, slots=True)
class Read:
    """A request that wrk repeats."""

    method: str
    target: str
    accept: str = ""
    authorization: str = ""

    def script(self) -> str:
        """Return the lua that makes wrk send this request."""
        lines = [f'wrk.method = "{self.method}"']
        if self.accept:
            lines.append(f'wrk.headers["Accept"] = "{self.accept}"')
        if self.authorization:
            lines.append(f'wrk.headers["Authorization"] = "{self.authorization}"')
        return "\n".join(lines) + "\n"


def available() -> bool:
    """Whether wrk is installed."""
    return shutil.which("wrk") is not None


def rate(read: Read, port: int, seconds: float, directory: Path) -> float:
    """Return the requests per second that wrk counts on 16 connections of one thread during ``seconds``.

    Where a busy machine answers nothing in that time, it measures again for longer.
    Raises `WrkError` when an answer was not 2xx, a socket failed, or no answer came at all.
    """
    program = shutil.which("wrk")
    if program is None:
        raise WrkError("wrk is not installed")
    script = directory / "wrk.lua"
    script.write_text(read.script(), encoding="utf-8")
    url = f"http://127.0.0.1:{port}{read.target}"
    for times in (1, 4, 16):
        whole = max(1, round(seconds)) * times
        command = [program, "-t1", f"-c{CONNECTIONS}", f"-d{whole}s", "-s", str(script), url]
        output = subprocess.run(command, capture_output=True, text=True, timeout=whole + 30, check=True).stdout
        fault, found = _FAULT.search(output), _RATE.search(output)
        if fault or not found:
            raise WrkError(f"{read.method} {read.target}: {fault[1] if fault else output}")
        if float(found[1]):
            return float(found[1])
    raise WrkError(f"{read.method} {read.target}: no answer within {whole} s")

"""The programs that tests run: looked for in ``$TOOLS/bin`` (default ``~/.cache/stowage-tools/bin``), then on PATH.

A test that misses one is skipped, and the reason names the program. With ``REQUIRE_TOOLS=1`` such a skip fails the
session (``conftest.py``), so that a machine that lacks a program cannot pass for one where everything worked.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

TOOLS = Path(os.environ.get("TOOLS") or Path.home() / ".cache" / "stowage-tools")
_ADMINISTRATION = "/usr/local/sbin:/usr/sbin:/sbin"
"""Where Debian puts daemons; the PATH of an ordinary user lacks it."""


def find_tool(name: str) -> Path | None:
    """The program called ``name``, or None. PostgreSQL's server programs are found where Debian keeps them."""
    own = TOOLS / "bin" / name
    if os.access(own, os.X_OK):
        return own
    postgresql = sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin")), reverse=True)
    search = os.pathsep.join([os.environ.get("PATH", os.defpath), _ADMINISTRATION, *postgresql])
    found = shutil.which(name, path=search)
    return Path(found) if found else None


def tool(name: str) -> Path:
    """The program called ``name``; skips the test, naming it, where it is not installed."""
    found = find_tool(name)
    if found is None:
        pytest.skip(f"missing program: {name} (neither in {TOOLS / 'bin'} nor on PATH; .ci/run installs it)")
    return found


def require_tools(*names: str) -> dict[str, Path]:
    """All the named programs; skips the test, naming every missing one."""
    found = {name: find_tool(name) for name in names}
    missing = [name for name, path in found.items() if path is None]
    if missing:
        pytest.skip(
            f"missing programs: {', '.join(missing)} (neither in {TOOLS / 'bin'} nor on PATH; .ci/run installs them)"
        )
    return {name: path for name, path in found.items() if path is not None}

"""An environment of its own with a distribution in it, and the programs of that."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

TIMEOUT = 300
"""Seconds for a program; pip may have to download everything."""


class Environment:
    """A virtual environment that sees nothing of the one that runs the tests."""

    def __init__(self, directory: Path) -> None:
        self._bin = directory / "bin"
        self._elsewhere = directory / "elsewhere"
        """Where programs run: not in the checkout, whose packages they would find."""
        venv.create(directory, symlinks=True, with_pip=False)
        self._elsewhere.mkdir()

    @property
    def registry(self) -> Path:
        """The command that was installed."""
        return self._bin / "registry"

    def install(self, requirement: str) -> None:
        """Install a requirement as ``pip install`` does, by the pip that runs the tests."""
        # Modules are compiled when they are first imported: most of what is installed never is.
        pip = [sys.executable, "-m", "pip", "--python", str(self._bin / "python"), "--disable-pip-version-check"]
        self._run([*pip, "install", "--quiet", "--no-compile", requirement])

    def python(self, script: str) -> str:
        """What a script prints."""
        return self._run([str(self._bin / "python"), "-I", "-c", script])

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run ``registry`` with these arguments, whatever its exit code."""
        return subprocess.run(
            [self.registry, *arguments],
            cwd=self._elsewhere,
            env=outside(),
            capture_output=True,
            text=True,
            check=False,
            timeout=TIMEOUT,
        )

    def _run(self, command: list[str]) -> str:
        done = subprocess.run(
            command, cwd=self._elsewhere, env=outside(), capture_output=True, text=True, check=False, timeout=TIMEOUT
        )
        assert done.returncode == 0, f"{command}:\n{done.stdout}{done.stderr}"
        return done.stdout


def outside() -> dict[str, str]:
    """The environment of this process without what points Python at the checkout, or keeps it from keeping bytecode."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "REGISTRY_"))}

"""Former releases: each is a commit of this repository, built into a wheel and installed in its own environment.

The environments stay in ``$TOOLS/releases`` and are used again; the first test that needs one makes it, in about a
minute. A release that cannot be made fails the test: what it protects has not been looked at then.
"""

from __future__ import annotations

import fcntl
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tests.support.tools import TOOLS

REPOSITORY: Final = Path(__file__).resolve().parents[2]
PYTHON: Final = f"py{sys.version_info.major}{sys.version_info.minor}"
PATIENCE: Final = 600
"""Seconds that pip may take."""


@dataclass(frozen=True)
class Release:
    """A commit that a registry of users may be."""

    commit: str
    undeclared: tuple[str, ...] = ()
    """Distributions that its wheel needs and does not declare."""

    def __str__(self) -> str:
        """Return what names it in the name of a test."""
        return self.commit[:7]


FORMER: Final = (
    Release("0560e7b", undeclared=("packaging", "requests")),  # the foundation, before anything that only adds to it
)
"""The releases of which this one takes over storage and database, oldest first. The one before this joins with each."""
BEFORE: Final = Release("9808789")
"""The step before this one: what it leaves unfinished is finished, and it goes on with what this one leaves."""


def command(release: Release) -> list[str]:
    """The ``registry`` of a former release, installed where it is not; fails the test where that is impossible."""
    home = TOOLS / "releases" / f"{release}-{PYTHON}"
    home.parent.mkdir(parents=True, exist_ok=True)
    with home.with_suffix(".lock").open("w") as lock:  # several test workers want it at once
        fcntl.flock(lock, fcntl.LOCK_EX)
        installed = home / ".installed"
        if not installed.exists():
            shutil.rmtree(home, ignore_errors=True)
            _install(release, home)
            installed.touch()
    return [str(home / "bin" / "registry")]


def _install(release: Release, home: Path) -> None:
    _run(["git", "-C", str(REPOSITORY), "cat-file", "-e", f"{release.commit}^{{commit}}"], release)
    with tempfile.TemporaryDirectory(prefix="stowage-release-") as name:
        archive, source, wheels = (Path(name) / part for part in ("archive.tar", "source", "wheels"))
        source.mkdir()
        _run(["git", "-C", str(REPOSITORY), "archive", "-o", str(archive), release.commit], release)
        _run(["tar", "-xf", str(archive), "-C", str(source)], release)
        _run([sys.executable, "-m", "venv", str(home)], release)
        pip = [str(home / "bin" / "python"), "-m", "pip", "--quiet", "--disable-pip-version-check"]
        _run([*pip, "wheel", "--no-deps", "--wheel-dir", str(wheels), str(source)], release)
        (wheel,) = wheels.glob("*.whl")
        _run([*pip, "install", f"{wheel}[postgresql]", *release.undeclared], release)


def _run(arguments: list[str], release: Release) -> None:
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=PATIENCE, check=False)
    if done.returncode != 0:
        pytest.fail(
            f"the former release {release} cannot be made from the history in {REPOSITORY} (a shallow clone has none;"
            f" `git fetch --unshallow` brings it): {' '.join(arguments)}: {done.stderr[-2000:]}"
        )

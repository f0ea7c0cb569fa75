"""A client program in a home of its own: no credentials, caches or image stores of another run are seen or left."""

from __future__ import annotations

import json
import os
import subprocess
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

TIMEOUT = 300.0  # seconds after which a command hangs; below the limit of a test in .ci/run


class Client:
    """Runs one program with an empty home directory; every command of one instance shares that home."""

    def __init__(self, path: Path, home: Path, environment: Mapping[str, str] | None = None) -> None:
        self.path = path
        self.home = home
        home.mkdir(parents=True)
        (home / "tmp").mkdir()
        (home / "runtime").mkdir(mode=0o700)
        self.environment = {
            "PATH": os.environ.get("PATH", os.defpath) + os.pathsep + "/usr/sbin:/sbin",
            "HOME": str(home),
            "TMPDIR": str(home / "tmp"),
            "LANG": "C.UTF-8",
            "XDG_RUNTIME_DIR": str(home / "runtime"),
            "NO_COLOR": "1",
            **(environment or {}),
        }

    def start(self, *arguments: str | Path, stdin: int = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
        """Start the program with pipes for its output; the caller waits for it."""
        return subprocess.Popen(
            [self.path, *arguments],
            cwd=self.home,
            env=self.environment,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def execute(
        self, *arguments: str | Path, stdin: bytes = b"", timeout: float = TIMEOUT
    ) -> subprocess.CompletedProcess[bytes]:
        """Run the program to its end, whatever its exit code; an AssertionError after ``timeout`` seconds."""
        try:
            return subprocess.run(
                [self.path, *arguments],
                cwd=self.home,
                env=self.environment,
                input=stdin,
                capture_output=True,
                timeout=timeout,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            output = (error.stdout or b"") + (error.stderr or b"")
            raise AssertionError(f"{self._line(arguments)} ran {timeout} s:\n{_text(output)}") from None

    def output(self, *arguments: str | Path, stdin: bytes = b"", timeout: float = TIMEOUT) -> bytes:
        """Run the program, which must succeed, and return the bytes of its standard output."""
        done = self.execute(*arguments, stdin=stdin, timeout=timeout)
        assert done.returncode == 0, (
            f"{self._line(arguments)} exited with {done.returncode}:\n{_text(done.stdout)}\n{_text(done.stderr)}"
        )
        return done.stdout

    def run(self, *arguments: str | Path, stdin: bytes = b"", timeout: float = TIMEOUT) -> str:
        """Run the program, which must succeed, and return its standard output without white space around it."""
        return self.output(*arguments, stdin=stdin, timeout=timeout).decode().strip()

    def json(self, *arguments: str | Path) -> Any:
        """Run the program, which must succeed, and return the JSON document on its standard output."""
        return json.loads(self.output(*arguments))

    def fails(self, *arguments: str | Path, saying: str) -> None:
        """Run the program, which must fail and say ``saying``, so that it fails for the expected reason."""
        done = self.execute(*arguments)
        said = _text(done.stdout + done.stderr)
        assert done.returncode != 0, f"{self._line(arguments)} succeeded:\n{said}"
        assert saying.lower() in said.lower(), f"{self._line(arguments)} does not say {saying!r}:\n{said}"

    def _line(self, arguments: tuple[str | Path, ...]) -> str:
        return " ".join([self.path.name, *map(str, arguments)])


def _text(output: bytes) -> str:
    return output.decode(errors="replace").strip()

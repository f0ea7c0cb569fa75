"""A machine without the programs that tests need must not pass for one where everything worked."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.tools import find_tool, require_tools, tool

ROOT = Path(__file__).parent.parent
SKIPPING = "import pytest\n@pytest.mark.tools('no-such-program')\ndef test_it(): pass\ndef test_other(): pass\n"


def run_pytest(directory: Path, *options: str, strict: bool) -> subprocess.CompletedProcess[str]:
    (directory / "test_skipping.py").write_text(SKIPPING)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "REQUIRE_TOOLS": "1" if strict else ""}
    environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # all but what is asked for takes seconds to load
    command = [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-p", "no:cacheprovider", "-c", os.devnull]
    return subprocess.run(
        [*command, "-W", "ignore", "--rootdir", directory, *options, directory],
        env=environment, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


def test_a_missing_program_is_named_in_the_skip() -> None:
    with pytest.raises(pytest.skip.Exception, match="no-such-program"):
        tool("no-such-program")
    with pytest.raises(pytest.skip.Exception, match="no-such-program, nor-this"):
        require_tools("sh", "no-such-program", "nor-this")


def test_programs_are_found_on_the_path() -> None:
    assert find_tool("sh") == tool("sh") == require_tools("sh")["sh"]


def test_a_skip_is_no_failure_on_a_developers_machine(tmp_path: Path) -> None:
    assert run_pytest(tmp_path, strict=False).returncode == 0


@pytest.mark.parametrize("options", [(), ("-p", "xdist", "-n", "1")], ids=["one process", "xdist"])
def test_a_skip_fails_the_session_where_tools_are_required(tmp_path: Path, options: tuple[str, ...]) -> None:
    done = run_pytest(tmp_path, *options, strict=True)
    assert done.returncode == 1, done.stdout
    assert "no-such-program" in done.stdout.split("a skip is a failure")[1]

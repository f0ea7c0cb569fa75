"""A server that is forked is as one that is executed: a child, in a group of its own, with its own environment."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.support import fork_parent
from tests.support.commands import finish
from tests.support.forks import Fork, fork
from tests.support.servers import RegistryProcess, program


def start(directory: Path, *arguments: str, **environment: str) -> Fork:
    command = [*program(), *arguments]
    return fork(command, directory=directory, output=directory / "log", environment={**os.environ, **environment})


def test_a_fork_runs_the_command_appends_to_its_log_and_its_exit_code_is_known(tmp_path: Path) -> None:
    for arguments, code in ((["version"], 0), (["unknown"], 2)):
        process = start(tmp_path, *arguments)
        assert process.wait(60) == code
        assert (process.poll(), process.returncode) == (code, code)
    text = (tmp_path / "log").read_text()
    assert text.startswith("registry ")
    assert "unknown" in text


@pytest.mark.parametrize("early", [{}, {"PYTHONUTF8": "1"}], ids=["any", "early"])
def test_a_fork_has_the_environment_that_it_is_given_and_no_other(tmp_path: Path, early: dict[str, str]) -> None:
    for mistake, code in ({"REGISTRY_HTTP__PORT": "none"}, 2), ({}, 0):
        assert start(tmp_path, "config", "check", **mistake, **early, REGISTRY_HTTP__WORKERS="1").wait(60) == code


def test_a_fork_leads_a_group_is_waited_for_in_time_and_ends_by_a_signal(tmp_path: Path) -> None:
    server = RegistryProcess(tmp_path)
    server.start()
    process = server._process
    assert isinstance(process, Fork)
    assert os.getpgid(process.pid) == process.pid
    assert int(Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[1]) == os.getpid()
    began = time.monotonic()
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.05)
    assert time.monotonic() - began >= 0.05
    process.send_signal(signal.SIGKILL)
    assert process.wait(60) == -signal.SIGKILL
    process.send_signal(signal.SIGKILL)  # its pid may be of another process by now
    server.kill()


def test_a_command_is_run_to_its_end_and_what_it_writes_is_told_apart(tmp_path: Path) -> None:
    done = finish([*program(), "unknown"], directory=tmp_path)
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"unknown" in done.stderr
    done = finish([*program(), "version", "--json"], directory=tmp_path)
    assert (done.returncode, done.stderr) == (0, b"")
    assert json.loads(done.stdout)["version"]


def test_a_command_that_takes_too_long_is_killed(tmp_path: Path) -> None:
    server = RegistryProcess(tmp_path)
    with pytest.raises(subprocess.TimeoutExpired):
        server.finished("serve", timeout=0.05)
    server.start()  # nothing is in its way
    server.stop()


@pytest.mark.parametrize("kinds", [(), *([kind] for kind in fork_parent.LOADED_FOR)], ids=str)
def test_what_is_loaded_before_a_fork_is_there(kinds: list[str]) -> None:
    """A name that is wrong is taken for one that a former release lacks."""
    for name in (*fork_parent.LOADED, *(name for kind in kinds for name in fork_parent.LOADED_FOR[kind])):
        assert importlib.util.find_spec(name), name

"""``registry serve``: its log and its end; what it answers is tested elsewhere."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from urllib.request import urlopen

import pytest

from registry.cli.output import ExitCode
from tests.support.servers import free_port

PROGRAM = Path(sys.executable).parent / "registry"


def start(
    directory: Path, port: int, *options: str, workers: int = 1, mirrors: Sequence[object] = ()
) -> subprocess.Popen[str]:
    settings = {"http": {"port": port, "workers": workers}, "mirrors": mirrors}
    (directory / "config.json").write_text(json.dumps(settings))
    command = [str(PROGRAM), "serve", "--config", "config.json", *options]
    return subprocess.Popen(command, cwd=directory, stdout=-1, stderr=-1, text=True)


def wait_for(process: subprocess.Popen[str], port: int) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            with urlopen(f"http://127.0.0.1:{port}/livez", timeout=30):
                return
        except OSError:
            if process.poll() is not None:
                break
            time.sleep(0.05)
    process.kill()
    raise AssertionError(f"no answer: {process.communicate()}")


@pytest.mark.parametrize(("number", "workers"), [(signal.SIGINT, 1), (signal.SIGINT, 2), (signal.SIGTERM, 2)])
def test_a_signal_ends_it_with_code_zero_and_one_document_and_leaves_no_temporary_files(
    tmp_path: Path, number: signal.Signals, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    port = free_port()
    with start(tmp_path, port, "--json", workers=workers) as process:
        wait_for(process, port)
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert process.returncode == ExitCode.DONE, err
    assert json.loads(out) == {"exit_code": 0}
    assert list((tmp_path / "temporary").iterdir()) == []
    events = [json.loads(line) for line in err.splitlines()]
    (request,) = [event for event in events if event.get("path") == "/livez"]
    assert request["status"] == 200
    assert request["request_id"]


def test_a_port_in_use_is_a_configuration_mistake_that_names_its_key(tmp_path: Path) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        with start(tmp_path, listener.getsockname()[1], "--json") as process:
            out, _err = process.communicate(timeout=60)
    assert process.returncode == ExitCode.USAGE
    assert json.loads(out)["problems"][0]["key"] == "http.port"


def test_a_host_of_another_machine_is_a_configuration_mistake_that_names_its_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REGISTRY_HTTP__HOST", "192.0.2.1")
    with start(tmp_path, 0) as process:
        _out, err = process.communicate(timeout=60)
    assert process.returncode == ExitCode.USAGE
    assert "registry: http.host (REGISTRY_HTTP__HOST): " in err


def test_a_mirror_below_whose_prefix_clients_have_pushed_is_refused(tmp_path: Path) -> None:
    root = tmp_path / "registry-data" / "docker.io" / "library" / "app"
    root.mkdir(parents=True)
    mirror = {"name": "hub", "prefix": "docker.io", "url": ["https://hub.example.org"]}
    with start(tmp_path, free_port(), "--json", mirrors=[mirror]) as process:
        out, _err = process.communicate(timeout=60)
    assert process.returncode == ExitCode.REFUSED
    assert "docker.io/library" in json.loads(out)["message"]

"""A root on a volume with ``lost+found`` that belongs to root: the registry, which does not, serves all the rest."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from registry.cli.output import ExitCode
from tests.server.sending import call
from tests.server.test_start import lay_out
from tests.support.servers import RegistryProcess, program

SOMEONE_ELSE = 12345
PATIENCE = 30.0


@pytest.fixture
def command() -> list[str]:
    """The registry, held to the modes of files also where it is run by root."""
    if os.geteuid() != 0:
        return program()
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        pytest.skip("root without setpriv is let in everywhere")
    return [setpriv, "--bounding-set", "-dac_override,-dac_read_search", *program()]


def shut(path: Path) -> None:
    """Let only its owner in, another user if this one may say so."""
    path.chmod(0o700 if os.geteuid() == 0 else 0)
    if os.geteuid() == 0:
        os.chown(path, SOMEONE_ELSE, SOMEONE_ELSE)


def catalog(server: RegistryProcess) -> list[str]:
    return list(json.loads(call(server.port, "GET", "/v2/_catalog").body)["repositories"])


def test_it_serves_and_rebuilds_everything_else(tmp_path: Path, command: list[str]) -> None:
    server = RegistryProcess(tmp_path, {"storage": {"rescan_interval": 1}}, command)
    names = lay_out(server.root, 2)
    shutil.copytree(server.root / names[0], server.root / "shut/app")
    shutil.copytree(server.root / names[0], server.root / "half/app")
    for name in ("lost+found", "shut"):
        (server.root / name).mkdir(exist_ok=True)
        shut(server.root / name)
    digest = json.loads((server.root / "half/app/index.json").read_text())["manifests"][0]["digest"]
    unreadable = server.root / "half/app/blobs" / digest.replace(":", "/")
    shut(unreadable)
    try:
        with server:
            deadline = time.monotonic() + PATIENCE
            while catalog(server) != sorted([*names, "half/app"]):
                assert time.monotonic() < deadline, catalog(server)
                time.sleep(0.1)
            assert call(server.port, "GET", "/readyz").status == 200
            assert call(server.port, "GET", f"/v2/{names[0]}/manifests/latest").status == 200
            assert call(server.port, "GET", "/v2/shut/app/manifests/latest").status == 503
            assert call(server.port, "GET", "/v2/half/app/manifests/latest").status == 503
            assert call(server.port, "GET", "/v2/half/app/tags/list").status == 200
            metrics = call(server.port, "GET", "/metrics").body.decode()
            assert 'storage_omissions_total{kind="directory"} 1.0' in metrics
            assert "half" not in metrics
            done = subprocess.run(
                [*command, "rebuild", "--json", "--config", str(server.config_path)],
                capture_output=True,
                check=False,
                timeout=PATIENCE,
            )
            report = json.loads(done.stdout)
            assert done.returncode == ExitCode.PROBLEMS
            assert report["repositories"] == 3
            assert sorted(problem.rpartition(": ")[0] for problem in report["problems"]) == [
                f"half/app: {digest}",
                "shut",
            ]
    finally:
        for path in (server.root / "lost+found", server.root / "shut", unreadable):
            path.chmod(0o700)

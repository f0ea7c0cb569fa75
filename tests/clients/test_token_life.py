"""Pushes that outlive their tokens, over a slow line (check 10).

docker, skopeo and regctl count the seconds themselves, and take any token for one of a minute at the least. Clients
that get another token when one is refused are in ``tests/soak/test_token_life.py``, with a token of three seconds.

containerd is none of these clients: where its token has ended when it sends the manifest, release 1.6 waits for ever in
about every second push. It has given the manifest to the request that was refused, and sends the next one without.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tests.clients.guarded import PASSWORDS, seen
from tests.clients.layouts import random_bytes, tar
from tests.clients.machines import Regctl, Skopeo
from tests.clients.slow_line import LAYER, large_layout, line, push

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.clients.client import Client
    from tests.clients.daemon import DockerDaemon

pytestmark = [pytest.mark.clients, pytest.mark.local_storage("the kind of store makes no difference")]

MINUTE = 60


@pytest.fixture
def large(tmp_path: Path) -> Path:
    return large_layout(tmp_path / "large")


@pytest.mark.timeout(400)
@pytest.mark.tools("docker", "dockerd", "skopeo", "regctl")
def test_a_layer_that_takes_longer_than_its_token_lives_is_pushed(
    docker_daemon: DockerDaemon, new_client: Callable[[str], Client], large: Path, tmp_path: Path
) -> None:
    with line(tmp_path, token=MINUTE, layer=MINUTE + 8) as slow, ThreadPoolExecutor() as pool:
        docker = docker_daemon.client(tmp_path / "docker")
        reference = f"{slow.address}/team/docker:1"
        docker.run("login", "--username=alice", "--password-stdin", slow.address, stdin=PASSWORDS["alice"].encode())
        docker.run("import", "-", reference, stdin=tar({"large": random_bytes(LAYER, "docker")}))
        pushed = pool.submit(docker.run, "push", reference)
        machines = (Skopeo(new_client("skopeo"), slow.address), Regctl(new_client("regctl"), slow.address))
        for done in [pool.submit(push, machine, slow, large) for machine in machines]:
            done.result()
        pushed.result()
        assert seen(slow.server.address, "team/docker", "1", "alice").status == 200

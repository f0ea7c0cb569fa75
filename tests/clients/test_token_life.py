"""Pushes that outlive their tokens, over a slow line (check 10).

Waits are shorter than in life: a token of three seconds and a layer of nine, for clients that get another token when
one is refused. docker, skopeo and regctl take any token for one of a minute at the least: theirs has one.
``tests/soak/test_token_life.py`` takes three minutes.

containerd is none of these clients: where its token has ended when it sends the manifest, release 1.6 waits for ever in
about every second push. It has given the manifest to the request that was refused, and sends the next one without.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tests.clients.guarded import PASSWORDS, seen
from tests.clients.layouts import random_bytes, tar
from tests.clients.machines import Crane, Oras, Regctl, Skopeo, kinds
from tests.clients.slow_line import LAYER, Line, large_layout, line, push

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.clients.client import Client
    from tests.clients.daemon import DockerDaemon
    from tests.clients.machines import Transporter

pytestmark = [pytest.mark.clients, pytest.mark.local_storage("the kind of store makes no difference")]

MINUTE = 60


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Line]:
    """The registry that machines are made for."""
    with line(tmp_path_factory.mktemp("slow"), token=3, layer=9) as made:
        yield made


@pytest.fixture
def large(tmp_path: Path) -> Path:
    return large_layout(tmp_path / "large")


@pytest.mark.parametrize("kind", kinds(Crane, Oras))
def test_a_layer_that_takes_longer_than_its_token_lives_is_pushed(
    kind: type[Transporter], new_machine: Callable[[type[Transporter]], Transporter], guarded: Line, large: Path
) -> None:
    push(new_machine(kind), guarded, large)


@pytest.mark.timeout(400)
@pytest.mark.tools("docker", "dockerd", "skopeo", "regctl")
def test_so_do_clients_that_count_the_seconds_themselves(
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

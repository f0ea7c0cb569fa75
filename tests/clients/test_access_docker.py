"""docker of a registry with rules: what its login keeps, and that a node of Kubernetes can use it (checks 1 and 4)."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from typing import TYPE_CHECKING

import pytest

from tests.clients.guarded import PASSWORDS
from tests.clients.machines import Crane, refused, succeeded
from tests.clients.stores import Ctr

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.clients.daemon import DockerDaemon
    from tests.support.servers import Registry

pytestmark = [
    pytest.mark.clients,
    pytest.mark.tools("docker", "dockerd"),
    pytest.mark.replicas_too("the kind of store makes no difference, a second server may"),
]


def test_docker_logs_in_and_keeps_the_password_and_no_token(
    docker_daemon: DockerDaemon, guarded: Registry, tmp_path: Path
) -> None:
    docker, stranger = docker_daemon.client(tmp_path / "docker"), docker_daemon.client(tmp_path / "stranger")
    host = f"localhost:{guarded.port}"
    image = docker.run("import", "-", f"{host}/team/docker:1", stdin=b"\0" * 10240)
    stranger.fails("push", f"{host}/team/docker:1", saying="denied")
    docker.fails("login", "--username=alice", "--password=wrong", host, saying="unauthorized")
    docker.run("login", "--username=alice", "--password-stdin", host, stdin=PASSWORDS["alice"].encode())
    kept = json.loads((docker.home / ".docker/config.json").read_bytes())["auths"][host]
    assert kept == {"auth": b64encode(f"alice:{PASSWORDS['alice']}".encode()).decode()}
    docker.run("tag", image, f"{host}/public/docker:1")
    for repository in ("team/docker", "public/docker"):
        docker.run("push", f"{host}/{repository}:1")
    docker_daemon.forget_images(docker)
    docker.run("pull", f"{host}/team/docker:1")
    docker_daemon.forget_images(docker)
    stranger.run("pull", f"{host}/public/docker:1")
    docker_daemon.forget_images(docker)
    stranger.fails("pull", f"{host}/team/docker:1", saying="denied")


@pytest.mark.tools("ctr", "containerd", "crane")
def test_what_a_login_of_docker_wrote_is_a_pull_secret(
    docker_daemon: DockerDaemon,
    guarded: Registry,
    new_machine: Callable[[type[Crane | Ctr]], Crane | Ctr],
    source: Path,
    tmp_path: Path,
) -> None:
    """A secret of the type kubernetes.io/dockerconfigjson is that file; kubelet hands its user and password on."""
    docker, reference = docker_daemon.client(tmp_path / "docker"), f"{guarded.address}/team/pod:1"
    docker.run("login", "--username=bob", "--password-stdin", guarded.address, stdin=PASSWORDS["bob"].encode())
    secret = b64encode((docker.home / ".docker/config.json").read_bytes())
    succeeded(new_machine(Crane).logged_in("alice").push(source, reference))

    found = json.loads(b64decode(secret))["auths"][guarded.address]
    user, _, password = b64decode(found["auth"]).decode().partition(":")
    node = new_machine(Ctr)
    refused(node.pull(reference, tmp_path))
    succeeded(node.login(user, password))
    succeeded(node.pull(reference, tmp_path))
